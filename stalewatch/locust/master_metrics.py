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

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import parse_options
from stalewatch.clients.protocol import Database
from stalewatch.clusters.protocol import ClusterError
from stalewatch.engine.database_run import with_local_cluster
from stalewatch.locust.interrupts import Interrupts
from stalewatch.locust.roster import State
from stalewatch.locust.run import Run
from stalewatch.locust.secrets import Vault
from stalewatch.metrics.meter import Meter, Reading
from stalewatch.metrics.nodes import Faults, NodeMetrics
from stalewatch.metrics.server import MetricsServer, Target, discovery, registry
from stalewatch.metrics.serving import poll_servers, run_readings
from stalewatch.recording.totals import no_totals

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
    meter = Meter(run, ",".join(databases))
    meter.add(no_totals())
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
            row = DATABASES[database]
            options = self._options(row, run)
            if options is not None:
                gevent.spawn(poll_servers, row, options, nodes, run.concluded)

    def _options(self, row: Database, run: Run) -> object | None:
        """Return where the servers are; None if only the workers know.

        Workers on other machines may have an address of their own, and a local cluster here would be another one.
        """
        options: object = parse_options(row.options, self._vault.opened(run.options))
        here = not isinstance(self._runner, MasterRunner) or bool(run.options.processes)
        if row.lacks_address(options) and not here:
            log.warning("%s: replication lag is not shown: give the master the servers' address", row.name)
            return None
        try:
            return with_local_cluster(row, options, log.info)
        except ClusterError as error:
            log.warning("%s: replication lag is not shown: %s", row.name, error)
            return None

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
        if run is None or run.meter is None:
            return
        members = list(run.roster)
        states = Counter(member.state for member in members)
        yield from run_readings(
            run.meter,
            self._faults,
            self._nodes,
            sessions=self._runner.user_count,
            workers={state: states[state] for state in STATES},
            stalls=sum(member.stall_count for member in members),
        )
