"""One process's run on one database with one workload, from the connection to cleaning up.

The bench, drills and Locust's workers all use it; they differ in who runs the sessions.
"""

import gc
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Violation
from stalewatch.clients.options import check_options, with_values
from stalewatch.clients.protocol import Client, Database
from stalewatch.engine.final_reads import FinalReads
from stalewatch.engine.threads import Report
from stalewatch.history.clock import Clock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header, Registers
from stalewatch.history.reader import Source
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.statistics import NO_STALLS, Stalls
from stalewatch.recording.totals import Collector, Totals
from stalewatch.workloads import Session, Workload, workload_names
from stalewatch.workloads.mix import make_workload, require_workloads
from stalewatch.workloads.options import LoadOptions

YOUNG_OBJECTS = 10_000
"""Net new objects between garbage collections; Python's own 700 costs a tenth of an operation's time.

The objects of a request live until its timeout is due (in cassandra-driver, with reference cycles). A collection every
few dozen operations finds nearly all of them alive and promotes them to older generations, only to scan them again and
again.
"""

MakeWorkload = Callable[[Client, Recorder, Sequence[str], LoadOptions], Workload]


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One process's work in a run on one database; `options` are the database's, `shown_options` go into the history.

    `workload` is a name, or several separated by commas, unless `make_workload` makes it; keys are numbered from
    `first_key`. `log_attempts` keeps the attempt log, from which drills measure.
    """

    run: str
    database: Database
    options: object
    load: LoadOptions
    workload: str
    make_workload: MakeWorkload | None = None
    registers: Registers = "growing"
    users: int
    worker: int = 0
    first_key: int = 0
    history: Path | None = None
    shown_options: Mapping[str, Any]
    clock_error_ns: int | None = 0
    log_attempts: bool = False


class DatabaseRun:
    """A connected client, a recorder, and the workload whose sessions use them."""

    def __init__(
        self,
        client: Client,
        recorder: Recorder,
        load: LoadOptions,
        run: str,
        *,
        worker: int = 0,
        first_key: int = 0,
        workload: str | None = None,
        make: MakeWorkload | None = None,
        log_attempts: bool = False,
    ) -> None:
        self.name = run
        self.load = load
        self.client = client
        self.recorder = recorder
        self.workload_names = workload_names(workload or load.workload)
        keys = [f"{run}-w{worker}-{first_key + number}" for number in range(load.keys)]
        make = make or partial(make_workload, workload or load.workload)
        self.workload = make(client, recorder, keys, load)
        self.attempts = AttemptLog() if log_attempts else None
        if self.attempts is not None:
            recorder.subscribe(self.attempts)
        self.collector = Collector(recorder, self.attempts)
        self.unread = 0
        """Written keys whose final read failed."""
        self.unread_error: str | None = None
        """The error of one of them."""
        self.final_reads_s: float | None = None
        """How long the final reads took; None if they did not cover every written key."""

    @cached_property
    def keys_by_kind(self) -> Mapping[str, Mapping[str, None]]:
        """The keys for each kind of operation, in order, made to be searched."""
        return {kind: dict.fromkeys(keys) for kind, keys in self.workload.keys_by_kind().items()}

    @property
    def keys(self) -> Sequence[str]:
        """What the run creates, uses and deletes."""
        return self.workload.keys

    def create_keys(self) -> None:
        """Create the run's keys (raises a `ClientError`)."""
        self.workload.preload()

    def start(self) -> None:
        """Start background tasks; operations count once the warm-up, which starts now, is over."""
        now = self.client.clock.now()
        self.recorder.counting_from_ns = now + round(self.load.warmup_s * 1e9)
        self.workload.start_background()

    def session(self, name: str) -> Session:
        """Open a session."""
        return self.workload.session(name)

    def read_finals(self, abandoned: Callable[[], bool], report: Report) -> None:
        """Read every written key at the level that proves loss, repeatedly until the servers have recovered."""
        begin = self.client.clock.now()
        finals = FinalReads(self.client, self.recorder, self.workload, abandoned)
        finals.run(report)
        self.unread, self.unread_error = finals.unread, finals.error
        if not finals.unread:
            self.final_reads_s = (self.client.clock.now() - begin) / 1e9

    def finish(self, clock_error_ns: int | None = 0) -> Sequence[Violation]:
        """Stop background tasks, close the history, and return what only the end could decide."""
        self.workload.stop_background()
        if self.attempts is not None:
            self.attempts.finals["unknown"] += self.unread
        return self.recorder.finish(clock_error_ns)

    def remove_keys(self) -> None:
        """Delete the run's keys (raises a `ClientError`)."""
        self.workload.remove()

    def drain(self) -> Totals:
        """Return what was found and counted since the last call."""
        return self.collector.drain()

    def extra_results(self) -> Mapping[str, object]:
        """Return the workload's results beyond the guarantees, and what could not be read, once the run has ended."""
        unread = {"unread_keys": self.unread, **({"unread_error": self.unread_error} if self.unread_error else {})}
        return {"workloads": sorted(self.workload_names), **self.workload.extra_results(), **unread}


def connect(
    spec: RunSpec,
    clock: Clock,
    stalls: Callable[[Clock], Stalls] | Stalls = NO_STALLS,
    on_history_error: Callable[[str], None] | None = None,
) -> DatabaseRun:
    """Connect to the database, prepare its schema and open the history; everything is closed again if that fails.

    Raises a `ClientError`, or OSError for the history file.
    """
    with ExitStack() as undo:
        client = spec.database.open(spec.options, spec.users, spec.load.seed, clock)
        undo.callback(client.close)
        client.prepare()
        history = _history(spec)
        if history is not None:
            undo.callback(history.abandon)
        judge = Judge(JudgeContext((Source(overwriting=spec.registers == "overwriting"),)))
        recorder = Recorder(clock, judge, history, stalls(clock) if callable(stalls) else stalls, on_history_error)
        made = DatabaseRun(
            client,
            recorder,
            spec.load,
            spec.run,
            worker=spec.worker,
            first_key=spec.first_key,
            workload=spec.workload,
            make=spec.make_workload,
            log_attempts=spec.log_attempts,
        )
        undo.pop_all()
    return made


def _history(spec: RunSpec) -> HistoryWriter | None:
    if spec.history is None:
        return None
    header = Header(
        format=FORMAT,
        version=FORMAT_VERSION,
        run=spec.run,
        worker=spec.worker,
        database=spec.database.name,
        clock_error_ns=spec.clock_error_ns,
        closes=True,
        registers=spec.registers,
        options=dict(spec.shown_options),
    )
    return HistoryWriter(spec.history, header)


def check_fit(database: Database, options: object, load: LoadOptions) -> None:
    """Raise `BadAddress` if the options contradict each other, or the database cannot run the workload.

    No server is needed for that, and none is started.
    """
    check_options(options)
    client = database.open(options, 1, load.seed, database.clock())
    try:
        require_workloads(load.workload, client)
    finally:
        client.close()


def with_local_cluster(database: Database, options: object, log: Callable[[str], None]) -> object:
    """Return the options; if they name no servers, with the address of the local cluster, which is started if needed.

    Raises `BadAddress` before that for options that cannot be used, or a `ClusterError` if it cannot be started.
    """
    check_options(options)
    if database.cluster is None or not database.lacks_address(options):
        return options
    cluster = pkgutil.resolve_name(database.cluster)()
    cluster.ensure(log)
    return with_values(options, cluster.client_options())


def collect_garbage_rarely() -> None:
    """Collect garbage now and rarely from now on, and never what exists already: it lives as long as the process.

    For the command that owns the process, once everything is ready for the load.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)


def added_up(results: Iterator[Mapping[str, Any]] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the extra results of several workloads or workers as one.

    Numbers are added, nested results likewise, lists of words are united, and the first of several words is kept.
    """
    total: dict[str, Any] = {}
    for result in results:
        for name, value in result.items():
            total[name] = _sum(total[name], value) if name in total else value
    return total


def _sum(one: Any, other: Any) -> Any:  # noqa: ANN401 # any result of a workload
    if isinstance(one, Mapping):
        return added_up((one, other))
    if isinstance(one, list):
        return sorted({*one, *other})
    return one + other if isinstance(one, int | float) else one
