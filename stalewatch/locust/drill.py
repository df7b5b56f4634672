"""Drills under Locust: with `--drill NAME` the master breaks the cluster while any number of workers loads it.

The drill runs in the master because there is only one. Workers report their attempts, from which recovery times are
computed.
"""

import logging
import sys
from argparse import Namespace
from contextlib import ExitStack
from typing import Any, NamedTuple

import gevent
from gevent.event import Event
from locust.env import Environment
from locust.exception import StopTest

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import parse_options
from stalewatch.clusters.protocol import Cluster, ClusterError
from stalewatch.drills.catalogue import BadDrill, ScheduledDrill, apply_options
from stalewatch.drills.clusters import prepared_cluster
from stalewatch.drills.drill_run import DrillRun
from stalewatch.drills.recovery import LoadTimes
from stalewatch.drills.timeline import DrillCutShort
from stalewatch.exit_codes import UNREACHABLE, USAGE
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Fault, Header
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust.master import Master
from stalewatch.locust.master_run import BackgroundResult, MasterRun
from stalewatch.locust.metrics import faults_of
from stalewatch.locust.options import path
from stalewatch.metrics.nodes import Faults
from stalewatch.recording.attempts import AttemptLog

log = logging.getLogger("stalewatch")

LOOK_S = 0.1

OPENING_NS = 10_000_000_000
"""How long a drill waits for other workers to open the database, once the first has."""

MASTER = -1
"""The worker number in the master's history file, which contains the faults."""


class FaultRecorder:
    """Creates the history's faults, with times of the master's clock."""

    def __init__(self, clock: RealClock) -> None:
        self._clock = clock

    def begin_fault(self, fault: str, node: str) -> Fault:
        """Return a fault that starts now."""
        return Fault(fault=fault, node=node, start=self._clock.now(), end=None)

    def end_fault(self, noted: Fault) -> None:
        """End a fault now."""
        noted.end = self._clock.now()


class PreparedDrill(NamedTuple):
    """A drill, and the running cluster that it breaks."""

    chosen: ScheduledDrill
    cluster: Cluster


class DrillTask:
    """The drill of one run, in its own greenlet."""

    def __init__(self, run: MasterRun, prepared: PreparedDrill, faults: Faults) -> None:
        (database,) = run.databases
        clock = RealClock()
        self._run = run
        self._over = Event()
        self._failure: Exception | None = None
        self._started_ns: int | None = None
        self._clock = clock
        self._drill = DrillRun(
            prepared.chosen,
            prepared.cluster,
            prepared.cluster,
            FaultRecorder(clock),
            database=database,
            options=parse_options(DATABASES[database].options, run.options),
            run=run.name,
            clock=clock,
            faults=faults,
            log=log.info,
        )
        gevent.spawn(self._perform)

    def _perform(self) -> None:
        run, drill = self._run, self._drill
        try:
            with drill.guarded():
                started_ns = self._started_ns = self._await_load()
                if started_ns is not None:
                    drill.perform(started_ns, lambda: run.ending)
                if started_ns is None or drill.timeline.cut_short:
                    raise DrillCutShort("the load ended before the drill did; give -t more")
        except (ClientError, ClusterError) as error:
            self._failure = error
            log.error("the drill failed: %s", error)  # noqa: TRY400 # the message is complete
        except Exception as error:
            self._failure = error
            log.exception("the drill failed with an unexpected error")
        finally:
            drill.healed()
            self._over.set()

    def _await_load(self) -> int | None:
        """Return when the operations of all workers started to count; None if the run ends before.

        A worker that still connects when the fault begins could not, and a worker without users never does.
        """
        while not self._run.ending:
            workers = self._run.workers.running()
            counting = [worker.counting_from_ns for worker in workers if worker.counting_from_ns]
            if counting and len(counting) == len(workers):
                return max(counting)
            if counting and (now := self._clock.now()) > min(counting) + OPENING_NS:
                return now
            gevent.sleep(LOOK_S)
        return None

    def end(self) -> BackgroundResult:
        """Wait until every fault is undone and the replicas agree, and return what was measured."""
        self._over.wait()
        self._drill.close(lambda: self._run.hurried)
        self._write_faults()
        attempts = self._run.totals.attempts or AttemptLog()
        load = LoadTimes(self._started_ns or self._run.stopped_ns, self._run.stopped_ns)
        read_finally = attempts.read_finally and self._run.complete
        result = self._drill.result(attempts, load, read_finally=read_finally, error=self._failure)
        return BackgroundResult(result, UNREACHABLE if self._failure or self._drill.timeline.failure else 0)

    def _write_faults(self) -> None:
        """Write the faults to a history file of their own, next to the workers'."""
        folder = path(self._run.options, "history_dir")
        if folder is None:
            return
        header = Header(
            format=FORMAT,
            version=FORMAT_VERSION,
            run=self._run.name,
            worker=MASTER,
            database=",".join(self._run.databases),
            clock_error_ns=0,
            closes=True,
        )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with HistoryWriter(folder / f"{self._run.name}-faults.jsonl", header) as history:
                for fault in sorted(self._drill.timeline.faults, key=lambda one: (one.end is None, one.end)):
                    history.add(fault)
        except OSError as error:
            log.error("%s: %s", error.filename or folder, error.strerror or error)  # noqa: TRY400 # it is complete


def prepare(environment: Environment, namespace: Namespace) -> PreparedDrill:
    """Return the drill that the options name, and its cluster, started; exit with a message if that fails."""
    databases = sorted({str(getattr(one, "database", "")) for one in environment.user_classes})
    try:
        if len(databases) != 1 or databases[0] not in DATABASES:
            raise BadDrill(f"--drill {namespace.drill}: a drill breaks one database, but these users load {databases}")
        namespace.database, namespace.fault = databases[0], namespace.drill
        chosen = ScheduledDrill.from_arguments(namespace)
        apply_options(namespace, chosen.drill)
        resources = ExitStack()
        cluster = resources.enter_context(prepared_cluster(namespace, chosen.drill, log.info))
        if cluster is None:
            raise BadDrill(f"--drill {namespace.drill}: to break the simulated store, use `stalewatch drill memory`")
        environment.events.quit.add_listener(lambda **_: resources.close())
    except (BadDrill, BadAddress, OSError) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(USAGE)
    except (ClientError, ClusterError) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(UNREACHABLE)
    return PreparedDrill(chosen, cluster)


def run_with_every_test(environment: Environment, master: Master, prepared: PreparedDrill) -> None:
    """Start the drill with every test; call this after the master listens, which has to start the run first."""

    def start(**_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if master.run is None:
            raise StopTest("the drill cannot start: there is no run")
        master.run.background = DrillTask(master.run, prepared, faults_of(environment))

    environment.events.test_start.add_listener(start)
