"""The numbers of one run: counts that only rise, added up from what was found and counted bit by bit.

It is given the same pieces that verdict and statistics are made of, so its totals are theirs. A session's operation
costs nothing here: a piece holds what happened in about a second, by distinct value.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from stalewatch.metrics import families
from stalewatch.metrics.families import Family
from stalewatch.metrics.histogram import Histogram

NS = 1_000_000_000
OUTCOMES = ("ok", "fail", "unknown")
STALE_READS, LOST_WRITES = "stale_reads", "lost_writes"


class Durations(Protocol):
    """How often each duration was seen."""

    def state(self) -> tuple[Mapping[int, int], bool, int, int]:
        """Return the counts by nanoseconds, whether those are exact, the sum, and the maximum."""
        ...


class Found(Protocol):
    """What was found of a guarantee."""

    @property
    def checked(self) -> int:
        """How many operations were checked."""
        ...

    @property
    def violated(self) -> int:
        """How many of them broke it."""
        ...

    @property
    def staleness(self) -> Durations:
        """How stale those were."""
        ...

    @property
    def behind(self) -> Mapping[int, int]:
        """How often they were so many versions behind."""
        ...


class Counted(Protocol):
    """What was counted of operations."""

    @property
    def outcomes(self) -> Mapping[str, Mapping[str, int]]:
        """By kind and outcome."""
        ...

    @property
    def errors(self) -> Mapping[tuple[str, str, str], int]:
        """By kind, outcome and error."""
        ...

    @property
    def service(self) -> Mapping[str, Durations]:
        """Service times by kind."""
        ...

    @property
    def response(self) -> Mapping[str, Durations]:
        """Response times by kind."""
        ...

    @property
    def stalled(self) -> int:
        """Operations without a time."""
        ...

    @property
    def last_ok(self) -> Mapping[str, int]:
        """When the newest ok operation of each kind ended, in nanoseconds since the epoch."""
        ...


class Reading(NamedTuple):
    """One series of a family: the values of its labels, and its number or histogram."""

    family: Family
    labels: tuple[str, ...]
    value: float | Histogram


class Meter:
    """Adds up what is found and counted of one run on one database."""

    def __init__(self, run: str, database: str) -> None:
        self.labels = (run, database)
        self._counts: defaultdict[tuple[Family, tuple[str, ...]], int] = defaultdict(int)
        self._histograms: dict[tuple[Family, tuple[str, ...]], Histogram] = {}
        self._last_ok: dict[str, int] = {}
        self._lost = 0

    def add(self, verdicts: Mapping[str, Found], counted: Counted) -> None:
        """Add a piece; nothing that was found or counted may be in two of them."""
        for guarantee, found in verdicts.items():
            self._count(families.CHECKED, found.checked, guarantee)
            self._count(families.VIOLATIONS, found.violated, guarantee)
        if (stale := verdicts.get(STALE_READS)) is not None:
            self._time(families.STALENESS, stale.staleness)
            behind = stale.behind
            versions = sum(number * times for number, times in behind.items())
            self._histogram(families.VERSIONS_BEHIND, 1).add(behind, versions)
        if (lost := verdicts.get(LOST_WRITES)) is not None:
            self._lost += lost.violated
        self._add_counted(counted)

    def _add_counted(self, counted: Counted) -> None:
        for kind, outcomes in counted.outcomes.items():
            for outcome in OUTCOMES:
                self._count(families.OPERATIONS, outcomes.get(outcome, 0), kind, outcome)
            self._time(families.SERVICE_TIME, counted.service[kind], kind)
            self._time(families.RESPONSE_TIME, counted.response[kind], kind)
        for name, times in counted.errors.items():
            self._count(families.ERRORS, times, *name)
        self._count(families.STALLED_OPERATIONS, counted.stalled)
        for kind, end in counted.last_ok.items():
            self._last_ok[kind] = max(end, self._last_ok.get(kind, 0))

    def _count(self, family: Family, times: int, *labels: str) -> None:
        self._counts[family, labels] += times

    def _time(self, family: Family, durations: Durations, *labels: str) -> None:
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

    def reading(self, family: Family, value: float | Histogram, *labels: str) -> Reading:
        """Return a series of this run that is counted elsewhere."""
        return Reading(family, (*self.labels, *labels), value)
