"""One process's part in a run on one database: its client, its keys, its sessions, and their end."""

import logging
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gevent
from gevent.event import Event
from locust.env import Environment

from checkers.findings import Findings
from checkers.judge import Judge
from clients.databases import DATABASES
from clients.errors import BadAddress, ClientError
from clients.options import shown
from clients.protocol import Client
from history.clock import RealClock
from history.operation import FORMAT, FORMAT_VERSION, Header
from history.writer import HistoryWriter
from load.flags import options_of
from load.report import HistoryFile
from load.requests import Requests
from metrics.meter import Reading
from metrics.process import ProcessMetrics
from replication.local.addresses import addresses
from replication.protocol import ClusterError
from workloads.final_reads import FinalReads
from workloads.keys import DISTRIBUTIONS
from workloads.options import MOST_USERS, LoadOptions
from workloads.progress import Progress, Report
from workloads.pulse import Pulse
from workloads.recorder import Recorder
from workloads.register import RegisterSession, payload
from workloads.statistics import Statistics
from workloads.tally import Tally

log = logging.getLogger("stalewatch")

USAGE, UNREACHABLE = 2, 3

IN_FLIGHT_S = 10.0
"""How long the end of a run waits for operations that are under way; drivers' time-outs are shorter."""

LOOK_S = 0.02


class Trouble(NamedTuple):
    """What went wrong, and what it makes of the exit code."""

    text: str
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the parts of one process's share of a run have in common.

    `options` hold the passwords that this process was given. `local` allows to start a cluster on this machine where
    no address is given. `metrics` is where this process serves its metrics, if it does.
    """

    run: str
    worker: int
    options: Namespace
    load: LoadOptions
    clock: RealClock
    pulse: Pulse
    environment: Environment
    history_dir: Path | None
    local: bool
    metrics: str | None = None


class Part:
    """Opens in the background as soon as it is made; sessions wait until it is open, or in trouble."""

    def __init__(self, database: str, first_key: int, setting: Setting) -> None:
        self.database = database
        self.over = False
        self.trouble: Trouble | None = None
        self.history: Path | None = None
        self.settings: dict[str, Any] = {}
        self.keys = [f"{setting.run}-w{setting.worker}-{first_key + number}" for number in range(setting.load.keys)]
        self._setting = setting
        self._choice = DISTRIBUTIONS[setting.load.distribution](self.keys)
        self._client: Client | None = None
        self._recorder: Recorder | None = None
        self._tally: Tally | None = None
        self._metrics: ProcessMetrics | None = None
        self._requests: Requests | None = None
        self._under_way = 0
        self._opened = Event()
        gevent.spawn(self._open)

    def session(self, name: str) -> RegisterSession | None:
        """Open a session once the part is open; None where it is in trouble."""
        self._opened.wait()
        if self._client is None or self._recorder is None or self.trouble is not None:
            return None
        return RegisterSession(name, self._client, self._recorder, self._choice, self._setting.load)

    def step(self, session: RegisterSession, due: int | None) -> None:
        """Let a session do its next operation, and know of it while it is under way."""
        self._under_way += 1
        try:
            session.step(due)
        except OSError as error:  # not the database's: those are answers. The history could not be written.
            self.trouble = Trouble(f"{self.history or error.filename}: {error.strerror or error}", USAGE)
        finally:
            self._under_way -= 1

    def take(self) -> tuple[Findings, Statistics] | None:
        """Hand over what was found and counted since the last time, if there is anything."""
        return None if self._tally is None else self._tally.take()

    def readings(self) -> Iterator[Reading]:
        """Yield what Prometheus is shown of this part."""
        if self._metrics is not None:
            yield from self._metrics.readings()

    def history_file(self) -> HistoryFile | None:
        """Return where its history is, and how much of it was handed over so far."""
        if self.history is None or self._recorder is None:
            return None
        return HistoryFile(str(self.history.resolve()), self._recorder.counting_from_ns, self._recorder.judged)

    def _open(self) -> None:
        try:
            self._connect()
        except (BadAddress, ImportError) as error:
            self.trouble = Trouble(f"{self.database}: {error}", USAGE)
        except (ClientError, ClusterError) as error:
            self.trouble = Trouble(f"{self.database}: {error}", UNREACHABLE)
        except OSError as error:
            self.trouble = Trouble(f"{error.filename or self.database}: {error.strerror or error}", USAGE)
        finally:
            self._opened.set()

    def _connect(self) -> None:
        setting, database = self._setting, DATABASES[self.database]
        if database.lacks_address(setting.options):
            self._use_local_cluster()
        client = database.open(setting.options, MOST_USERS, setting.load.seed, setting.clock)
        client.prepare()
        self.settings = client.settings()
        recorder = Recorder(setting.clock, Judge(), self._history_writer(), setting.pulse)
        recorder.counting_from_ns = setting.clock.now() + round(setting.load.warmup_s * 1e9)
        log.info("%s: creating %d keys", self.database, len(self.keys))
        client.preload(self.keys, payload(setting.load))
        self._requests = Requests(setting.environment, self.database, client.levels(), setting.pulse)
        recorder.listeners.append(self._requests)
        self._client, self._recorder, self._tally = client, recorder, Tally(recorder)
        if setting.metrics is not None:
            self._metrics = self._measure(recorder, self._tally)

    def _measure(self, recorder: Recorder, tally: Tally) -> ProcessMetrics:
        metrics = ProcessMetrics(self._setting.run, self.database, tally.gather, self._users)
        tally.watchers.append(lambda findings, statistics: metrics.watch(findings.verdicts, statistics))
        recorder.listeners.append(metrics.by_key)
        return metrics

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
        self.history = setting.history_dir / f"{setting.run}-w{setting.worker}-{self.database}.jsonl"
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
        self._opened.wait()
        client, recorder = self._client, self._recorder
        if client is None or recorder is None:
            return
        self._await_sessions(abandoned)
        self._read_finals(client, recorder, report, abandoned)
        found = recorder.finish(clock_error_ns())
        if self._requests is not None:
            self._requests.tell(found)
        if not self._setting.options.keep:
            report(Progress("deleting the run's keys", 0, len(self.keys), "keys"))
            self._clean(client)
        client.close()

    def _await_sessions(self, abandoned: Callable[[], bool]) -> None:
        with gevent.Timeout(IN_FLIGHT_S, exception=False):
            while self._under_way and not abandoned():
                gevent.sleep(LOOK_S)

    def _read_finals(self, client: Client, recorder: Recorder, report: Report, abandoned: Callable[[], bool]) -> None:
        finals = FinalReads(client, recorder, abandoned)
        readers = [gevent.spawn(finals.work) for _ in range(finals.readers)]
        while not all(reader.ready() for reader in readers) and not abandoned():
            report(finals.progress())
            gevent.joinall(readers, timeout=LOOK_S * 5)

    def _clean(self, client: Client) -> None:
        try:
            client.remove(self.keys)
        except ClientError as error:
            self.trouble = Trouble(f"the keys {self.keys[0]} ... {self.keys[-1]} are left behind: {error}", UNREACHABLE)
