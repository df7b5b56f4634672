"""The master's metrics: the totals of the run, the workers to scrape, and what the database's servers say."""

import logging
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import gevent
from locust.env import Environment
from locust.runners import MasterRunner, Runner

from stalewatch.locust.interrupts import Interrupts
from stalewatch.locust.roster import State
from stalewatch.locust.run import Run
from stalewatch.locust.secrets import Vault
from stalewatch.locust.totals import nothing_yet
from stalewatch.metrics import families
from stalewatch.metrics.exposition import registry
from stalewatch.metrics.faults import Faults
from stalewatch.metrics.meter import Meter, Reading
from stalewatch.metrics.nodes import NodeMetrics
from stalewatch.metrics.replication_watch import watch
from stalewatch.metrics.server import MetricsServer, Target, discovery

if TYPE_CHECKING:
    from stalewatch.locust.coordinator import Coordinator

log = logging.getLogger("stalewatch")

USAGE = 2
STATES: tuple[State, ...] = ("running", "done", "lost")

_FAULTS: "WeakKeyDictionary[Environment, Faults]" = WeakKeyDictionary()


def faults_of(environment: Environment) -> Faults:
    """Return where to tell of faults, in the master's process."""
    return _FAULTS.setdefault(environment, Faults())


def meter_of(run: str, databases: Collection[str], options: Namespace) -> Meter | None:
    """Return the meter of a new run, with every guarantee at zero, if the options ask for metrics."""
    if not getattr(options, "metrics_port", None):
        return None
    meter, nothing = Meter(run, ",".join(databases)), nothing_yet()
    meter.add(nothing.findings.verdicts, nothing.statistics)
    return meter


class MasterMetrics:
    """Serves them from before the first run until whoever scrapes has seen the verdict's counts."""

    @classmethod
    def serve(
        cls, environment: Environment, runner: Runner, coordinator: "Coordinator", vault: Vault, interrupts: Interrupts
    ) -> None:
        """Serve where the options ask for it; end the process with one line where the port cannot be had."""
        options = environment.parsed_options
        if options is None or not getattr(options, "metrics_port", None):
            return
        try:
            interrupts.hurries(cls(environment, runner, coordinator, vault).hurry)
        except OSError as error:
            print(f"locust: {error.filename}: {error.strerror or error}", file=sys.stderr)
            sys.exit(USAGE)

    def __init__(self, environment: Environment, runner: Runner, coordinator: "Coordinator", vault: Vault) -> None:
        options = environment.parsed_options
        assert options is not None  # noqa: S101 # `serve` has looked
        self._runner = runner
        self._coordinator = coordinator
        self._vault = vault
        self._faults = faults_of(environment)
        self._nodes: list[NodeMetrics] = []
        self._hurried = self._lingers = False
        self._server = MetricsServer(
            options.metrics_host, options.metrics_port, registry(self._readings), sd=discovery(self._targets)
        )
        log.info("metrics: http://%s/metrics, workers: /sd", self._server.address)
        environment.events.test_start.add_listener(self._on_test_start)
        environment.events.quitting.add_listener(self._on_quitting)

    def _on_test_start(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        run = self._coordinator.run
        self._faults.forget()
        self._nodes = []
        if run is None:
            return
        for database in run.databases:
            nodes = NodeMetrics(run.name, database)
            self._nodes.append(nodes)
            options, local = self._vault.opened(run.options), not isinstance(self._runner, MasterRunner)
            gevent.spawn(watch, database, options, nodes, run.concluded, local=local or bool(options.processes))

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Wait for one more scrape: without it Prometheus would never learn of the final reads."""
        self._hurried, self._lingers = False, self._coordinator.run is not None
        if self._lingers:
            self._server.linger(log.info, lambda: self._hurried)
            self._lingers = False

    def hurry(self) -> bool:
        """Wait for no scrape any more, and tell whether one was waited for."""
        self._hurried = True
        return self._lingers

    def _targets(self) -> Iterator[Target]:
        run = self._coordinator.run
        for member in run.roster.running() if run else ():
            if member.metrics is not None:
                yield Target(member.metrics, member.worker)

    def _readings(self) -> Iterator[Reading]:
        run = self._coordinator.run
        if run is not None and run.meter is not None:
            yield from run.meter.readings()
            yield from self._of_run(run, run.meter)
            yield from self._faults.readings(run.meter)
            for nodes in self._nodes:
                yield from nodes.readings()

    def _of_run(self, run: Run, meter: Meter) -> Iterator[Reading]:
        members = list(run.roster)
        states = Counter(member.state for member in members)
        yield meter.reading(families.RUN_INFO, 1)
        yield meter.reading(families.SESSIONS, self._runner.user_count)
        yield meter.reading(families.LOST_WRITES, meter.lost_writes)
        yield meter.reading(families.WORKER_STALLS, sum(member.stall_count for member in members))
        for state in STATES:
            yield meter.reading(families.WORKERS, states[state], state)
