"""The counts of one run as metrics, which only rise.

They are added up from the same totals as verdict and statistics. An operation costs nothing here: totals come about
once a second, and hold counts by distinct value.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from stalewatch.checkers.verdict import FRESH_PERCENTAGES, Distribution, Freshness
from stalewatch.metrics import families
from stalewatch.metrics.families import Family
from stalewatch.recording.statistics import Statistics
from stalewatch.recording.totals import Totals

NS = 1_000_000_000
OUTCOMES = ("ok", "fail", "unknown")
STALE_READS, LOST_WRITES = "stale_reads", "lost_writes"


class Histogram:
    """Counts of values by bucket, and their sum; `scale` is the number of value units per bucket unit.

    A bucket counts the values up to and including its bound, as in Prometheus. Counting a value is one bisection, an
    eighth of the cost in a client library.
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


class Reading(NamedTuple):
    """One series of a family: the values of its labels, and its number or histogram."""

    family: Family
    labels: tuple[str, ...]
    value: float | Histogram


class Meter:
    """Adds up what is found and counted in one run on one database."""

    def __init__(self, run: str, database: str) -> None:
        self.labels = (run, database)
        self._counts: defaultdict[tuple[Family, tuple[str, ...]], int] = defaultdict(int)
        self._histograms: dict[tuple[Family, tuple[str, ...]], Histogram] = {}
        self._last_ok: dict[str, int] = {}
        self._lost = 0
        self.freshness = Freshness()
        """The freshness of the verdict: reads by the time since the newest acknowledged write of their key."""

    def add(self, totals: Totals) -> None:
        """Add what was found and counted; nothing may be added twice."""
        verdicts, statistics = totals.findings.verdicts, totals.statistics
        for guarantee, verdict in verdicts.items():
            self._count(families.CHECKED, verdict.checked, guarantee)
            self._count(families.VIOLATIONS, verdict.violated, guarantee)
        if (stale := verdicts.get(STALE_READS)) is not None:
            self._time(families.STALENESS, stale.staleness)
            self.freshness.merge(stale.freshness)
            versions = sum(number * times for number, times in stale.behind.items())
            self._histogram(families.VERSIONS_BEHIND, 1).add(stale.behind, versions)
        if (lost := verdicts.get(LOST_WRITES)) is not None:
            self._lost += lost.violated
        self._add_statistics(statistics)

    def _add_statistics(self, statistics: Statistics) -> None:
        for kind, outcomes in statistics.outcomes.items():
            for outcome in OUTCOMES:
                self._count(families.OPERATIONS, outcomes.get(outcome, 0), kind, outcome)
            self._time(families.SERVICE_TIME, statistics.service[kind], kind)
            self._time(families.RESPONSE_TIME, statistics.response[kind], kind)
        for name, times in statistics.errors.items():
            self._count(families.ERRORS, times, *name)
        self._count(families.STALLED_OPERATIONS, statistics.stalled)
        for kind, end in statistics.last_ok.items():
            self._last_ok[kind] = max(end, self._last_ok.get(kind, 0))

    def _count(self, family: Family, times: int, *labels: str) -> None:
        self._counts[family, labels] += times

    def _time(self, family: Family, durations: Distribution, *labels: str) -> None:
        counts, _, total_ns, _ = durations.state()
        self._histogram(family, NS, *labels).add(counts, total_ns)

    def _histogram(self, family: Family, scale: int, *labels: str) -> Histogram:
        histogram = self._histograms.get((family, labels))
        if histogram is None:
            histogram = self._histograms[family, labels] = Histogram(family.bounds, scale)
        return histogram

    @property
    def lost_writes(self) -> int:
        """How many acknowledged writes are known to be lost."""
        return self._lost

    def readings(self) -> Iterator[Reading]:
        """Yield every series of this run."""
        for numbers in (self._counts, self._histograms):
            for (family, labels), value in numbers.items():
                yield self.reading(family, value, *labels)
        for kind, end in self._last_ok.items():
            yield self.reading(families.LAST_OK, end / NS, kind)
        for percentage, stale_share in FRESH_PERCENTAGES.items():
            if (after_ns := self.freshness.fresh_after_ns(stale_share)) is not None:
                yield self.reading(families.FRESH_AFTER, after_ns / NS, percentage)

    def reading(self, family: Family, value: float | Histogram, *labels: str) -> Reading:
        """Return a series of this run that is counted elsewhere."""
        return Reading(family, (*self.labels, *labels), value)
