"""Resources that messages bring again, unchanged: their index entries, so that they are neither checked nor read twice.

Each result names its patient and his visit, hundreds of times during a stay. Remembered is what comes a second time,
by its bytes; what comes once (the result itself) is not worth keeping.
"""

from ehr.indexing import IndexEntries

_MOST = 4_096
"""Of each of two generations: what was met since the last change, and what was met before it."""
_MOST_ONCE = 65_536
_LONGEST_BYTES = 8_192


class Repeated:
    """The entries of valid resources, by the bytes of the resource."""

    def __init__(self, most: int = _MOST) -> None:
        """Remember nothing yet, and never more than twice `most`."""
        self._most = most
        self._known: dict[bytes, IndexEntries] = {}
        self._before: dict[bytes, IndexEntries] = {}
        self._once: set[int] = set()

    def entries(self, body: bytes) -> IndexEntries | None:
        """The entries of a resource of these bytes, which is valid; None where it is not remembered."""
        found = self._known.get(body)
        if found is None:
            found = self._before.get(body)
            if found is not None:
                self._keep(body, found)
        return found

    def met(self, body: bytes, entries: IndexEntries) -> None:
        """Remember a valid resource from the second time on."""
        digest = hash(body)
        if digest in self._once:
            if len(body) <= _LONGEST_BYTES:
                self._keep(body, entries)
            return
        if len(self._once) >= _MOST_ONCE:
            self._once.clear()
        self._once.add(digest)

    def _keep(self, body: bytes, entries: IndexEntries) -> None:
        if len(self._known) >= self._most:
            self._before, self._known = self._known, {}
        self._known[body] = entries
