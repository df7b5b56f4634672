"""Counts and latencies of operations."""

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Distribution, Violation
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Append, Draw, Operation, Read, Write

BEAT_S = 0.05
BEAT_NS = 50_000_000
LATE_NS = 500_000_000
"""How late a heartbeat must be to count as a stall; a busy but healthy process stays below this."""

RECENT = 16
"""How many stalls are remembered for operations that are yet to be judged: more cannot happen while these wait."""


class Stall(NamedTuple):
    """A time in which nothing in this process ran, in nanoseconds of its clock."""

    start: int
    end: int


class StallDetector:
    """Notices when the whole process stalls: a long computation, a garbage collection, a stopped process.

    An operation that was in flight then ends late because its answer lay unread. That latency is ours, not the
    database's, so it is left out. Verdicts and staleness need no such care: a read's start is taken before its request
    is sent and a write's end after its answer was read, and a late end only lowers floors and shortens staleness. So
    our own delay never makes a read count as stale, or as staler.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat = clock.now()
        self._stalled_until = 0
        self._recent: deque[Stall] = deque(maxlen=RECENT)
        self._over = threading.Event()
        self._latest_ns = 0
        self.stalls: list[Stall] = []

    def start(self) -> None:
        """Start the heartbeat in its own thread (a greenlet under gevent)."""
        self._beat = self._clock.now()
        threading.Thread(target=self._run, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._over.set()

    def drain(self) -> list[Stall]:
        """Return the stalls since the last call."""
        drained, self.stalls = self.stalls, []
        return drained

    def lag_ns(self) -> int:
        """Return how late the latest heartbeat since the last call was."""
        latest_ns, self._latest_ns = self._latest_ns, 0
        return latest_ns

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether an operation that ended recently, before the last `look`, was in flight during a stall."""
        return start < self._stalled_until and any(start < one.end and end > one.start for one in self._recent)

    def look(self) -> None:
        """Note a stall if the next heartbeat is overdue: sessions may wake up before the heartbeat does."""
        now = self._clock.now()
        if now - self._beat > LATE_NS:
            self.stalls.append(Stall(self._beat, now))
            self._recent.append(Stall(self._beat, now))
            self._beat = self._stalled_until = now

    def _run(self) -> None:
        asleep = self._clock.now()
        while not self._over.wait(BEAT_S):
            self.look()
            self._latest_ns = max(self._latest_ns, self._clock.now() - asleep - BEAT_NS)
            self._beat = asleep = self._clock.now()


class NoStalls:
    """The detector of a process whose stalls do not matter, as in simulated time."""

    def stop(self) -> None:
        """Do nothing."""

    def lag_ns(self) -> int:
        """Return 0."""
        return 0

    def look(self) -> None:
        """Do nothing."""

    def overlaps(self, start: int, end: int) -> bool:
        """Return False."""
        return False


Stalls = StallDetector | NoStalls
NO_STALLS = NoStalls()


KINDS = ("read", "write")

KIND: dict[type, str] = {Read: "read", Write: "write", Append: "write", Draw: "write"}
"""Appends and draws change the database, as writes do. Faults and final reads are of no kind."""

ACCUMULATED = (
    "outcomes",
    "errors",
    "service",
    "response",
    "stalled",
    "last_ok",
    "seconds",
    "strategy",
    "fallbacks",
    "failed_fallbacks",
)

SOURCES = ("first", "fallback")
"""Where a read strategy got what it showed: from where it asked first, or from its stronger source."""


class Statistics:
    """Outcomes, errors and latencies (of ok operations) by kind: ``read``, or ``write`` for writes, appends and draws.

    A subscriber of the recorder. Statistics of several workers, or of several periods, add up.
    """

    def __init__(self, stalls: Stalls = NO_STALLS) -> None:
        self.counting_from_ns = 0
        """Operations that started earlier (warm-up) are judged but not counted."""
        self._stalls = stalls
        self._fell_back: dict[int, bool] = {}
        self._reset()

    def _reset(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
        self.errors: Counter[tuple[str, str, str]] = Counter()
        """Errors by kind, outcome and name."""
        self.service = {kind: Distribution() for kind in KINDS}
        """From request to answer."""
        self.response = {kind: Distribution() for kind in KINDS}
        """From when the operation was due, to the answer; empty in a closed loop."""
        self.stalled = 0
        """Ok operations whose latencies are left out: this process stalled while they were in flight."""
        self.last_ok: dict[str, int] = {}
        """When the newest ok operation of each kind ended."""
        self.seconds: dict[int, Counter[str]] = {}
        """By second of the epoch: outcomes by kind, and violations by guarantee."""
        self.strategy = {source: Distribution() for source in SOURCES}
        """Service times of ok reads with a read strategy, by the source of the answer."""
        self.fallbacks = 0
        """Ok reads that fell back."""
        self.failed_fallbacks = 0
        """Reads that fell back and were not ok."""

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Count an operation and what it violated; faults and final reads are not counted."""
        fell_back = self._fell_back.pop(id(operation), None) if self._fell_back else None
        kind = KIND.get(operation.__class__)
        if kind is None or operation.start < self.counting_from_ns:
            return
        outcome, end = operation.outcome, operation.end  # type: ignore[union-attr] # no fault
        self.outcomes[kind][outcome] += 1
        second = self.second((end or operation.start) // 1_000_000_000)
        second[f"{kind}_{outcome}"] += 1
        for violation in violations:
            second[violation.guarantee] += 1
        if fell_back:
            self.fallbacks += outcome == "ok"
            self.failed_fallbacks += outcome != "ok"
        if outcome != "ok":
            self.errors[kind, outcome, operation.error or ""] += 1  # type: ignore[union-attr] # no fault
        elif end is not None:
            self.last_ok[kind] = end  # operations come in the order of their end
            if self._stalls.overlaps(operation.start, end):
                self.stalled += 1
                return
            self.service[kind].add(end - operation.start)
            if fell_back is not None:
                self.strategy["fallback" if fell_back else "first"].add(end - operation.start)
            due = operation.due  # type: ignore[union-attr] # no fault
            if due is not None and not self._stalls.overlaps(due, end):  # else it may have waited for this process
                self.response[kind].add(end - due)

    def note_source(self, read: Read, *, fell_back: bool) -> None:
        """Note the source of a read with a read strategy, before `on_operation` counts it."""
        self._fell_back[id(read)] = fell_back  # the recorder holds the read until then

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count nothing: what only the end can decide happened at no particular second."""

    def drain(self) -> "Statistics":
        """Return the counts since the last call."""
        drained = Statistics()
        vars(drained).update({name: value for name, value in vars(self).items() if name in ACCUMULATED})
        self._reset()
        return drained

    def second(self, number: int) -> Counter[str]:
        """Return the counts of a second of the epoch."""
        second = self.seconds.get(number)
        if second is None:
            second = self.seconds[number] = Counter()
        return second

    def merge(self, other: "Statistics") -> None:
        """Add the counts of another worker or a later period."""
        for kind in KINDS:
            self.outcomes[kind] += other.outcomes[kind]
            self.service[kind].merge(other.service[kind])
            self.response[kind].merge(other.response[kind])
        self.errors += other.errors
        self.stalled += other.stalled
        for source, times in other.strategy.items():
            self.strategy[source].merge(times)
        self.fallbacks += other.fallbacks
        self.failed_fallbacks += other.failed_fallbacks
        for kind, end in other.last_ok.items():
            self.last_ok[kind] = max(end, self.last_ok.get(kind, 0))
        for number, counts in other.seconds.items():
            self.second(number).update(counts)

    def figures(self) -> dict[str, Any]:
        """Return the fields of a run's JSON result about operations, errors and time."""
        return {
            "operations": {
                kind: {one: counts[one] for one in ("ok", "fail", "unknown")} for kind, counts in self.outcomes.items()
            },
            "errors": self.error_rows(),
            "stalled_operations": self.stalled,
            "timeline": self.timeline(),
        }

    def latencies(self) -> Mapping[str, tuple[Distribution, Distribution]]:
        """Return service and response times by kind of operation."""
        return {kind: (self.service[kind], self.response[kind]) for kind in KINDS}

    def error_rows(self) -> list[dict[str, object]]:
        """Return every error with its count, the most frequent first."""
        return [
            {"operation": kind, "outcome": outcome, "error": error, "count": count}
            for (kind, outcome, error), count in self.errors.most_common()
        ]

    def timeline(self) -> list[dict[str, int]]:
        """Return one row a second since the first operation: outcomes by kind, and violations by guarantee."""
        if not self.seconds:
            return []
        first, last = min(self.seconds), max(self.seconds)
        return [{"second": number - first, **self.seconds.get(number, {})} for number in range(first, last + 1)]
