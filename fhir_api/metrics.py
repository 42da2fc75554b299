"""Counts and durations of this process in the text format of Prometheus.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import os
import time
from collections.abc import Callable, Sequence

from ehr.store.inbox import Backlog

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by interaction and status, and their durations; values never name a person or a resource."""

    def __init__(self) -> None:
        """Start at zero."""
        self._requests: dict[tuple[str, int], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}
        self._gauges: dict[str, Callable[[], float]] = {}
        self._started = time.time()

    def count(self, interaction: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (interaction, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        buckets = self._buckets.get(interaction)
        if buckets is None:
            buckets = self._buckets[interaction] = [0] * (len(_BOUNDS_S) + 1)
            self._seconds[interaction] = 0.0
        self._seconds[interaction] += seconds
        for place, bound in enumerate(_BOUNDS_S):
            if seconds <= bound:
                buckets[place] += 1
                return
        buckets[-1] += 1

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Show a value that is read when asked for; `name` is a metric name without the prefix `kanglian_`."""
        self._gauges[name] = read

    def text(self) -> str:
        """The exposition; each process answers for itself, told apart by the label `process`."""
        process = f'process="{os.getpid()}"'
        lines = ["# TYPE kanglian_http_requests_total counter"]
        for (interaction, status), number in sorted(self._requests.items()):
            labels = f'interaction="{interaction}",status="{status}",{process}'
            lines.append(f"kanglian_http_requests_total{{{labels}}} {number}")
        lines.append("# TYPE kanglian_http_request_seconds histogram")
        for interaction, buckets in sorted(self._buckets.items()):
            labels = f'interaction="{interaction}",{process}'
            running = 0
            for bound, number in zip((*map(str, _BOUNDS_S), "+Inf"), buckets, strict=True):
                running += number
                lines.append(f'kanglian_http_request_seconds_bucket{{{labels},le="{bound}"}} {running}')
            lines.append(f"kanglian_http_request_seconds_sum{{{labels}}} {self._seconds[interaction]:.6f}")
            lines.append(f"kanglian_http_request_seconds_count{{{labels}}} {running}")
        lines.append("# TYPE kanglian_process_start_time_seconds gauge")
        lines.append(f"kanglian_process_start_time_seconds{{{process}}} {self._started:.3f}")
        for name, read in sorted(self._gauges.items()):
            lines.append(f"# TYPE kanglian_{name} gauge")
            lines.append(f"kanglian_{name}{{{process}}} {read():g}")
        return "\n".join(lines) + "\n"


def backlog_text(backlogs: Sequence[Backlog]) -> str:
    """The exposition of what waits for conversion, the same from every process; feeds without backlog are left out."""
    lines = []
    for name, kind in (("waiting", "inbox_waiting_messages"), ("oldest_s", "inbox_oldest_waiting_seconds")):
        lines.append(f"# TYPE kanglian_{kind} gauge")
        for backlog in backlogs:
            feed = backlog.feed.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            lines.append(f'kanglian_{kind}{{feed="{feed}"}} {getattr(backlog, name):g}')
    return "\n".join(lines) + "\n"
