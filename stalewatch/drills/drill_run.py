"""One drill: faults under a load, the observers of the servers, and the result of it all.

`DrillRun` is the same for a load in one process and for Locust's workers; `run_drill` does it all in one process.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import Database
from stalewatch.clusters.protocol import Cluster, ClusterError, Reachable
from stalewatch.drills.catalogue import ScheduledDrill
from stalewatch.drills.clusters import breakable, require
from stalewatch.drills.observers import NOTHING_OBSERVED, Observers
from stalewatch.drills.recovery import NS, LoadTimes, figures
from stalewatch.drills.timeline import POLL_S, DrillCutShort, FaultNotes, Timeline, fault_guard
from stalewatch.engine.process_run import ProcessRun, connected
from stalewatch.engine.threads import Report
from stalewatch.faults.guardian import NotUndone
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Fault
from stalewatch.metrics.nodes import Faults
from stalewatch.metrics.serving import serving
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.totals import Figures
from stalewatch.workloads.options import LoadOptions

Log = Callable[[str], None]


class DrillRun:
    """One drill under one load.

    `target` is the cluster to break, or what breaks a simulated store, for which `cluster` is None. `notes` records the
    faults; `faults` shows them in the metrics.
    """

    def __init__(
        self,
        drill: ScheduledDrill,
        cluster: Reachable | Cluster | None,
        target: Cluster,
        notes: FaultNotes,
        *,
        database: str,
        options: object,
        run: str,
        clock: Clock,
        faults: Faults,
        log: Log,
    ) -> None:
        """Raise `BadDrill` or a `ClusterError` if this cluster cannot suffer the drill."""
        require(drill.drill, target)
        self._drill = drill
        self._cluster = cluster
        self._database = database
        self._options = options
        self._run = run
        self._clock = clock
        self._faults = faults
        self._log = log
        self._observers: Observers | None = None
        self.timeline = Timeline(drill.drill.steps, target, notes, clock, log, [self._show])

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Observe the servers while the block runs, and undo every fault after it, whatever happens.

        Raises a `ClientError` if the observers cannot connect.
        """
        cluster = self._cluster
        if cluster is not None:
            self._observers = Observers(
                self._database, self._options, cluster.nodes(), self._run, self._clock, self._log
            )
            self.timeline.before_healing = self._observers.before_healing
        with fault_guard(cluster) as self.timeline.guard:
            yield

    def perform(self, counting_from_ns: int, over: Callable[[], bool]) -> None:
        """Perform the drill's steps; operations count from that moment; `over` returns whether the load has ended."""
        try:
            self.timeline.run(counting_from_ns + round(self._drill.start_s * NS), self._drill.fault_s, over)
        finally:
            self.healed()

    def healed(self) -> None:
        """Inform the observers that no fault is active any more."""
        if self._observers is not None:
            self._observers.healed(self.timeline.healed_ns)

    def close(self, hurried: Callable[[], bool]) -> None:
        """Wait until the replicas agree, unless `hurried` returns true, and close the observers' connections."""
        if self._observers is not None:
            self._observers.close(hurried)

    def _show(self, fault: Fault) -> None:
        show = self._faults.begin if fault.end is None else self._faults.end
        show(fault.fault, fault.node or "")

    def result(
        self, attempts: AttemptLog, load: LoadTimes, *, read_finally: bool, error: Exception | None = None
    ) -> Mapping[str, Any]:
        """Return the fields that a drill adds to the JSON result of its run."""
        failure = error or self.timeline.failure
        return {
            "drill": self._drill.drill.name,
            "drill_trouble": failure and str(failure),
            **figures(attempts, self.timeline.faults, load, read_finally=read_finally),
            **(self._observers.figures() if self._observers else NOTHING_OBSERVED),
        }


class FinishedDrill(NamedTuple):
    """The outcome of a drill."""

    findings: Findings
    result: dict[str, Any]
    received: list[int]
    """Exit codes that signals ask for."""

    failure: ClusterError | ClientError | None
    """Why the drill could not be completed."""


class DrillSettings(NamedTuple):
    """Settings of a drill in one process apart from its load, which ends `after_s` after the last fault."""

    after_s: float | None
    history: Path | None
    keep: bool
    metrics_port: int | None
    log: Log
    progress: Callable[[Callable[[], Figures]], AbstractContextManager[Report]]
    started: Callable[[ProcessRun], None] = lambda _process: None
    """Called once the client is connected, with the run."""
    awaits_agreement: bool = True
    """Whether to wait after the load until all replicas agree, which may take a minute, or never come true."""


def run_drill(
    database: Database,
    options: object,
    load: LoadOptions,
    scheduled: ScheduledDrill,
    cluster: Reachable | None,
    settings: DrillSettings,
) -> FinishedDrill:
    """Run a drill in this process; `cluster` is None for a simulated store.

    Raises a `ClientError` or a `ClusterError` if it cannot start.
    """
    history, keep, log = settings.history, settings.keep, settings.log
    with connected(database, options, load, log, history=history, keep=keep, log_attempts=True) as process:
        faults, run = Faults(), process.run
        drill = DrillRun(
            scheduled,
            cluster,
            breakable(cluster, run.client),
            run.recorder,
            database=database.name,
            options=process.spec.options,
            run=run.name,
            clock=run.client.clock,
            faults=faults,
            log=log,
        )
        background = _BackgroundDrill(process, drill, scheduled.end_s, settings)
        settings.started(process)
        try:
            metrics = serving(process, settings.metrics_port, faults, log)
            process.perform(settings.progress(run.collector.figures), metrics, background.whole())
        except NotUndone as error:  # what was measured until then counts
            drill.timeline.failure = error
        return _finished(process, drill)


def _finished(process: ProcessRun, drill: DrillRun) -> FinishedDrill:
    run, totals = process.run, process.totals()
    attempts = totals.attempts or AttemptLog()
    measured = drill.result(
        attempts,
        LoadTimes(run.recorder.counting_from_ns, process.load.ended_ns),
        read_finally=attempts.read_finally and run.final_reads_s is not None,
    )
    return FinishedDrill(totals.findings, process.result(totals, measured), process.received, drill.timeline.failure)


class _BackgroundDrill:
    """Runs a drill in a thread of its own next to the sessions of a load in the same process."""

    def __init__(self, process: ProcessRun, drill: DrillRun, end_s: float, settings: DrillSettings) -> None:
        self._process = process
        self._drill = drill
        self._after_s = after_s = settings.after_s
        self._awaits_agreement = settings.awaits_agreement
        self._begun = False
        self._over = threading.Event()
        process.load.background["drill"] = self._perform
        if after_s is not None:
            process.load.expected_s = end_s + after_s

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Observe the servers while the load runs, and wait until every fault is undone.

        An interrupted load does not wait that long for its threads. Another Ctrl-C ends this wait, and then the
        guardian undoes the faults: two that do so at the same time would disturb each other.
        """
        try:
            with self._drill.guarded():
                yield
                while self._begun and not self._over.wait(POLL_S):
                    pass
        finally:
            self._drill.close(lambda: self._process.load.interrupted or not self._awaits_agreement)

    def _perform(self, counting_from_ns: int, over: Callable[[], bool]) -> None:
        self._begun = True
        timeline, load = self._drill.timeline, self._process.load
        try:
            self._drill.perform(counting_from_ns, over)
            if timeline.cut_short and not load.interrupted:
                timeline.failure = timeline.failure or DrillCutShort(
                    "the load ended before the drill did; use a longer --duration"
                )
        finally:
            if self._after_s is not None:
                load.end_at(self._process.run.client.clock.now() + round(self._after_s * NS))
            self._over.set()
