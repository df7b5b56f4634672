"""One drill: faults beside a load, what watches the servers meanwhile, and what all of that measured.

`DrillRun` is the same for a load in one process and for Locust's workers; `drilled` does a whole drill in one process.
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
from stalewatch.drills import broken
from stalewatch.drills.chosen import Chosen
from stalewatch.drills.figures import Load, figures
from stalewatch.drills.observers import UNSEEN, Observers
from stalewatch.drills.recovery import NS
from stalewatch.drills.timeline import LOOK_S, Cut, Notes, Timeline
from stalewatch.engine.process_run import ProcessRun, connected
from stalewatch.engine.threads import Report
from stalewatch.faults.guardian import NotUndone
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Fault
from stalewatch.metrics.faults import Faults
from stalewatch.metrics.serving import serving
from stalewatch.recording.attempts import AttemptLog
from stalewatch.workloads.options import LoadOptions

Log = Callable[[str], None]


class DrillRun:
    """One drill over one load; `cluster` is None for a simulated store, which `breakable` breaks by its own commands.

    `notes` records the faults; `faults` shows them in the metrics.
    """

    def __init__(
        self,
        chosen: Chosen,
        cluster: Reachable | Cluster | None,
        breakable: Cluster,
        notes: Notes,
        *,
        database: str,
        options: object,
        run: str,
        clock: Clock,
        faults: Faults,
        log: Log,
    ) -> None:
        """Raise `BadDrill` or a `ClusterError` for a drill that this cluster cannot do."""
        broken.require(chosen.drill, breakable)
        self._chosen = chosen
        self._cluster = cluster
        self._target = (database, options)
        self._run = run
        self._clock = clock
        self._faults = faults
        self._log = log
        self._observers: Observers | None = None
        self.timeline = Timeline(chosen.drill.steps, breakable, notes, clock, log, [self._show])

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Watch the servers while the block runs, and undo every fault after it, whatever happens.

        Raises a `ClientError` if the servers cannot be watched.
        """
        cluster = self._cluster
        if cluster is not None:
            database, options = self._target
            self._observers = Observers(database, options, cluster.nodes(), self._run, self._clock, self._log)
            self.timeline.before_healing = self._observers.rest
        with broken.guard(cluster) as self.timeline.guard:
            yield

    def perform(self, begun: int, over: Callable[[], bool]) -> None:
        """Do the drill's steps; `begun` is when operations began to count, `over` returns whether the load is."""
        try:
            self.timeline.run(begun + round(self._chosen.at * NS), self._chosen.lasts, over)
        finally:
            self.healed()

    def healed(self) -> None:
        """Let the observers know that nothing is broken any more."""
        if self._observers is not None:
            self._observers.heal(self.timeline.healed)

    def close(self, hurried: Callable[[], bool]) -> None:
        """Wait until the replicas agree, unless in a hurry, and drop the connections."""
        if self._observers is not None:
            self._observers.close(hurried)

    def _show(self, fault: Fault) -> None:
        show = self._faults.begin if fault.end is None else self._faults.end
        show(fault.fault, fault.node or "")

    def result(
        self, attempts: AttemptLog, load: Load, *, read_finally: bool, error: Exception | None = None
    ) -> Mapping[str, Any]:
        """Return the fields that a drill adds to the JSON result of its run."""
        trouble = error or self.timeline.trouble
        return {
            "drill": self._chosen.drill.name,
            "drill_trouble": trouble and str(trouble),
            **figures(attempts, self.timeline.noted, load, read_finally=read_finally),
            **(self._observers.figures() if self._observers else UNSEEN),
        }


class Drilled(NamedTuple):
    """A drill that is over."""

    findings: Findings
    result: dict[str, Any]
    received: list[int]
    """Exit codes that signals ask for."""

    trouble: ClusterError | ClientError | None
    """Why the drill could not be completed."""


class DrillSettings(NamedTuple):
    """What a drill in one process needs beside its load: the load goes on for `after_s` once the last fault is over."""

    after_s: float | None
    history: Path | None
    keep: bool
    metrics_port: int | None
    log: Log
    progress: Callable[[], AbstractContextManager[Report]]


def drilled(
    database: Database,
    options: object,
    load: LoadOptions,
    chosen: Chosen,
    cluster: Reachable | None,
    settings: DrillSettings,
) -> Drilled:
    """Do a drill in this process; `cluster` is None for a simulated store.

    Raises a `ClientError` or a `ClusterError` if it cannot start.
    """
    log = settings.log
    with connected(
        database, options, load, log, history=settings.history, keep=settings.keep, log_attempts=True
    ) as one:
        faults = Faults()
        run = one.run
        drill = DrillRun(
            chosen,
            cluster,
            broken.breakable(cluster, run.client),
            run.recorder,
            database=database.name,
            options=one.spec.options,
            run=run.name,
            clock=run.client.clock,
            faults=faults,
            log=log,
        )
        beside = _BesideLoad(one, drill, settings.after_s)
        try:
            one.perform(settings.progress(), serving(one, settings.metrics_port, faults, log), beside.whole())
        except NotUndone as error:  # what was measured until then counts
            drill.timeline.trouble = error
        totals = one.totals()
        attempts = totals.attempts or AttemptLog()
        measured = drill.result(
            attempts,
            Load(run.recorder.counting_from_ns, one.load.ended_ns),
            read_finally=attempts.read_finally and run.final_reads_s is not None,
        )
        result = one.result(totals, measured)
    return Drilled(totals.findings, result, one.received, drill.timeline.trouble)


class _BesideLoad:
    """Runs a drill in a thread beside the sessions of a load in the same process."""

    def __init__(self, one: ProcessRun, drill: DrillRun, after_s: float | None) -> None:
        self._one = one
        self._drill = drill
        self._after_s = after_s
        self._begun = False
        self._over = threading.Event()
        one.load.background["drill"] = self._perform

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Watch the servers while the load runs, and wait until everything is healed.

        An interrupted load does not wait so long for its threads. Another Ctrl-C ends this wait; then the guardian
        heals: two that heal at a time would disturb each other.
        """
        try:
            with self._drill.guarded():
                yield
                while self._begun and not self._over.wait(LOOK_S):
                    pass
        finally:
            self._drill.close(lambda: self._one.load.interrupted)

    def _perform(self, begun: int, over: Callable[[], bool]) -> None:
        self._begun = True
        timeline, load = self._drill.timeline, self._one.load
        try:
            self._drill.perform(begun, over)
            if timeline.cut and not load.interrupted:
                timeline.trouble = timeline.trouble or Cut("the load ended before the drill did; give --duration more")
        finally:
            if self._after_s is not None:
                load.end_at(self._one.run.client.clock.now() + round(self._after_s * NS))
            self._over.set()
