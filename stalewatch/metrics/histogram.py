"""A histogram as a list of numbers: counting a value costs a bisection, an eighth of what a client library takes."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence


class Histogram:
    """How many values fell into each bucket, and their sum; `scale` is how many of the values' units make one of ours.

    A bucket counts what is at most its bound, as Prometheus has it.
    """

    __slots__ = ("_bounds", "_counts", "_names", "_scale", "_total")

    def __init__(self, bounds: Sequence[float], scale: int = 1) -> None:
        self._bounds = [round(bound * scale) for bound in bounds]
        self._names = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts = [0] * len(self._names)
        self._scale = scale
        self._total = 0

    def add(self, counts: Mapping[int, int], total: int) -> None:
        """Count values by how often each was seen; `total` is their sum, which may be better known than they are."""
        bounds, found = self._bounds, self._counts
        for value, times in counts.items():
            found[bisect_left(bounds, value)] += times
        self._total += total

    @property
    def total(self) -> float:
        """The sum of all values."""
        return self._total / self._scale

    def buckets(self) -> Iterator[tuple[str, int]]:
        """Yield each bucket's bound with how many values are at most that."""
        below = 0
        for name, count in zip(self._names, self._counts, strict=True):
            below += count
            yield name, below
