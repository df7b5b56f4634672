"""The messages between master and workers: their names, a worker's reports, and what clock messages tell it.

Locust's own messages and these share one namespace.
"""

from typing import Annotated, Any, NamedTuple, TypedDict, get_args

import msgspec

import stalewatch
from stalewatch.checkers.verdict import Distribution, Findings, Freshness, Verdict, Violation
from stalewatch.history.operation import Outcome
from stalewatch.recording.attempts import AttemptLog, PackedAttempts
from stalewatch.recording.statistics import KINDS, SOURCES, Stall, Statistics
from stalewatch.recording.totals import Totals

FORMAT_NUMBER = 2
"""The number of the message format; raise it with every change to what the messages contain."""

HELLO = "stalewatch-hello"
"""Worker to master, before all others: the version and message format of the worker, a `Hello`."""

REPORT = "stalewatch-report"
"""Worker to master, every second and at its end: an encoded `WorkerReport`."""

CLOCK = "stalewatch-clock"
"""Worker to master and back: when the request was sent, and the master's time."""

DRAIN = "stalewatch-drain"
"""Master to worker: end your sessions, make the final reads, and send your last report of this run."""

IDLE = "stalewatch-idle"
"""Worker to master: there is nothing to drain for this run, an `Idle`."""

USERS = "stalewatch-users"
"""Master to worker: the target number of users over all workers who share `--rate`."""

TURN, TURN_OVER = "stalewatch-turn", "stalewatch-turn-over"
"""Opening a database. TURN asks the master for permission, and grants it; TURN_OVER tells the master how it went."""

REFUSED = "stalewatch-refused"
"""Master to worker: your reports belong to another run than mine, or you have another version; a `Refusal`."""

RUN, TARGET, WORKERS = "stalewatch_run", "stalewatch_users", "stalewatch_workers"
"""The run's name, the target number of users who share `--rate`, and how many workers there were at the start, among
Locust's parsed options: every spawn message contains those, so that workers that join late get them too."""

MAX_DRIFT = 1000e-6
"""How much two clocks may drift apart, in seconds per second: NTP slews each by at most half, one up, one down."""

Count = Annotated[int, msgspec.Meta(ge=0)]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
KindName = Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(KINDS)})\Z")]
OutcomeName = Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(OUTCOMES)})\Z")]
SourceName = Annotated[str, msgspec.Meta(pattern=rf"\A({'|'.join(SOURCES)})\Z")]
SECOND_NAMES = tuple(f"{kind}_{outcome}" for kind in KINDS for outcome in OUTCOMES)
"""The names under which a second counts operations; it counts violations by guarantee."""

DistributionState = tuple[dict[Count, Count], bool, Count, Count]


class Hello(msgspec.Struct):
    """The version of a worker."""

    version: str = stalewatch.__version__
    number: int = FORMAT_NUMBER

    def __str__(self) -> str:
        """Return both numbers in words."""
        return f"stalewatch {self.version} (message format {self.number})"


class Idle(msgspec.Struct):
    """A run for which a worker has nothing to report, and why it could not start the run, if it should have."""

    run: str
    failure: str | None = None


class ClockRequest(msgspec.Struct):
    """When a worker asked for the master's time, by its own clock."""

    sent: int


class TurnRequest(msgspec.Struct):
    """A database of a run that a worker wants to open, or whether it has opened it."""

    run: str
    database: str
    opened: bool = False


class Refusal(msgspec.Struct):
    """The master's run ("" if it has none), and why else it refuses the worker; None if the run is the reason."""

    run: str
    reason: str | None = None


class VerdictRow(msgspec.Struct, array_like=True):
    """The findings about one guarantee since the last report."""

    name: str
    checked: Count
    violated: Count
    causes: dict[str, int]
    staleness: DistributionState
    at_least: Count
    witnesses: list[Violation]
    applicable: bool
    behind: dict[Count, Count] = {}
    freshness: dict[Count, tuple[Count, Count]] = {}
    corrected: list[Violation] = []
    """Violations reported earlier that have another cause now."""


class Counts(msgspec.Struct, array_like=True):
    """The statistics since the last report."""

    outcomes: dict[KindName, dict[OutcomeName, Count]]
    errors: list[tuple[KindName, OutcomeName, str, Count]]
    service: dict[KindName, DistributionState]
    response: dict[KindName, DistributionState]
    stalled: Count
    seconds: dict[int, dict[str, Count]]
    last_ok: dict[KindName, int] = {}
    strategy: dict[SourceName, DistributionState] = {}
    fallbacks: Count = 0
    failed_fallbacks: Count = 0


class ResolutionCounts(TypedDict):
    """How the conflict workload resolved conflicts."""

    strategy: str
    merged: Count
    errors: Count


class LossCounts(TypedDict):
    """Writes of one part of the conflict workload's documents."""

    acknowledged: Count
    lost: Count


class ExtraResults(TypedDict, total=False):
    """Everything that workloads may find beyond the guarantees; other names are dropped.

    They become fields of the JSON result, so a name that is not listed here could take the place of the verdict.
    """

    unread_keys: Count
    unread_error: str
    workloads: list[str]
    resolution: ResolutionCounts
    losses: dict[str, LossCounts]


class HistoryFile(msgspec.Struct, array_like=True):
    """A history file that a worker writes on its own machine."""

    path: str
    counting_from_ns: int
    """When operations start to count, after the warm-up."""
    reported: Count
    """How many of its operations, from the first on, this report and earlier ones cover."""
    finished: bool
    """Whether what only the end decides, such as lost writes, has been reported too."""


class WorkerReport(msgspec.Struct, array_like=True):
    """One report; `number` rises by one from 0, so that a missing report is noticed."""

    run: str
    worker: int
    number: Count
    host: str
    phase: str
    done: float
    total: float
    unit: str
    verdicts: list[VerdictRow]
    counts: Counts
    duplicate_items: Count
    phantom_items: Count
    stalls: list[Stall]
    settings: dict[str, dict[str, Any]]
    """Driver settings in force, by database."""
    histories: list[HistoryFile]
    clock_error_ns: Count | None
    failure: str | None
    """Why the worker cannot go on, or what went wrong in its run."""
    exit_code: int
    """The exit code for the failure."""
    last: bool
    """Whether the worker's run is over and no report follows."""
    ended_cleanly: bool
    """Whether nothing went wrong that leaves part of the worker's run out."""
    extra_results: ExtraResults
    """The workloads' results beyond the guarantees; only in the last report."""
    counting_from_ns: int | None
    """When its first operations started to count, by the master's clock."""
    metrics: str | None = None
    """Where the worker serves its metrics, as HOST:PORT."""
    attempts: PackedAttempts | None = None
    """Attempts, during a drill."""

    @property
    def operations(self) -> int:
        """How many operations were counted since the last report."""
        return sum(sum(outcomes.values()) for outcomes in self.counts.outcomes.values())

    def totals(self) -> Totals:
        """Return what was found and counted, in the form that adds up."""
        attempts = None if self.attempts is None else AttemptLog.unpacked(self.attempts)
        return Totals(self._findings(), self._statistics(), attempts)

    def _findings(self) -> Findings:
        return Findings(
            {row.name: _verdict(row) for row in self.verdicts},
            duplicate_items=self.duplicate_items,
            phantom_items=self.phantom_items,
        )

    def _statistics(self) -> Statistics:
        statistics, counts = Statistics(), self.counts
        for kind in KINDS:
            statistics.outcomes[kind].update(counts.outcomes[kind])
            statistics.service[kind] = Distribution.restored(*counts.service[kind])
            statistics.response[kind] = Distribution.restored(*counts.response[kind])
        statistics.errors.update({(kind, outcome, error): times for kind, outcome, error, times in counts.errors})
        statistics.stalled = counts.stalled
        statistics.last_ok.update(counts.last_ok)
        statistics.strategy |= {source: Distribution.restored(*state) for source, state in counts.strategy.items()}
        statistics.fallbacks, statistics.failed_fallbacks = counts.fallbacks, counts.failed_fallbacks
        for second, numbers in counts.seconds.items():
            statistics.second(second).update(numbers)
        return statistics


def verdict_rows(findings: Findings) -> list[VerdictRow]:
    """Return the rows of the guarantees about which there is something to report."""
    return [
        VerdictRow(
            verdict.name,
            verdict.checked,
            verdict.violated,
            verdict.causes,
            verdict.staleness.state(),
            verdict.at_least,
            verdict.witnesses,
            verdict.applicable,
            verdict.behind,
            verdict.freshness.state(),
            verdict.corrected,
        )
        for verdict in findings.verdicts.values()
        if verdict.checked or verdict.causes or not verdict.applicable  # causes alone are a correction
    ]


def counts_of(statistics: Statistics) -> Counts:
    """Return the statistics in the form that is sent."""
    return Counts(
        {kind: dict(counts) for kind, counts in statistics.outcomes.items()},
        [(*name, times) for name, times in statistics.errors.items()],
        {kind: times.state() for kind, times in statistics.service.items()},
        {kind: times.state() for kind, times in statistics.response.items()},
        statistics.stalled,
        {second: dict(numbers) for second, numbers in statistics.seconds.items()},
        statistics.last_ok,
        {source: times.state() for source, times in statistics.strategy.items()},
        statistics.fallbacks,
        statistics.failed_fallbacks,
    )


def _verdict(row: VerdictRow) -> Verdict:
    verdict = Verdict(row.name, row.checked, row.violated, at_least=row.at_least, applicable=row.applicable)
    verdict.causes.update(row.causes)
    verdict.behind.update(row.behind)
    verdict.staleness = Distribution.restored(*row.staleness)
    verdict.freshness = Freshness.restored(row.freshness)
    verdict.witnesses, verdict.corrected = row.witnesses, row.corrected
    return verdict


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(WorkerReport).decode


class ClockSample(NamedTuple):
    """One exchange of CLOCK messages: when ours was sent and the answer came, and the master's time in it, in ns."""

    sent: int
    received: int
    master: int

    @property
    def offset_ns(self) -> float:
        """The master's clock minus ours, if the answer was written halfway."""
        return self.master - (self.sent + self.received) / 2

    @property
    def error_ns(self) -> float:
        """The largest possible error of the offset: the answer may have been written at any time in between."""
        return (self.received - self.sent) / 2


class ClockOffset:
    """The offset of the master's clock that a run uses, and a bound of its error at any time of the run.

    The offset never changes during a run, or times would jump. At each sample the true offset is within half a round
    trip of the sample's; between samples it drifts by `MAX_DRIFT` at most. So shortly after a sample the error is
    bounded by the difference between that sample and the offset in use, plus half its round trip, plus the drift since.
    The history states the largest bound of the run. A bound from the shortest round trip at the start alone would be
    wrong an hour later: at 1000 ppm two clocks are 3.6 s apart by then.
    """

    def __init__(self, samples: list[ClockSample]) -> None:
        """Use the sample with the shortest round trip; there must be at least one."""
        best = min(samples, key=lambda sample: sample.error_ns)
        self.offset_ns = round(best.offset_ns)
        self._bound_ns = best.error_ns
        self._at = best.received
        self._worst_ns = self._bound_ns

    def add(self, sample: ClockSample) -> None:
        """Update the bound with a later exchange; a slow one does not improve it, but does no harm."""
        drifted_ns = self._drifted(sample.received)
        self._worst_ns = max(self._worst_ns, drifted_ns)
        self._bound_ns = min(drifted_ns, abs(sample.offset_ns - self.offset_ns) + sample.error_ns)
        self._at = sample.received

    def error_ns(self, now: int) -> int:
        """Return the bound of the error from the start until now, a time of our own clock."""
        return round(max(self._worst_ns, self._drifted(now)))

    def _drifted(self, now: int) -> float:
        return self._bound_ns + MAX_DRIFT * max(0, now - self._at)
