"""Durations counted by value in bounded memory: exact for small sets, accurate to a thousandth for large ones."""

import math
from collections import Counter
from typing import Self

EXACT_VALUES = 1 << 16
SIGNIFICANT_BITS = 11


class Distribution:
    """Counts of durations in nanoseconds.

    Up to 65,536 different values are kept as they are. Beyond that, values are rounded down to eleven significant bits
    (0.05 %), which leaves a few ten thousand at most. The sum, hence the mean, and the maximum stay exact.
    """

    __slots__ = ("_counts", "_exact", "count", "max_ns", "total_ns")

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._exact = True
        self.count = 0
        self.total_ns = 0
        self.max_ns = 0

    def add(self, duration_ns: int) -> None:
        """Add a duration."""
        counts, value = self._counts, duration_ns if self._exact else _rounded(duration_ns)
        counts[value] = counts.get(value, 0) + 1  # most values are new, and a Counter is slow for those
        self.count += 1
        self.total_ns += duration_ns
        self.max_ns = max(self.max_ns, duration_ns)
        if self._exact and len(counts) > EXACT_VALUES:
            self._round()

    def _round(self) -> None:
        self._exact = False
        counts, self._counts = self._counts, Counter()
        for duration_ns, times in counts.items():
            self._counts[_rounded(duration_ns)] += times

    def merge(self, other: Self) -> None:
        """Add the counts of another distribution."""
        if not other._exact and self._exact:
            self._round()
        counts, exact = self._counts, self._exact
        for duration_ns, times in other._counts.items():
            counts[duration_ns if exact else _rounded(duration_ns)] += times
        self.count += other.count
        self.total_ns += other.total_ns
        self.max_ns = max(self.max_ns, other.max_ns)
        if self._exact and len(counts) > EXACT_VALUES:
            self._round()

    def state(self) -> tuple[dict[int, int], bool, int, int]:
        """Return everything needed to restore it: the counts, whether they are exact, the sum and the maximum."""
        return self._counts, self._exact, self.total_ns, self.max_ns

    @classmethod
    def restored(cls, counts: dict[int, int], exact: bool, total_ns: int, max_ns: int) -> Self:  # noqa: FBT001 # a state
        """Return the distribution with that state."""
        distribution = cls()
        distribution._counts = Counter(counts)
        distribution._exact = exact
        distribution.count = sum(counts.values())
        distribution.total_ns, distribution.max_ns = total_ns, max_ns
        return distribution

    def quantiles_ns(self, *shares: float) -> list[int]:
        """Return for each share in (0, 1] the smallest duration that at least this share does not exceed."""
        found: dict[float, int] = {}
        ranks = sorted((math.ceil(share * self.count), share) for share in shares)
        seen, values = 0, iter(sorted(self._counts.items()))
        duration_ns = 0
        for rank, share in ranks:
            while seen < rank:
                duration_ns, times = next(values)
                seen += times
            found[share] = duration_ns
        return [found[share] for share in shares]

    @property
    def mean_ns(self) -> float:
        """Return the mean, or 0 if nothing was counted."""
        return self.total_ns / self.count if self.count else 0.0


def _rounded(duration_ns: int) -> int:
    shift = max(0, duration_ns.bit_length() - SIGNIFICANT_BITS)
    return duration_ns >> shift << shift
