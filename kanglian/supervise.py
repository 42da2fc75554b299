"""The parent of the platform's processes: starts them, brings a dead one back within a second, ends them all.

A hung one is ended and brought back as well, and a stopped process of PostgreSQL is continued.
Children are forked from a parent that holds no threads and no event loop, stay in its process group and are killed by
the kernel when it dies; PostgreSQL has its own session and is told to shut down then.
"""

import contextlib
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ehr.errors import KanglianError
from kanglian.embedded import EmbeddedError, EmbeddedPostgres, die_with_parent
from kanglian.embedded_processes import continue_stopped
from kanglian.heartbeat import Heartbeat

_QUICK_DEATH_S = 5.0
_QUICK_DEATHS_LIMIT = 8
_LONGEST_PAUSE_S = 8.0
_POSTGRES_PAUSE_S = 2.0
_TEND_S = 1.0
"""Between two looks at the database's disk and at the children's heartbeats."""
_LOOK_AT_POSTGRES_S = 2.0
_OWN_STOP_S = 5.0
"""A supervisor that comes so late was stopped itself, as the whole group is by Ctrl-Z."""
_PATIENCE_S = 12.0
"""Between asking the children to end and killing them."""

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class SupervisionError(KanglianError):
    """The platform cannot stay up: a process keeps dying before the start was complete."""


@dataclass
class Child:
    """One process to keep alive, or, with `once`, to run to its end."""

    name: str
    run: Callable[[], None]
    """Called in the child; returning is an end, an exception a failure."""
    once: bool = False
    heartbeat: Heartbeat | None = None
    """Renewed by what runs; without one nobody sees whether it hangs."""
    done: bool = False
    pid: int = 0
    descriptor: int = -1
    started: float = 0.0
    quick_deaths: int = 0
    due: float = field(default=0.0)
    """Monotonic instant of the next start, while it is not running."""


class Supervisor:
    """Runs children beside an embedded PostgreSQL (or none) until a signal or a failure ends them."""

    def __init__(
        self,
        children: list[Child],
        postgres: EmbeddedPostgres | None,
        *,
        say: Callable[[str], None],
        in_child: Callable[[], None] = lambda: None,
        changed: Callable[[dict[str, int]], None] = lambda _: None,
        complete: Callable[[], None] = lambda: None,
        ending: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the children and what to call.

        Args:
            children: what to run.
            postgres: already started; restarted when it dies, stopped last.
            say: takes a line of news.
            in_child: called first in each child.
            changed: takes the process ids by name whenever they change.
            complete: called when every `once` child has ended well.
            ending: called when the end begins.
        """
        self._children = children
        self._postgres = postgres
        self._say = say
        self._in_child = in_child
        self._changed = changed
        self._complete = complete
        self._ending = ending
        self._signals = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._completed = False
        self._postgres_due = 0.0
        self._tended = self._looked_at_postgres = time.monotonic()
        self._stopped: frozenset[int] = frozenset()

    def run(self) -> int:
        """Supervise until SIGINT or SIGTERM (returns 0) or until it cannot go on (raises)."""
        for number in _ENDS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup has its way
                signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        watch = self._postgres.watch() if self._postgres else -1
        try:
            while not self._signals:
                self._start_due()
                ended = self._wait(watch)
                self._tend()
                if watch in ended:
                    os.close(watch)
                    watch = -1
                if self._postgres and watch < 0 and time.monotonic() >= self._postgres_due:
                    watch = self._restart_postgres(self._postgres)
                for child in [child for child in self._children if child.descriptor in ended]:
                    self._bury(child)
                if not self._completed and all(child.done for child in self._children if child.once):
                    self._completed = True
                    self._complete()
        finally:
            self._end_all()
            signal.set_wakeup_fd(-1)
        return 0

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _wait(self, watch: int) -> list[int]:
        due = [child.due for child in self._children if not child.pid and not child.done]
        timeout_s = min([_TEND_S, *(max(0.0, instant - time.monotonic()) for instant in due)])
        descriptors = [child.descriptor for child in self._children if child.pid] + [self._wake_read]
        if watch >= 0:
            descriptors.append(watch)
        ended = select.select(descriptors, [], [], timeout_s)[0]
        if self._wake_read in ended:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        return ended

    # --- starting

    def _start_due(self) -> None:
        now = time.monotonic()
        due = [child for child in self._children if not child.pid and not child.done and child.due <= now]
        for child in due:
            self._start(child)
        if due:
            self._tell_changed()

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        ask = die_with_parent(signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)  # until the child has put its own handlers in place of ours
        pid = os.fork()
        if pid == 0:
            self._be(child, ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
        child.pid = pid
        child.descriptor = os.pidfd_open(pid)
        child.started = time.monotonic()
        if child.heartbeat is not None:
            child.heartbeat.renew()

    def _be(self, child: Child, ask: Callable[[], None]) -> None:
        """In the fresh process: be the child, and never return."""
        code = 1
        try:
            ask()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the supervisor tells us
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDS)
            for other in self._children:
                if other.descriptor >= 0:
                    os.close(other.descriptor)
            _name_process(f"kl-{child.name}")
            self._in_child()
            child.run()
            code = 0
        except KanglianError as error:
            print(f"{child.name}: {error}", file=sys.stderr)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001 - the process ends here, with its reason told
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    # --- deaths

    def _bury(self, child: Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        os.close(child.descriptor)
        lived_s = time.monotonic() - child.started
        child.pid, child.descriptor = 0, -1
        code = os.waitstatus_to_exitcode(status)
        if child.once and code == 0:
            child.done = True
            self._tell_changed()
            return
        if self._signals:
            return
        child.quick_deaths = child.quick_deaths + 1 if lived_s < _QUICK_DEATH_S else 0
        if not self._completed and (child.once or child.quick_deaths >= _QUICK_DEATHS_LIMIT):
            raise SupervisionError(f"{child.name} {_how(code)}; the start was not complete, see the lines above")
        pause_s = 0.0 if child.quick_deaths <= 1 else min(0.1 * 2**child.quick_deaths, _LONGEST_PAUSE_S)
        child.due = time.monotonic() + pause_s
        self._say(f"{child.name} {_how(code)}, starting it again" + (f" in {pause_s:.1f} s" if pause_s > 1 else ""))
        self._tell_changed()

    def _tend(self) -> None:
        """What nobody is woken for: a full disk, hung children, stopped processes of PostgreSQL."""
        now = time.monotonic()
        late, self._tended = now - self._tended > _OWN_STOP_S, now
        for child in self._children:
            if not child.pid or child.heartbeat is None:
                continue
            if late:
                child.heartbeat.renew()
            elif (hung_s := child.heartbeat.hung_for_s(child.pid)) is not None:
                self._say(f"{child.name} (process {child.pid}) has hung for {hung_s:.0f} s, ending it")
                child.heartbeat.renew()
                _signal(child.pid, signal.SIGKILL)
        if self._postgres is None:
            return
        self._postgres.tend()
        if now - self._looked_at_postgres > _LOOK_AT_POSTGRES_S:
            self._looked_at_postgres = now
            continued, self._stopped = continue_stopped(self._postgres.place.cluster, self._stopped)
            for pid in continued:
                self._say(f"process {pid} of PostgreSQL was stopped, it was told to go on")

    def _restart_postgres(self, postgres: EmbeddedPostgres) -> int:
        """Bring the database back: what to watch, or -1 where it cannot start now (a full disk) and is tried again."""
        self._say("PostgreSQL ended, starting it again")
        try:
            postgres.start()
        except (EmbeddedError, OSError) as error:
            if not self._completed:
                raise
            self._say(f"{error}; trying again in {_POSTGRES_PAUSE_S:.0f} s")
            self._postgres_due = time.monotonic() + _POSTGRES_PAUSE_S
            return -1
        self._say(f"PostgreSQL is back (process {postgres.pid})")
        self._tell_changed()
        return postgres.watch()

    def _tell_changed(self) -> None:
        pids = {child.name: child.pid for child in self._children if child.pid}
        if self._postgres and self._postgres.pid:
            pids["postgres"] = self._postgres.pid
        self._changed(pids)

    # --- the end

    def _end_all(self) -> None:
        self._ending()
        asked = self._signals
        running = [child for child in self._children if child.pid]
        for child in running:
            _signal(child.pid, signal.SIGTERM)
            _signal(child.pid, signal.SIGCONT)  # one that is stopped would not hear it
        deadline = time.monotonic() + _PATIENCE_S
        while running:
            running = [child for child in running if os.waitpid(child.pid, os.WNOHANG)[0] == 0]
            if time.monotonic() > deadline or self._signals > max(asked, 1):
                for child in running:
                    _signal(child.pid, signal.SIGKILL)
            if running:
                select.select([child.descriptor for child in running], [], [], 0.1)
        if self._postgres:
            self._postgres.stop()


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _how(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}" if code else "ended"


def _name_process(name: str) -> None:
    """Let ps and top show what a child does (Linux keeps 15 characters)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
