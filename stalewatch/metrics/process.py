"""What one process did in a run on one database, as its metrics show it: up to date at every scrape."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

from stalewatch.checkers.verdict import Violation
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.operation import Operation, Read, Write
from stalewatch.metrics import families
from stalewatch.metrics.meter import NS, STALE_READS, Meter, Reading

STEPS = 64
"""How many of a key's newest acknowledged writes are kept, twice that at most. A read that overlaps more has no age and
is not counted."""

_BOUNDS_NS = [round(bound * NS) for bound in families.AGE_BOUNDS_S]
_AGES = (*(str(bound) for bound in families.AGE_BOUNDS_S), "+Inf")
_FRESH = {False: "false", True: "true"}


class WriteEnds:
    """A key's acknowledged writes that raised its version: when each ended."""

    __slots__ = ("ends", "version")

    def __init__(self) -> None:
        self.version = 0
        self.ends: list[int] = []

    def add(self, version: int, end: int) -> None:
        """Add an acknowledged write, in the order of their ends."""
        if version > self.version:
            self.version = version
            self.ends.append(end)
            if len(self.ends) > 2 * STEPS:
                del self.ends[:-STEPS]


class KeyFreshness:
    """How fresh reads are by the age of the newest write, and which keys have open conflicts.

    A subscriber of the recorder, and the only thing that metrics cost an operation: about a microsecond.
    """

    def __init__(self) -> None:
        self._writes: dict[str, WriteEnds] = {}
        self._reads = {fresh: [0] * len(_AGES) for fresh in _FRESH}
        self._open: set[str] = set()

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Count an operation."""
        if operation.__class__ is Read:
            if operation.outcome == "ok":
                self._read(operation, violations)
        elif operation.__class__ is Write and operation.outcome == "ok":
            self._write(operation)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count nothing more."""

    def _write(self, write: Write) -> None:
        ends = self._writes.get(write.key)
        if ends is None:
            ends = self._writes[write.key] = WriteEnds()
        if write.version is not None and write.end is not None:
            ends.add(write.version, write.end)

    def _read(self, read: Read, violations: Sequence[Violation]) -> None:
        if read.siblings:
            self._open.add(read.key)
        elif read.key in self._open:
            self._open.discard(read.key)
        writes = self._writes.get(read.key)
        if writes is None:
            return
        ends, start = writes.ends, read.start
        newest = ends[-1]
        if newest >= start:  # as in the guarantee: a write that ended strictly before the read
            before = bisect_left(ends, start)
            if not before:
                return
            newest = ends[before - 1]
        fresh = not violations or all(one.guarantee != STALE_READS for one in violations)
        self._reads[fresh][bisect_left(_BOUNDS_NS, start - newest)] += 1

    def readings(self, meter: Meter) -> Iterator[Reading]:
        """Yield every series, with the labels of the meter's run."""
        for fresh, counts in self._reads.items():
            for age, count in zip(_AGES, counts, strict=True):
                yield meter.reading(families.READS_AFTER_WRITE, count, age, _FRESH[fresh])
        yield meter.reading(families.OPEN_CONFLICTS, len(self._open))


class ProcessMetrics:
    """The metrics of one database; `sessions` returns how many there are. Several workloads count together."""

    def __init__(self, run: str, database: str, sessions: Callable[[], int]) -> None:
        self.meter = Meter(run, database)
        self.freshness = KeyFreshness()
        self.sessions = sessions
        self._collects: list[Callable[[], None]] = []

    def watch(self, run: DatabaseRun) -> None:
        """Count what this run records."""
        run.collector.watchers.append(self.meter.add)
        run.recorder.subscribe(self.freshness)
        self._collects.append(run.collector.collect)

    def collect(self) -> None:
        """Bring the meter up to date."""
        for collect in self._collects:
            collect()

    def readings(self) -> Iterator[Reading]:
        """Yield every series."""
        self.collect()
        yield from self.meter.readings()
        yield from self.freshness.readings(self.meter)
        yield self.meter.reading(families.SESSIONS, self.sessions())
