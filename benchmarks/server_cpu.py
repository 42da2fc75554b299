"""CPU seconds of a server and of all PostgreSQL processes behind it, ended ones included while their parent lives."""

import contextlib

import psutil


def _tree(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class ProcessTrees:
    """Reads the CPU seconds (user + system) of some process trees."""

    def __init__(self, *pids: int) -> None:
        """Take the roots: the supervisor and the postmaster."""
        self._pids = pids

    def _processes(self) -> list[psutil.Process]:
        """Each process once: the supervisor's tree may hold the postmaster's."""
        return list({process.pid: process for pid in self._pids for process in _tree(pid)}.values())

    def cpu_s(self) -> float:
        """User and system seconds so far of all processes of the trees, and of the children they have reaped."""
        total = 0.0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_bytes(self) -> int:
        """Proportional memory of the trees, shared pages counted once."""
        total = 0
        for process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total
