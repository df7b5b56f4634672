"""One worker's database run, from opening it to deleting its keys, and its operations as Locust's requests."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.runners import MasterRunner, Runner
from locust.stats import StatsError

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import public_values
from stalewatch.clients.protocol import Database, Levels
from stalewatch.clusters.protocol import ClusterError
from stalewatch.engine.database_run import (
    DatabaseRun,
    RunSpec,
    check_fit,
    collect_garbage_rarely,
    connect,
    with_local_cluster,
)
from stalewatch.engine.process_limits import require_files
from stalewatch.engine.threads import Progress, Report
from stalewatch.exit_codes import UNREACHABLE, USAGE
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Append, Draw, Fault, Operation, Read, Write
from stalewatch.locust import messages
from stalewatch.locust.messages import HistoryFile
from stalewatch.locust.options import DATABASES, Secrets, public_load
from stalewatch.metrics.meter import Reading
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.recording.statistics import StallDetector
from stalewatch.recording.totals import Totals
from stalewatch.watch.misuse import Misuse
from stalewatch.workloads.options import LoadOptions

log = logging.getLogger("stalewatch")

IN_FLIGHT_S = 10.0
"""How long the end of a run waits for operations in flight; drivers' timeouts are usually shorter."""

LOOK_S = 0.02

VIOLATION = "violation"
"""The request type under which Locust shows violations."""


class RunFailure(NamedTuple):
    """What went wrong in a worker's run, and the exit code for it."""

    text: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class WorkerRunSettings:
    """What all databases of a worker's run share.

    `options` are without the secrets of this process. `users` are this process's share. `own_master` is true if
    there are no workers, `local` if a local cluster may be started for a database without an address. Opening a
    database waits inside `turn`. `metrics` is the address of this process's metrics, if it serves any, and `meters` are
    the metrics by database.
    """

    run: str
    worker: int
    options: Namespace
    secrets: Secrets
    load: LoadOptions
    clock: RealClock
    stalls: StallDetector
    environment: Environment
    history_dir: Path | None
    users: int
    own_master: bool
    local: bool
    turn: Callable[[str], AbstractContextManager[None]]
    claimed: dict[str, str] = field(default_factory=dict)
    """By name, the user class that an entity of the user's own belongs to."""
    metrics: str | None = None
    meters: dict[str, ProcessMetrics] = field(default_factory=dict)


class OpenDatabase:
    """A database run for this worker's users: it is opened in the background, and sessions wait until it is open."""

    def __init__(self, database: str, workload: str, first_key: int, settings: WorkerRunSettings) -> None:
        self.database = database
        self.workload = workload
        self.over = False
        self.run: DatabaseRun | None = None
        """None until the database is open, and if it cannot be opened."""
        self.failure: RunFailure | None = None
        self.history_failure: RunFailure | None = None
        """Why the history is incomplete, which does not end the run."""
        self.driver_settings: dict[str, Any] = {}
        self._mistaken = False
        """Whether a mistake ends the test; nothing needs to be read any more then."""
        self._first_key = first_key
        self._settings = settings
        self._history: Path | None = None
        self._metrics: ProcessMetrics | None = None
        self.in_flight = 0
        """How many operations have begun and not ended."""
        self._opened = Event()
        gevent.spawn(self._open)

    def wait_until_open(self) -> DatabaseRun | None:
        """Return the run once the database is open; None if it cannot be opened."""
        self._opened.wait()
        return None if self.failure is not None else self.run

    def perform(self, operation: Callable[..., None], *arguments: object) -> None:
        """Perform a session's operation, which counts as in flight meanwhile."""
        self.in_flight += 1
        try:
            operation(*arguments)
        finally:
            self.in_flight -= 1

    def fail(self, text: str) -> None:
        """End the test because of a mistake in the locustfile or the options."""
        self._mistaken = True
        self.failure = self.failure or RunFailure(f"{self.database}: {text}", USAGE)

    def drain(self) -> Totals | None:
        """Return what was found and counted since the last call, if the database is open."""
        return None if self.run is None else self.run.drain()

    def readings(self) -> Iterator[Reading]:
        """Yield the metrics of this database."""
        if self._metrics is not None:
            yield from self._metrics.readings()

    def extra_results(self) -> Mapping[str, object]:
        """Return the workload's results beyond the guarantees, once the run has ended."""
        return {} if self.run is None else self.run.extra_results()

    def history_file(self) -> HistoryFile | None:
        """Return where the history is, and how much of it was reported so far."""
        if self._history is None or self.run is None:
            return None
        recorder = self.run.recorder
        path = str(self._history.resolve())
        return HistoryFile(path, recorder.counting_from_ns, recorder.judged, recorder.finished)

    @property
    def counting_from_ns(self) -> int | None:
        """When operations start to count, after the warm-up; None while the database is not open."""
        return None if self.run is None else self.run.recorder.counting_from_ns

    def _on_history_error(self, text: str) -> None:
        self.history_failure = RunFailure(f"the run goes on without its history: {text}", 0)

    def _open(self) -> None:
        try:
            # Each workload may need tables of its own.
            with self._settings.turn(self.database), self._settings.turn(f"{self.database} {self.workload}"):
                if not self.over:
                    self._connect()
        except (BadAddress, ImportError, Misuse) as error:
            self.failure = RunFailure(f"{self.database}: {error}", USAGE)
        except (ClientError, ClusterError) as error:
            self.failure = RunFailure(f"{self.database}: {error}", UNREACHABLE)
        except OSError as error:
            self.failure = RunFailure(f"{error.filename or self.database}: {error.strerror or error}", USAGE)
        except Exception as error:
            log.exception("cannot open %s", self.database)
            self.failure = RunFailure(f"{self.database}: {type(error).__name__}: {error}", USAGE)
        finally:
            self._opened.set()

    def _connect(self) -> None:
        settings = self._settings
        with ExitStack() as undo:
            run = connect(self._spec(), settings.clock, settings.stalls, self._on_history_error)
            undo.callback(run.client.close)
            self.driver_settings = run.client.settings()
            log.info("%s: creating %d keys", self.database, len(run.keys))
            run.create_keys()
            undo.pop_all()
        collect_garbage_rarely()
        run.recorder.subscribe(self._request_events(run.client.levels()))
        if settings.metrics is not None:
            self._add_metrics(run)
        run.start()
        self.run = run

    def _request_events(self, levels: Levels | None) -> "RequestEvents":
        return RequestEvents(self._settings.environment, self.database, levels, self._settings.stalls)

    def _spec(self) -> RunSpec:
        settings, database = self._settings, DATABASES[self.database]
        options: object = settings.secrets.options_of(database, settings.options)
        if database.lacks_address(options) and not settings.local:
            raise BadAddress(
                f"no address of {self.database}: pass it to the master, or to this worker in its environment; a local "
                "cluster started here would not be the one that other workers use"
            )
        if database.lacks_address(options):
            check_fit(database, options, replace(settings.load, workload=self.workload))
        require_files(database, options, settings.users)
        options = with_local_cluster(database, options, log.info)
        self._history = self._history_path()
        return RunSpec(
            run=settings.run,
            worker=settings.worker,
            database=database,
            options=options,
            load=settings.load,
            workload=self.workload,
            users=int(getattr(settings.options, messages.TARGET, 1) or 1),
            first_key=self._first_key,
            history=self._history,
            shown_options={**public_load(settings.load), **public_values(options)},
            clock_error_ns=None,
            log_attempts=bool(settings.options.drill),
        )

    def _history_path(self) -> Path | None:
        settings = self._settings
        if settings.history_dir is None:
            return None
        settings.history_dir.mkdir(parents=True, exist_ok=True)
        suffix = self._history_suffix()
        return settings.history_dir / f"{settings.run}-w{settings.worker}-{self.database}{suffix}.jsonl"

    def _history_suffix(self) -> str:
        """Return what tells this history from those of other workloads."""
        return "" if self.workload == self._settings.load.workload else f"-{self.workload.replace(',', '-')}"

    def _add_metrics(self, run: DatabaseRun) -> None:
        """Count in this process's metrics of the database; the first of its workloads exposes them."""
        metrics = self._settings.meters.get(self.database)
        if metrics is None:
            metrics = ProcessMetrics(self._settings.run, self.database, self._users)
            self._metrics = self._settings.meters[self.database] = metrics
        metrics.watch(run)

    def _users(self) -> int:
        """Return how many users of this process load this database."""
        environment = self._settings.environment
        counts = environment.runner.user_classes_count if environment.runner else {}
        classes = environment.user_classes
        return sum(counts.get(one.__name__, 0) for one in classes if getattr(one, "database", "") == self.database)

    def end(self, report: Report, abandoned: Callable[[], bool], clock_error_ns: Callable[[], int | None]) -> None:
        """End the sessions, make the final reads, close the history, and delete the keys."""
        self.over = True
        while not self._opened.wait(LOOK_S * 5) and not abandoned():
            report(Progress("connecting, creating keys", 0, self._settings.load.keys, "keys"))
        run = self.run
        if run is None:
            return
        self._await_sessions(abandoned)
        run.read_finals(lambda: abandoned() or self._mistaken, report)
        run.finish(clock_error_ns())
        if not self._settings.options.keep:
            report(Progress("deleting the run's keys", 0, len(run.keys), "keys"))
            self._remove_keys(run)
        run.client.close()

    def _await_sessions(self, abandoned: Callable[[], bool]) -> None:
        with gevent.Timeout(IN_FLIGHT_S, exception=False):
            while self.in_flight and not abandoned():
                gevent.sleep(LOOK_S)

    def _remove_keys(self, run: DatabaseRun) -> None:
        keys = run.keys
        try:
            run.remove_keys()
        except ClientError as error:
            text = f"keys left in the database: {keys[0]} ... {keys[-1]}: {error}"
            self.failure = RunFailure(text, UNREACHABLE)


class RequestEvents:
    """Operations as Locust's requests, and violations as entries of their own in Locust's statistics.

    An operation that was in flight while this process stalled has no response time: it would be ours.
    """

    def __init__(self, environment: Environment, database: str, levels: Levels | None, stalls: StallDetector) -> None:
        """Name operations after their levels; without any, leave them out."""
        self._environment = environment
        self._fire: Callable[..., None] = environment.events.request.fire
        self._database = database
        self._names: dict[type[Operation], str] = {}
        if levels is not None:
            self._names[Read] = f"read {levels.read}"
            self._names.update({kind: f"{kind.__name__.lower()} {levels.write}" for kind in (Write, Append, Draw)})
        self._stalls = stalls

    def on_operation(self, operation: Operation, violations: Sequence[Violation]) -> None:
        """Fire Locust's request event for an operation, and count its violations."""
        name = self._names.get(type(operation))
        if name is not None and not isinstance(operation, Fault):
            end = operation.end
            timed = end is not None and not self._stalls.overlaps(operation.start, end)
            self._fire(
                request_type=self._database,
                name=name,
                response_time=(end - operation.start) / 1e6 if timed and end is not None else None,
                response_length=0,
                exception=None if operation.outcome == "ok" else f"{operation.outcome}: {operation.error}",
                context={},
            )
        if violations:
            self.on_end(violations)

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count violations: one entry per guarantee, which adds nothing to Locust's totals."""
        stats = self._environment.stats
        for violation in violations:
            name, cause = violation.guarantee, violation.cause or "violated"
            entry = stats.get(name, VIOLATION)
            staleness_ns = violation.staleness_ns
            entry.log(None if staleness_ns is None else staleness_ns / 1e6, 0)  # type: ignore[arg-type] # as for requests without a time
            entry.log_error(None)
            key = StatsError.create_key(VIOLATION, name, cause)
            error = stats.errors.get(key)
            if error is None:
                error = stats.errors[key] = StatsError(VIOLATION, name, cause)
            error.occurred()


def servers_of(database: Database, namespace: Namespace, secrets: Secrets, runner: Runner) -> object | None:
    """Return the options that lead to a database's servers; None if only the workers know the address.

    Workers on other machines may have their own address, and a local cluster here would not be theirs. Raises a
    `ClusterError`.
    """
    options: object = secrets.options_of(database, namespace)
    here = not isinstance(runner, MasterRunner) or bool(namespace.processes)
    if database.lacks_address(options) and not here:
        return None
    return with_local_cluster(database, options, log.info)
