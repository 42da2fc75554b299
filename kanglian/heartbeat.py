"""Whether a child still does its work: an instant that it renews each second, and the processor time that it uses.

A dead process is told by the kernel; one that is stopped, or waits for itself for ever, is found here. One that
computes for long is neither: it is given time.
"""

import asyncio
import mmap
import os
import struct
import time
from pathlib import Path

_EVERY_S = 1.0
SILENT_S = 8.0
"""A child that neither beats nor computes for so long is hung."""
BUSY_S = 300.0
"""A child that computes without a beat for so long is hung as well."""
_COMPUTES_S = 0.2
"""Less processor time than this during the silence is none: a runnable process gets more on a crowded machine."""
_TICKS_A_S = os.sysconf("SC_CLK_TCK")


class Heartbeat:
    """Memory that a child shares with its supervisor."""

    def __init__(self) -> None:
        """Make it before the fork."""
        self._shared = mmap.mmap(-1, 8)
        self._processor_s = 0.0
        self.renew()

    def renew(self) -> None:
        """Say that the child is well now."""
        struct.pack_into("d", self._shared, 0, time.monotonic())

    async def keep(self) -> None:
        """Renew each second as long as the child's event loop turns."""
        while True:
            self.renew()
            await asyncio.sleep(_EVERY_S)

    def hung_for_s(self, pid: int) -> float | None:
        """For how long the child has been hung, None where it is not; the supervisor asks every second or so."""
        (renewed,) = struct.unpack_from("d", self._shared, 0)
        silent_s = time.monotonic() - float(renewed)
        processor_s = _processor_s(pid)
        if silent_s < SILENT_S / 2:
            self._processor_s = processor_s
        computes = processor_s - self._processor_s >= _COMPUTES_S
        return silent_s if silent_s > (BUSY_S if computes else SILENT_S) else None


def _processor_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended: the kernel tells
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_S
