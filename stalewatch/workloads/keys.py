"""The choice of the key for an operation: uniform, zipfian, or the most recently written."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from random import Random
from typing import Protocol

ZIPF_EXPONENT = 0.99
"""YCSB's constant: with a thousand keys, the first gets 13% of the accesses."""

RECENT_KEYS = 1024

KEYS_PER_OBJECT = 100


def object_keys(keys: Sequence[str], kind: str) -> list[str]:
    """Return the names of lists or counters: KEY.kind for the first hundredth of the keys, and for one at least.

    A few are enough: each list is read in full at the end, and counters are meant to be shared by many sessions.
    """
    return [f"{key}.{kind}" for key in keys[: max(1, len(keys) // KEYS_PER_OBJECT)]]


class KeyChoice(Protocol):
    """A distribution over the keys of one worker, shared by its sessions."""

    def choose(self, random: Random) -> str:
        """Return the next key to read."""
        ...

    def choose_to_write(self, random: Random) -> str:
        """Return the next key to write."""
        ...

    def note_write(self, key: str) -> None:
        """Record that a key is being written."""
        ...


class Uniform:
    """All keys with equal probability."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def choose(self, random: Random) -> str:
        """Return any key."""
        return self._keys[int(random.random() * len(self._keys))]

    choose_to_write = choose

    def note_write(self, key: str) -> None:
        """Do nothing: earlier writes do not matter."""


class Zipfian(Uniform):
    """The n-th key with a weight of 1 / n ** 0.99: a few hot keys and a long tail."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self._weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(len(keys))))

    def choose(self, random: Random) -> str:
        """Return a key, usually one of the first."""
        return self._keys[bisect_left(self._weights, random.random() * self._weights[-1])]

    choose_to_write = choose


class Latest(Uniform):
    """Mostly recently written keys: reads choose the key written n writes ago with a weight of 1 / n ** 0.99.

    Writes choose all keys with equal probability. If they too preferred recently written keys, each write would make
    its key even more likely, and soon all load would go to one key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self._recent: deque[str] = deque(maxlen=RECENT_KEYS)
        self._weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(RECENT_KEYS)))

    def choose(self, random: Random) -> str:
        """Return a key, usually one written recently."""
        recent = self._recent
        if not recent:
            return super().choose(random)
        return recent[bisect_left(self._weights, random.random() * self._weights[len(recent) - 1])]

    choose_to_write = Uniform.choose

    def note_write(self, key: str) -> None:
        """Make the key the most recent one."""
        self._recent.appendleft(key)


DISTRIBUTIONS: dict[str, Callable[[Sequence[str]], KeyChoice]] = {
    "uniform": Uniform,
    "zipfian": Zipfian,
    "latest": Latest,
}
