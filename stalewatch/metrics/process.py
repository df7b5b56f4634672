"""What one process did in a run on one database, as its metrics show it: up to date at every scrape."""

from collections.abc import Callable, Iterator, Sequence

from stalewatch.checkers.verdict import Violation
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.operation import Operation, Read
from stalewatch.metrics import families
from stalewatch.metrics.meter import NS, Meter, Reading

_FRESH = {False: "false", True: "true"}


class OpenConflicts:
    """The keys whose last read returned concurrent versions; a subscriber of the recorder."""

    def __init__(self) -> None:
        self._open: set[str] = set()

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Look at a read."""
        if operation.__class__ is Read and operation.outcome == "ok":
            if operation.siblings:
                self._open.add(operation.key)
            elif operation.key in self._open:
                self._open.discard(operation.key)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count nothing more."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._open)


def reads_by_age(meter: Meter) -> Iterator[Reading]:
    """Yield how fresh reads are by the time since the newest acknowledged write."""
    for bucket in meter.freshness.buckets():
        age = "+Inf" if bucket.to_ns is None else str(bucket.to_ns / NS)
        for fresh, count in ((True, bucket.checked - bucket.stale), (False, bucket.stale)):
            yield meter.reading(families.READS_AFTER_WRITE, count, age, _FRESH[fresh])


class ProcessMetrics:
    """The metrics of one database; `sessions` returns how many there are. Several workloads count together."""

    def __init__(self, run: str, database: str, sessions: Callable[[], int]) -> None:
        self.meter = Meter(run, database)
        self.conflicts = OpenConflicts()
        self.sessions = sessions
        self._collects: list[Callable[[], None]] = []

    def watch(self, run: DatabaseRun) -> None:
        """Count what this run records."""
        run.collector.watchers += (self.meter.add,)
        run.recorder.subscribe(self.conflicts)
        self._collects.append(run.collector.collect)

    def collect(self) -> None:
        """Bring the meter up to date."""
        for collect in self._collects:
            collect()

    def readings(self) -> Iterator[Reading]:
        """Yield every series."""
        self.collect()
        yield from self.meter.readings()
        yield from reads_by_age(self.meter)
        yield self.meter.reading(families.OPEN_CONFLICTS, len(self.conflicts))
        yield self.meter.reading(families.SESSIONS, self.sessions())
