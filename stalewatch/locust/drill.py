"""Drills under Locust: `--drill NAME` on the master breaks the cluster while any number of workers loads it.

The master does the drill, for it is one; workers report what recovery times are made of, beside all else.
"""

import logging
import sys
from argparse import Namespace
from contextlib import ExitStack
from typing import Any

import gevent
from gevent.event import Event
from locust import events
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import Runner, WorkerRunner

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import parse_options
from stalewatch.clusters.protocol import Cluster, ClusterError
from stalewatch.drills.catalogue import FLAGS, BadDrill, ScheduledDrill, apply_options
from stalewatch.drills.clusters import prepared_cluster
from stalewatch.drills.drill_run import DrillRun
from stalewatch.drills.recovery import LoadTimes
from stalewatch.drills.timeline import DrillCutShort
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Fault, Header
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust import flags
from stalewatch.locust.coordinator import coordinator_of
from stalewatch.locust.master_metrics import faults_of
from stalewatch.locust.part import UNREACHABLE, USAGE
from stalewatch.locust.run import Aside, Run
from stalewatch.recording.attempts import AttemptLog

log = logging.getLogger("stalewatch")

LOOK_S = 0.1
MASTER = -1
"""The worker number of the master's own history file, which holds the faults."""


def add_arguments(parser: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add the options of a drill."""
    parser.add_argument(
        "--drill",
        metavar="NAME",
        help="break the cluster: a name of `stalewatch drill --list`",
        include_in_web_ui=False,
    )
    for flag, options in FLAGS.items():
        parser.add_argument(flag, **options, include_in_web_ui=False)


class Notes:
    """Notes faults by the master's clock."""

    def __init__(self, clock: RealClock) -> None:
        self._clock = clock

    def begin_fault(self, fault: str, node: str) -> Fault:
        """Note that a fault is on at a node from now on."""
        return Fault(fault=fault, node=node, start=self._clock.now(), end=None)

    def end_fault(self, noted: Fault) -> None:
        """Note that it is over now."""
        noted.end = self._clock.now()


class Drilling:
    """One run's drill, in a greenlet beside it."""

    def __init__(self, environment: Environment, run: Run, chosen: ScheduledDrill, cluster: Cluster) -> None:
        (database,) = run.databases
        clock = RealClock()
        self._run = run
        self._over = Event()
        self._trouble: Exception | None = None
        self._begun: int | None = None
        self._drill = DrillRun(
            chosen,
            cluster,
            cluster,
            Notes(clock),
            database=database,
            options=parse_options(DATABASES[database].options, run.options),
            run=run.name,
            clock=clock,
            faults=faults_of(environment),
            log=log.info,
        )
        gevent.spawn(self._go)

    def _go(self) -> None:
        run, drill = self._run, self._drill
        try:
            with drill.guarded():
                begun = self._begun = self._await_load()
                if begun is not None:
                    drill.perform(begun, lambda: run.ending)
                if begun is None or drill.timeline.cut_short:
                    raise DrillCutShort("the load ended before the drill did; give -t more")
        except (ClientError, ClusterError) as error:
            self._trouble = error
            log.error("the drill cannot be done: %s", error)  # noqa: TRY400 # the message says it all
        except Exception as error:
            self._trouble = error
            log.exception("the drill ended by a fault of its own")
        finally:
            drill.healed()
            self._over.set()

    def _await_load(self) -> int | None:
        """Return when the first worker's operations began to count; None if the run ends before."""
        while not self._run.ending:
            counting = [member.counting_from_ns for member in self._run.roster if member.counting_from_ns]
            if counting:
                return min(counting)
            gevent.sleep(LOOK_S)
        return None

    def end(self) -> Aside:
        """Wait until everything is healed and the replicas agree, and return what was measured."""
        self._over.wait()
        self._drill.close(lambda: self._run.hurried)
        self._write()
        attempts = self._run.totals.attempts or AttemptLog()
        load = LoadTimes(self._begun or self._run.stopped_ns, self._run.stopped_ns)
        read_finally = attempts.read_finally and self._run.complete
        result = self._drill.result(attempts, load, read_finally=read_finally, error=self._trouble)
        return Aside(result, UNREACHABLE if self._trouble or self._drill.timeline.failure else 0)

    def _write(self) -> None:
        """Write the faults as a history of their own beside the workers'."""
        folder = flags.path(self._run.options, "history_dir")
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
            log.error("%s: %s", error.filename or folder, error.strerror or error)  # noqa: TRY400 # it says it all


def take_part(environment: Environment, runner: Runner | None, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
    """Make the cluster ready, on the master, and begin the drill with every run."""
    options = environment.parsed_options
    if runner is None or options is None or not options.drill or isinstance(runner, WorkerRunner):
        return
    chosen, cluster = _made_ready(environment, options)

    def begin(**_: Any) -> None:  # noqa: ANN401 # Locust's extras
        coordinator = coordinator_of(environment)
        if coordinator is None or coordinator.run is None:
            raise StopTest("there is no run to do a drill beside")
        coordinator.run.beside = Drilling(environment, coordinator.run, chosen, cluster)

    # Locust's init event goes on to the coordinator, whose run must have begun before the drill does.
    gevent.spawn(environment.events.test_start.add_listener, begin)


def _made_ready(environment: Environment, options: Namespace) -> tuple[ScheduledDrill, Cluster]:
    """Return the drill and the cluster, whole; end the process with one line where that cannot be."""
    databases = sorted({str(getattr(one, "database", "")) for one in environment.user_classes})
    try:
        if len(databases) != 1:
            raise BadDrill(f"--drill {options.drill}: a drill breaks one database, and these users load {databases}")
        options.database, options.fault = databases[0], options.drill
        chosen = ScheduledDrill.from_arguments(options)
        apply_options(options, chosen.drill)
        lent = ExitStack()
        cluster = lent.enter_context(prepared_cluster(options, chosen.drill, log.info))
        if cluster is None:
            raise BadDrill(f"--drill {options.drill}: the simulated store is broken by: stalewatch drill memory")
        environment.events.quit.add_listener(lambda **_: lent.close())
    except (BadDrill, BadAddress, OSError) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(USAGE)
    except (ClientError, ClusterError) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(UNREACHABLE)
    return chosen, cluster


events.init_command_line_parser.add_listener(add_arguments)
events.init.add_listener(take_part)
