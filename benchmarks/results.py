"""Raw results, kept as they were measured: one JSON file a run in `benchmarks/results/`, never changed afterwards."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"


def keep(benchmark: str, figures: dict[str, Any]) -> Path:
    """Write the figures of a run with when, on what and of which version they were measured."""
    now = datetime.now(UTC)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%dT%H%M%S}-{benchmark}.json"
    run = {"benchmark": benchmark, "at": now.isoformat(timespec="seconds"), "machine": machine(), **_version()}
    path.write_text(json.dumps(run | figures, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """What the run was measured on, and how busy it was with other things."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = platform.processor()
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.system(),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _version() -> dict[str, Any]:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(FOLDER.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return {"commit": git("rev-parse", "--short", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}


def kept(benchmark: str) -> list[dict[str, Any]]:
    """The runs of a benchmark, oldest first."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(FOLDER.glob(f"*-{benchmark}.json"))]
