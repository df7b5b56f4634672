"""Which of two leaders a session's next operation goes to."""

import zlib
from collections.abc import Callable, Mapping
from random import Random

A, B = 0, 1


def home(key: str) -> int:
    """Return the leader that a key belongs to: half of the keys each, and the same for every session."""
    return zlib.crc32(key.encode()) & 1


class Routing:
    """One session's routes."""

    def __init__(self, write_to: str, read_from: str, random: Random) -> None:
        self._random = random.random
        self._last = A
        self._write = _WRITES[write_to]
        self._read = _READS[read_from]
        self._spread = write_to == "both"

    def to_write(self, key: str) -> int:
        """Return the leader that takes a write of the key."""
        self._last = self._write(self, key)
        return self._last

    def to_read(self, key: str) -> int:
        """Return the leader that answers a read of the key."""
        return self._read(self, key)

    def _either(self) -> int:
        return A if self._random() < 0.5 else B  # noqa: PLR2004 # half and half

    def _same(self, key: str) -> int:
        # By chance there is no leader of a key: what comes closest is the one that last took a write of ours.
        return self._last if self._spread else self._write(self, key)


_Route = Callable[[Routing, str], int]

_WRITES: Mapping[str, _Route] = {
    "a": lambda _routing, _key: A,
    "b": lambda _routing, _key: B,
    "both": lambda routing, _key: routing._either(),  # noqa: SLF001 # its own table
    "home": lambda _routing, key: home(key),
}
_READS: Mapping[str, _Route] = {
    "a": lambda _routing, _key: A,
    "b": lambda _routing, _key: B,
    "same": lambda routing, key: routing._same(key),  # noqa: SLF001 # its own table
    "other": lambda routing, key: 1 - routing._same(key),  # noqa: SLF001 # its own table
}
