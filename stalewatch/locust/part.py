"""One process's part in a run on one database: its client, its keys, its sessions, and their end."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.event import Event
from locust.env import Environment

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import parse_options, public_values
from stalewatch.clusters.protocol import ClusterError
from stalewatch.engine.database_run import DatabaseRun, RunSpec, collect_garbage_rarely, connect, with_local_cluster
from stalewatch.engine.threads import Progress, Report
from stalewatch.history.clock import RealClock
from stalewatch.locust.flags import shown_load
from stalewatch.locust.report import HistoryFile
from stalewatch.locust.requests import Requests
from stalewatch.metrics.meter import Reading
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.recording.statistics import StallDetector
from stalewatch.recording.totals import Totals
from stalewatch.workloads import Session
from stalewatch.workloads.options import MOST_USERS, LoadOptions

log = logging.getLogger("stalewatch")

USAGE, UNREACHABLE = 2, 3

DRILL = "drill"
"""The option that names a drill; with one, a worker reports what recovery times are made of too."""

IN_FLIGHT_S = 10.0
"""How long the end of a run waits for operations that are under way: longer than drivers' usual time-outs."""

LOOK_S = 0.02


class Trouble(NamedTuple):
    """What went wrong, and what it makes of the exit code."""

    text: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the parts of one process's share of a run have in common.

    `options` hold the passwords that this process was given. `own_master`: there are no workers. `local`: a cluster may
    be started on this machine where no address is given. `turn` holds up who opens a database until it may. `metrics`
    is where this process serves its metrics, if it does; `meters` are those metrics, by database.
    """

    run: str
    worker: int
    options: Namespace
    load: LoadOptions
    clock: RealClock
    stalls: StallDetector
    environment: Environment
    history_dir: Path | None
    own_master: bool
    local: bool
    turn: Callable[[str], AbstractContextManager[None]]
    metrics: str | None = None
    meters: dict[str, ProcessMetrics] = field(default_factory=dict)


class DatabaseUsers:
    """The run on one database as this worker's users see it: opened in the background; sessions wait until it is open."""

    def __init__(self, database: str, workload: str, first_key: int, setting: Setting) -> None:
        self.database = database
        self.over = False
        self.trouble: Trouble | None = None
        self.history: Path | None = None
        self.settings: dict[str, Any] = {}
        self._workload = workload
        self._first_key = first_key
        self._setting = setting
        self._run: DatabaseRun | None = None
        self._metrics: ProcessMetrics | None = None
        self._under_way = 0
        self._opened = Event()
        gevent.spawn(self._open)

    def session(self, name: str) -> Session | None:
        """Open a session once the database is open; return None if it cannot be opened."""
        self._opened.wait()
        return None if self._run is None or self.trouble is not None else self._run.session(name)

    def step(self, session: Session, due: int | None) -> None:
        """Run a session's next operation, which counts as in flight meanwhile."""
        self._under_way += 1
        try:
            session.step(due)
        except OSError as error:  # not the database's: those are answers. The history could not be written.
            self._cannot_write(error)
        finally:
            self._under_way -= 1

    def drain(self) -> Totals | None:
        """Return what was found and counted since the last call, if the database is open."""
        return None if self._run is None else self._run.drain()

    def _cannot_write(self, error: OSError) -> None:
        self.trouble = Trouble(f"{self.history or error.filename}: {error.strerror or error}", USAGE)

    def readings(self) -> Iterator[Reading]:
        """Yield the metrics of this database."""
        if self._metrics is not None:
            yield from self._metrics.readings()

    def extra_results(self) -> Mapping[str, object]:
        """Return what the workload knows beyond the guarantees, once the run has ended."""
        return {} if self._run is None else self._run.extra_results()

    def history_file(self) -> HistoryFile | None:
        """Return where the history is, and how much of it was reported so far."""
        if self.history is None or self._run is None:
            return None
        recorder = self._run.recorder
        path = str(self.history.resolve())
        return HistoryFile(path, recorder.counting_from_ns, recorder.judged, recorder.finished)

    @property
    def counting_from_ns(self) -> int | None:
        """When operations start to count, after the warm-up; None while the database is not open."""
        return None if self._run is None else self._run.recorder.counting_from_ns

    def _open(self) -> None:
        try:
            # Each workload may need tables of its own.
            with self._setting.turn(self.database), self._setting.turn(f"{self.database} {self._workload}"):
                if not self.over:
                    self._connect()
        except (BadAddress, ImportError) as error:
            self.trouble = Trouble(f"{self.database}: {error}", USAGE)
        except (ClientError, ClusterError) as error:
            self.trouble = Trouble(f"{self.database}: {error}", UNREACHABLE)
        except OSError as error:
            self.trouble = Trouble(f"{error.filename or self.database}: {error.strerror or error}", USAGE)
        except Exception as error:
            log.exception("%s cannot be opened", self.database)
            self.trouble = Trouble(f"{self.database}: {type(error).__name__}: {error}", USAGE)
        finally:
            self._opened.set()

    def _connect(self) -> None:
        setting = self._setting
        with ExitStack() as undo:
            run = connect(self._spec(), setting.clock, setting.stalls, self._cannot_write)
            undo.callback(run.client.close)
            self.settings = run.client.settings()
            log.info("%s: creating %d keys", self.database, len(run.keys))
            run.create_keys()
            undo.pop_all()
        collect_garbage_rarely()
        run.recorder.subscribe(Requests(setting.environment, self.database, run.client.levels(), setting.stalls))
        if setting.metrics is not None:
            self._measure(run)
        run.start()
        self._run = run

    def _spec(self) -> RunSpec:
        setting, database = self._setting, DATABASES[self.database]
        options: object = parse_options(database.options, setting.options)
        if database.lacks_address(options) and not setting.local:
            raise BadAddress(
                f"no address of {self.database}: give it to the master, or to this worker in its environment; a "
                "cluster of its own on this machine would be another one than the other workers'"
            )
        options = with_local_cluster(database, options, log.info)
        self.history = self._history_path()
        return RunSpec(
            run=setting.run,
            worker=setting.worker,
            database=database,
            options=options,
            load=setting.load,
            workload=self._workload,
            users=MOST_USERS,
            first_key=self._first_key,
            history=self.history,
            shown_options={**shown_load(setting.load), **public_values(options)},
            clock_error_ns=None,
            log_attempts=bool(getattr(setting.options, DRILL, None)),
        )

    def _history_path(self) -> Path | None:
        setting = self._setting
        if setting.history_dir is None:
            return None
        setting.history_dir.mkdir(parents=True, exist_ok=True)
        workload = "" if self._workload == setting.load.workload else f"-{self._workload.replace(',', '-')}"
        return setting.history_dir / f"{setting.run}-w{setting.worker}-{self.database}{workload}.jsonl"

    def _measure(self, run: DatabaseRun) -> None:
        """Count in this process's metrics of the database; the first of its workloads shows them."""
        metrics = self._setting.meters.get(self.database)
        if metrics is None:
            metrics = ProcessMetrics(self._setting.run, self.database, self._users)
            self._metrics = self._setting.meters[self.database] = metrics
        metrics.watch(run)

    def _users(self) -> int:
        """Return how many users of this process load this database."""
        environment = self._setting.environment
        counts = environment.runner.user_classes_count if environment.runner else {}
        classes = environment.user_classes
        return sum(counts.get(one.__name__, 0) for one in classes if getattr(one, "database", "") == self.database)

    def end(self, report: Report, abandoned: Callable[[], bool], clock_error_ns: Callable[[], int | None]) -> None:
        """End the sessions in order, make the final reads, close the history, and delete the keys."""
        self.over = True
        while not self._opened.wait(LOOK_S * 5) and not abandoned():
            report(Progress("connecting, creating keys", 0, self._setting.load.keys, "keys"))
        run = self._run
        if run is None:
            return
        self._await_sessions(abandoned)
        run.read_finals(abandoned, report)
        try:
            run.finish(clock_error_ns())
        except OSError as error:
            self._cannot_write(error)
        if not self._setting.options.keep:
            report(Progress("deleting the run's keys", 0, len(run.keys), "keys"))
            self._remove_keys(run)
        run.client.close()

    def _await_sessions(self, abandoned: Callable[[], bool]) -> None:
        with gevent.Timeout(IN_FLIGHT_S, exception=False):
            while self._under_way and not abandoned():
                gevent.sleep(LOOK_S)

    def _remove_keys(self, run: DatabaseRun) -> None:
        keys = run.keys
        try:
            run.remove_keys()
        except ClientError as error:
            self.trouble = Trouble(f"keys left in the database: {keys[0]} ... {keys[-1]}: {error}", UNREACHABLE)
