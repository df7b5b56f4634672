"""One run under Locust as the master knows it: its workers, what they reported, and which may open a database."""

import time
from argparse import Namespace
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gevent.event import Event

from stalewatch.checkers.verdict import RunVerdict, Verdict, Violation, overall
from stalewatch.history.clock import Clock, RealClock
from stalewatch.locust.messages import ExtraResults, HistoryFile, WorkerReport
from stalewatch.locust.report_checks import BadReport, Period, check
from stalewatch.metrics.meter import Meter
from stalewatch.recording.statistics import Stall
from stalewatch.recording.totals import Totals, no_totals

SILENCE_S = 10.0
"""How long a worker may be silent before it counts as lost. Locust's own limit is 3 s; a worker may come back."""

QUIET_S = 3.0
"""A worker that turns out to be lost, and was silent for so long at the end of the load, was lost during the load."""

CLOCKS_DIFFER_NS = 24 * 3600 * 10**9
"""How far a worker's clock may be from the master's if the difference could not be measured."""

MAX_STALLS = 20
"""How many stalls of a worker are kept with their times."""

MAX_NEWEST = 50
"""How many of the newest violations are kept for the web page."""

WorkerState = Literal["running", "done", "lost"]
STATES: tuple[WorkerState, ...] = ("running", "done", "lost")

RunPhase = Literal["load", "drain", "decide", "over"]
"""Sessions work; they end and the last reports arrive; the master computes the verdict; there is a verdict."""


@dataclass
class WorkerRecord:
    """One worker in one run: known once it is to take part, and then as it reports itself."""

    worker: int
    client_id: str
    heard_at: float
    host: str = ""
    done: bool = False
    lost: bool = False
    gap: bool = False
    """Whether a report never arrived."""
    next_number: int = 0
    phase: str = ""
    progress: tuple[float, float, str] = (0, 0, "")
    operations: int = 0
    refusal: str | None = None
    """Why a report of it was refused; None if none was."""
    causes: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """The causes of its violations, by guarantee."""
    extra_results: ExtraResults = field(default_factory=ExtraResults)
    """The results of its workloads beyond the guarantees, at its end."""
    ended_cleanly: bool = True
    silent_s: float = 0.0
    """How long it had been silent when the verdict was made."""
    stalls: list[Stall] = field(default_factory=list)
    """The first `MAX_STALLS` stalls."""
    stall_count: int = 0
    stalled_ns: int = 0
    """The total time of its stalls."""
    counting_from_ns: int | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    histories: list[HistoryFile] = field(default_factory=list)
    clock_error_ns: int | None = None
    failure: str | None = None
    exit_code: int = 0
    metrics: str | None = None
    """The address of its metrics."""
    salvaged: bool = False
    """Whether what it did after its last report was found in its history files."""

    @property
    def complete(self) -> bool:
        """Whether the totals contain everything that it did."""
        return self.done and self.complete_so_far

    @property
    def complete_so_far(self) -> bool:
        """Whether nothing is missing until now."""
        return self.ended_cleanly and not self.gap and not self.lost and self.refusal is None

    @property
    def reported(self) -> bool:
        """Whether a report of it was counted."""
        return self.next_number > 0

    @property
    def state(self) -> WorkerState:
        """Whether it runs, is done, or is lost."""
        return "done" if self.done else "lost" if self.lost else "running"

    def check(self, report: WorkerReport) -> None:
        """Raise `BadReport` if a report does not follow the earlier ones of this worker."""
        if report.worker != self.worker:
            raise BadReport(f"it is of worker {report.worker}")
        if report.number < self.next_number or self.done:
            raise BadReport(f"its number is {report.number}, but number {self.next_number - 1} has been counted")
        for row in report.verdicts:
            causes = self.causes[row.name]
            if any(causes[cause] + times < 0 for cause, times in row.causes.items()):
                raise BadReport(f"{row.name}: fewer than no violations of a cause")

    def fail(self, failure: str, exit_code: int) -> None:
        """Note that it cannot take part."""
        self.failure, self.exit_code = failure, exit_code
        self.done, self.lost, self.ended_cleanly = True, False, False

    def add(self, report: WorkerReport, now: float) -> None:
        """Add a report."""
        for row in report.verdicts:
            self.causes[row.name].update(row.causes)
        self.gap = self.gap or report.number != self.next_number
        self.next_number = report.number + 1
        self.heard_at, self.lost, self.done = now, False, report.last
        self.host, self.phase = report.host, report.phase
        self.progress = (report.done, report.total, report.unit)
        self.operations += report.operations
        self.stalls += report.stalls[: MAX_STALLS - len(self.stalls)]
        self.stall_count += len(report.stalls)
        self.stalled_ns += sum(stall.end - stall.start for stall in report.stalls)
        self.extra_results = report.extra_results
        self.ended_cleanly, self.counting_from_ns = report.ended_cleanly, report.counting_from_ns
        self.settings, self.histories = report.settings, report.histories
        self.clock_error_ns = report.clock_error_ns
        self.failure, self.exit_code = report.failure, report.exit_code
        self.metrics = report.metrics


class WorkerRegistry:
    """The workers of a run by Locust's id; one that is silent for `silence_s` seconds counts as lost."""

    def __init__(self, silence_s: float = SILENCE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._workers: dict[str, WorkerRecord] = {}
        self._silence_s = silence_s
        self._now = now

    def __iter__(self) -> Iterator[WorkerRecord]:
        """Iterate over the workers in the order of their numbers."""
        return iter(sorted(self._workers.values(), key=lambda worker: worker.worker))

    def register(self, client_id: str, worker: int) -> WorkerRecord:
        """Return the record of a worker that is to take part; its number is the one that Locust gave to it."""
        return self._workers.setdefault(client_id, WorkerRecord(worker, client_id, self._now()))

    def forget(self, client_id: str) -> None:
        """Drop a worker that did not take part after all, and says so."""
        self._workers.pop(client_id, None)

    def add(self, client_id: str, report: WorkerReport) -> WorkerRecord:
        """Add a worker's report and return the worker."""
        worker = self.register(client_id, report.worker)
        worker.add(report, self._now())
        return worker

    def get(self, client_id: str) -> WorkerRecord | None:
        """Return the worker with that id; None if it takes no part in this run."""
        return self._workers.get(client_id)

    def mark_lost(self) -> list[WorkerRecord]:
        """Return the workers that are newly lost."""
        silent = [worker for worker in self.running() if self.silent_s(worker) > self._silence_s]
        for worker in silent:
            worker.lost = True
        return silent

    def silent_s(self, worker: WorkerRecord) -> float:
        """Return for how many seconds a worker has been silent."""
        return self._now() - worker.heard_at

    def running(self) -> list[WorkerRecord]:
        """Return the workers that are neither done nor lost."""
        return [worker for worker in self if worker.state == "running"]


@dataclass
class Turns:
    """Lets one worker open a database alone, which may create what is missing, and all others once it has.

    Two workers that create the same table at the same moment can leave a Cassandra ring with two tables of that name,
    of which one is dropped with everything written to it. `grant` tells a worker to open a database.
    """

    grant: Callable[[str, str], None]
    _opened: set[str] = field(default_factory=set)
    _first: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, list[str]] = field(default_factory=dict)

    def request(self, worker: str, database: str) -> None:
        """Let a worker open the database now, or once the first worker has opened it."""
        if database in self._opened:
            self.grant(worker, database)
        elif database in self._first:
            self._waiting.setdefault(database, []).append(worker)
        else:
            self._first[database] = worker
            self.grant(worker, database)

    def end(self, worker: str, database: str, *, opened: bool) -> None:
        """End a worker's turn; if it could not open the database, it is the next worker's turn."""
        if opened and database not in self._opened:
            self._opened.add(database)
            for other in self._waiting.pop(database, []):
                self.grant(other, database)
        elif self._first.get(database) == worker:
            self._next(database)

    def lose(self, worker: str) -> None:
        """End the turns of a lost worker."""
        for database, first in list(self._first.items()):
            if first == worker and database not in self._opened:
                self._next(database)

    def _next(self, database: str) -> None:
        del self._first[database]
        waiting = self._waiting.get(database)
        if waiting:
            self.request(waiting.pop(0), database)


class BackgroundResult(NamedTuple):
    """What a background task adds to the result, and its exit code."""

    result: Mapping[str, Any]
    exit_code: int = 0


class BackgroundTask(Protocol):
    """A task in the master's process during a run, such as a drill."""

    def end(self) -> BackgroundResult:
        """Wait until the task has ended, which it does soon after the run ends, and return its result."""
        ...


class RunOutcome(NamedTuple):
    """The result of a run, the expectations that it missed, and its exit code."""

    result: dict[str, Any]
    totals: Totals
    missed: list[str]
    exit_code: int


@dataclass
class MasterRun:
    """One run, from the test's start to its verdict."""

    name: str
    options: Namespace
    databases: Collection[str]
    users: int = 0
    run_time_s: float | None = None
    """When Locust will end the load, in seconds from its start; None without such a limit."""
    clock: Clock = field(default_factory=RealClock)
    """The master's clock, to which workers convert their times; unlike the machine's it is never stepped."""
    started: float = field(default_factory=time.monotonic)
    started_ns: int = field(init=False)
    phase: RunPhase = "load"
    stopped_ns: int = 0
    """When the sessions were told to end, by the master's clock."""
    ended_early: str | None = None
    """Why the load ended before its time; None if it did not, or goes on."""
    silent: list[WorkerRecord] = field(default_factory=list)
    """The workers that had been silent for a while when the sessions were told to end."""
    workers: WorkerRegistry = field(default_factory=WorkerRegistry)
    totals: Totals = field(default_factory=no_totals)
    """What all workers found and counted; totals of single workers would take too much memory."""
    since_reset: Totals | None = None
    """What was found and counted since the statistics were last reset on the page; None if they never were."""
    awaited: set[str] = field(default_factory=set)
    """The ids of the processes whose last report the verdict waits for."""
    newest: deque[Violation] = field(default_factory=lambda: deque(maxlen=MAX_NEWEST))
    hurried: bool = False
    """Whether Ctrl-C was pressed while waiting for the last reports."""
    concluded: Event = field(default_factory=Event)
    outcome: RunOutcome | None = None
    decided: float | None = None
    """When the verdict was made, in seconds of the monotonic clock."""
    background: BackgroundTask | None = None
    meter: Meter | None = None
    """The totals in the form that Prometheus scrapes; None without metrics."""

    def __post_init__(self) -> None:
        """Show every guarantee in the metrics, at zero."""
        self.started_ns = self.clock.now()
        if getattr(self.options, "metrics_port", None):
            self.meter = Meter(self.name, ",".join(self.databases))
            self.meter.add(no_totals())

    def receive(self, client_id: str, report: WorkerReport) -> WorkerRecord:
        """Add all of a worker's report; if it cannot be true, add nothing and raise `BadReport`."""
        known = self.workers.register(client_id, report.worker)
        check(report, Period(self.started_ns - CLOCKS_DIFFER_NS, self.clock.now() + CLOCKS_DIFFER_NS))
        known.check(report)
        totals = report.totals()
        worker = self.workers.add(client_id, report)
        self.count(totals)
        self.add_newest(totals.findings.verdicts.values())
        return worker

    def refuse(self, client_id: str, reason: str) -> bool:
        """Note that a worker's report was refused; return whether this is the first one of a worker of this run."""
        worker = self.workers.get(client_id)
        if worker is None or worker.refusal is not None:
            return False
        worker.refusal = reason
        return True

    def count(self, totals: Totals) -> None:
        """Add what a worker found and counted."""
        self.totals.merge(totals)
        if self.since_reset is not None:
            self.since_reset.merge(Totals(totals.findings, totals.statistics))
            for verdict in self.since_reset.findings.verdicts.values():
                verdict.causes.clear()  # a correction of causes at the end covers reads from before the reset too
        if self.meter is not None:
            self.meter.add(totals)

    def add_newest(self, verdicts: Iterable[Verdict]) -> None:
        """Add the witnesses of new verdicts to the newest violations, and replace those whose cause is another now."""
        for verdict in verdicts:
            for one in verdict.corrected:
                for index, known in enumerate(self.newest):
                    if (known.guarantee, known.operations) == (one.guarantee, one.operations):
                        self.newest[index] = one
            self.newest.extend(one for one in verdict.witnesses if one not in verdict.corrected)

    def reset(self) -> None:
        """Show on the page only what is found from now on; the verdict still covers everything."""
        self.since_reset = no_totals()
        self.newest.clear()

    @property
    def shown(self) -> Totals:
        """What the page shows: everything since the last reset."""
        return self.totals if self.since_reset is None else self.since_reset

    @property
    def complete(self) -> bool:
        """Whether nothing of any worker is missing, as far as is known."""
        decided = self.phase in {"decide", "over"}
        return all(worker.complete if decided else worker.complete_so_far for worker in self.workers)

    @property
    def verdict(self) -> RunVerdict:
        """The verdict so far; like that of the result, it is not ``valid`` without evidence of lost writes."""
        found = overall(self.totals.findings.verdicts, complete=self.complete)
        unread = any(worker.extra_results.get("unread_keys") for worker in self.workers)
        unproved = unread and not self.totals.findings.verdicts["lost_writes"].checked
        return "unknown" if found == "valid" and unproved else found

    def end_load(self, now_ns: int, ended_early: str | None) -> None:
        """Note that the sessions are told to end now, and why they are if it is before their time."""
        self.phase, self.stopped_ns, self.ended_early = "drain", now_ns, ended_early
        self.silent = [one for one in self.workers if not one.done and self.workers.silent_s(one) > QUIET_S]

    @property
    def cut_short(self) -> str | None:
        """Why the load, or that of some workers, ended before its time; known once there is a verdict."""
        lost = ", ".join(str(one.worker) for one in self.silent if one.lost)
        return self.ended_early or (f"worker {lost} was lost during the load" if lost else None)

    @property
    def duration_s(self) -> float:
        """How long operations counted, from the first worker's on."""
        starts = [worker.counting_from_ns for worker in self.workers if worker.counting_from_ns is not None]
        return max(0, self.stopped_ns - min(starts)) / 1e9 if starts else 0.0

    @property
    def ending(self) -> bool:
        """Whether the sessions have been told to end."""
        return self.phase != "load"
