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

from stalewatch.checkers.judge import Judge
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import shown
from stalewatch.clients.protocol import Client
from stalewatch.clusters.local_clusters import addresses
from stalewatch.clusters.protocol import ClusterError
from stalewatch.engine.final_reads import FinalReads
from stalewatch.engine.garbage import collect_seldom
from stalewatch.engine.progress import Progress, Report
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust.flags import options_of
from stalewatch.locust.report import HistoryFile
from stalewatch.locust.requests import Requests
from stalewatch.locust.totals import Totals
from stalewatch.metrics.meter import Reading
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.recording.evidence import Evidence
from stalewatch.recording.pulse import Pulse
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.tally import Tally
from stalewatch.workloads import kinds
from stalewatch.workloads.kinds import Session, Workload
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
    pulse: Pulse
    environment: Environment
    history_dir: Path | None
    own_master: bool
    local: bool
    turn: Callable[[str], AbstractContextManager[None]]
    metrics: str | None = None
    meters: dict[str, ProcessMetrics] = field(default_factory=dict)


class Part:
    """Opens in the background as soon as it is made; sessions wait until it is open, or in trouble."""

    def __init__(self, database: str, workload: str, first_key: int, setting: Setting) -> None:
        self.database = database
        self.workload = workload
        self.over = False
        self.trouble: Trouble | None = None
        self.history: Path | None = None
        self.settings: dict[str, Any] = {}
        self._names = [f"{setting.run}-w{setting.worker}-{first_key + number}" for number in range(setting.load.keys)]
        self._setting = setting
        self._client: Client | None = None
        self._recorder: Recorder | None = None
        self._workload: Workload | None = None
        self._tally: Tally | None = None
        self._metrics: ProcessMetrics | None = None
        self._requests: Requests | None = None
        self._evidence: Evidence | None = None
        self._under_way = 0
        self._opened = Event()
        gevent.spawn(self._open)

    def session(self, name: str) -> Session | None:
        """Open a session once the part is open; None where it is in trouble."""
        self._opened.wait()
        return None if self._workload is None or self.trouble is not None else self._workload.session(name)

    def step(self, session: Session, due: int | None) -> None:
        """Let a session do its next operation, and know of it while it is under way."""
        self._under_way += 1
        try:
            session.step(due)
        except OSError as error:  # not the database's: those are answers. The history could not be written.
            self._cannot_write(error)
        finally:
            self._under_way -= 1

    def take(self) -> Totals | None:
        """Hand over what was found and counted since the last time, if there is anything."""
        if self._tally is None:
            return None
        findings, statistics = self._tally.take()
        evidence = self._evidence
        if evidence is not None:
            evidence = evidence.take()
        return Totals(findings, statistics, evidence)

    def _cannot_write(self, error: OSError) -> None:
        self.trouble = Trouble(f"{self.history or error.filename}: {error.strerror or error}", USAGE)

    def readings(self) -> Iterator[Reading]:
        """Yield what Prometheus is shown of this part."""
        if self._metrics is not None:
            yield from self._metrics.readings()

    def result(self) -> Mapping[str, object]:
        """Return what the workload knows beyond the guarantees, once the part has ended."""
        workloads = {"workloads": sorted(kinds.names(self.workload))}
        return {} if self._workload is None else {**self._workload.result(), **workloads}

    def history_file(self) -> HistoryFile | None:
        """Return where its history is, and how much of it was handed over so far."""
        if self.history is None or self._recorder is None:
            return None
        recorder = self._recorder
        path = str(self.history.resolve())
        return HistoryFile(path, recorder.counting_from_ns, recorder.judged, recorder.finished)

    @property
    def counting_from_ns(self) -> int | None:
        """When operations begin to count, after the warm-up; None while the part is not open."""
        return None if self._recorder is None else self._recorder.counting_from_ns

    def _open(self) -> None:
        try:
            # Each workload may need tables of its own.
            with self._setting.turn(self.database), self._setting.turn(f"{self.database} {self.workload}"):
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
        setting, database = self._setting, DATABASES[self.database]
        if database.lacks_address(setting.options):
            self._use_local_cluster()
        with ExitStack() as undo:
            client = database.open(setting.options, MOST_USERS, setting.load.seed, setting.clock)
            undo.callback(client.close)
            client.prepare()
            self.settings = client.settings()
            history = self._history_writer()
            if history is not None:
                undo.callback(history.abandon)
            recorder = Recorder(setting.clock, Judge(), history, setting.pulse)
            workload = kinds.make(self.workload, client, recorder, self._names, setting.load)
            log.info("%s: creating %d keys", self.database, len(workload.keys))
            workload.preload()
            undo.pop_all()
        collect_seldom()
        recorder.counting_from_ns = setting.clock.now() + round(setting.load.warmup_s * 1e9)
        self._requests = Requests(setting.environment, self.database, client.levels(), setting.pulse)
        recorder.listeners.append(self._requests)
        if getattr(setting.options, DRILL, None):
            self._evidence = Evidence()
            recorder.listeners.append(self._evidence)
        self._client, self._recorder, self._tally = client, recorder, Tally(recorder, self._cannot_write)
        if setting.metrics is not None:
            self._measure(recorder, self._tally)
        self._workload = workload
        workload.start()

    def _measure(self, recorder: Recorder, tally: Tally) -> None:
        """Count in the metrics of this process on the database, which its first part makes, and shows."""
        metrics = self._setting.meters.get(self.database)
        if metrics is None:
            metrics = ProcessMetrics(self._setting.run, self.database, tally.gather, self._users)
            self._metrics = self._setting.meters[self.database] = metrics
        else:
            metrics.join(tally.gather)
        tally.watchers.append(lambda findings, statistics: metrics.watch(findings.verdicts, statistics))
        recorder.listeners.append(metrics.by_key)

    def _users(self) -> int:
        """Return how many users of this process are on this database."""
        environment = self._setting.environment
        counts = environment.runner.user_classes_count if environment.runner else {}
        classes = environment.user_classes
        return sum(counts.get(one.__name__, 0) for one in classes if getattr(one, "database", "") == self.database)

    def _use_local_cluster(self) -> None:
        if not self._setting.local:
            raise BadAddress(
                f"no address of {self.database}: give it to the master, or to this worker in its environment; a "
                "cluster of its own on this machine would be another one than the other workers'"
            )
        vars(self._setting.options).update(addresses(self.database, log.info))

    def _history_writer(self) -> HistoryWriter | None:
        setting = self._setting
        if setting.history_dir is None:
            return None
        setting.history_dir.mkdir(parents=True, exist_ok=True)
        workload = "" if self.workload == setting.load.workload else f"-{self.workload.replace(',', '-')}"
        self.history = setting.history_dir / f"{setting.run}-w{setting.worker}-{self.database}{workload}.jsonl"
        header = Header(
            format=FORMAT,
            version=FORMAT_VERSION,
            run=setting.run,
            worker=setting.worker,
            database=self.database,
            clock_error_ns=None,
            closes=True,
            options=shown(options_of([self.database]), setting.options),
        )
        return HistoryWriter(self.history, header)

    def end(self, report: Report, abandoned: Callable[[], bool], clock_error_ns: Callable[[], int | None]) -> None:
        """End the sessions in order, make the final reads, close the history, and delete the keys."""
        self.over = True
        while not self._opened.wait(LOOK_S * 5) and not abandoned():
            report(Progress("connecting, creating keys", 0, len(self._names), "keys"))
        client, recorder, workload = self._client, self._recorder, self._workload
        if client is None or recorder is None or workload is None:
            return
        self._await_sessions(abandoned)
        unread = self._read_finals(FinalReads(client, recorder, abandoned, workload), report, abandoned)
        if self._evidence is not None:
            self._evidence.finals["unknown"] += unread
        workload.stop()
        try:
            found = recorder.finish(clock_error_ns())
        except OSError as error:
            self._cannot_write(error)
        else:
            if self._requests is not None:
                self._requests.tell(found)
            if self._evidence is not None:
                self._evidence.decided(found)
        if not self._setting.options.keep:
            report(Progress("deleting the run's keys", 0, len(workload.keys), "keys"))
            self._clean(workload)
        client.close()

    def _await_sessions(self, abandoned: Callable[[], bool]) -> None:
        with gevent.Timeout(IN_FLIGHT_S, exception=False):
            while self._under_way and not abandoned():
                gevent.sleep(LOOK_S)

    @staticmethod
    def _read_finals(finals: FinalReads, report: Report, abandoned: Callable[[], bool]) -> int:
        """Make the final reads, and return how many keys could not be read."""
        readers = [gevent.spawn(finals.work) for _ in range(finals.readers)]
        while not all(reader.ready() for reader in readers) and not abandoned():
            report(finals.progress())
            gevent.joinall(readers, timeout=LOOK_S * 5)
        return finals.unread

    def _clean(self, workload: Workload) -> None:
        keys = workload.keys
        try:
            workload.remove()
        except ClientError as error:
            self.trouble = Trouble(f"the keys {keys[0]} ... {keys[-1]} are left behind: {error}", UNREACHABLE)
