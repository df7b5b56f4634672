"""Metrics under Locust: the master serves the run's totals, and every worker what it did."""

import logging
import socket
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from stalewatch.clients.databases import DATABASES
from stalewatch.clusters.protocol import ClusterError
from stalewatch.exit_codes import USAGE
from stalewatch.locust.ending import Hurry
from stalewatch.locust.master_run import STATES, MasterRun
from stalewatch.locust.open_database import servers_of
from stalewatch.locust.options import Secrets
from stalewatch.locust.worker_run import WorkerRun
from stalewatch.metrics.meter import Reading
from stalewatch.metrics.nodes import Faults, NodeMetrics
from stalewatch.metrics.server import MetricsServer, Target, discovery, registry
from stalewatch.metrics.serving import poll_servers, run_readings

log = logging.getLogger("stalewatch")

_FAULTS: "WeakKeyDictionary[Environment, Faults]" = WeakKeyDictionary()


def faults_of(environment: Environment) -> Faults:
    """Return the faults that the master's metrics show; your own injector may begin and end faults there."""
    return _FAULTS.setdefault(environment, Faults())


class MasterMetrics:
    """Serves the totals of the run, the workers to scrape, and what the database's servers report about themselves.

    They are served from before the first run until the counts of the last verdict have been scraped. The process exits
    with a message if the port is taken.
    """

    def __init__(
        self,
        environment: Environment,
        runner: Runner,
        current_run: Callable[[], MasterRun | None],
        secrets: Secrets,
    ) -> None:
        options = environment.parsed_options
        assert options is not None  # noqa: S101 # they ask for metrics
        self._runner = runner
        self._current_run = current_run
        self._secrets = secrets
        self._faults = faults_of(environment)
        self._nodes: list[NodeMetrics] = []
        self._hurried = self._lingers = False
        try:
            self._server = MetricsServer(
                options.metrics_host, options.metrics_port, registry(self._readings), sd=discovery(self._targets)
            )
        except OSError as error:
            print(f"locust: {error.filename}: {error.strerror or error}", file=sys.stderr)
            sys.exit(USAGE)
        log.info("metrics: http://%s/metrics, workers: /sd", self._server.address)
        environment.events.test_start.add_listener(self._on_test_start)
        environment.events.quitting.add_listener(self._on_quitting)

    def _on_test_start(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        run = self._current_run()
        self._faults.forget()
        self._nodes = []
        if run is None:
            return
        for name in filter(DATABASES.__contains__, run.databases):
            nodes = NodeMetrics(run.name, name)
            self._nodes.append(nodes)
            database, reason = DATABASES[name], "pass the servers' address to the master"
            try:
                options = servers_of(database, run.options, self._secrets, self._runner)
            except ClusterError as error:
                options, reason = None, str(error)
            if options is None:
                log.warning("%s: no replication lag in the metrics: %s", name, reason)
            else:
                gevent.spawn(poll_servers, database, options, nodes, run.concluded)

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Wait for one more scrape; without it Prometheus would never see the final reads."""
        self._hurried, self._lingers = False, self._current_run() is not None
        if self._lingers:
            self._server.linger(log.info, lambda: self._hurried)
            self._lingers = False

    def hurry(self) -> Hurry:
        """Stop waiting for a scrape."""
        self._hurried = True
        return Hurry.HURRIED if self._lingers else Hurry.NOTHING

    def _targets(self) -> Iterator[Target]:
        run = self._current_run()
        for worker in run.workers.running() if run else ():
            if worker.metrics is not None:
                yield Target(worker.metrics, worker.worker)

    def _readings(self) -> Iterator[Reading]:
        run = self._current_run()
        if run is None or run.meter is None:
            return
        workers = list(run.workers)
        states = Counter(worker.state for worker in workers)
        yield from run_readings(
            run.meter,
            self._faults,
            self._nodes,
            sessions=self._runner.user_count,
            workers={state: states[state] for state in STATES},
            stalls=sum(worker.stall_count for worker in workers),
        )


class WorkerMetrics:
    """Serves what a worker did, on a port of its own, from the first run that asks for metrics."""

    def __init__(self, runner: Runner, current_run: Callable[[], WorkerRun | None]) -> None:
        self._runner = runner
        self._current_run = current_run
        self._server: MetricsServer | None = None

    def serve(self, options: Namespace) -> str | None:
        """Return the address of the metrics, as HOST:PORT, if the master's options ask for them."""
        if not options.metrics_port:
            return None
        host = str(options.metrics_host)
        if self._server is None:
            try:
                self._server = MetricsServer(host, 0, registry(self._readings))
            except OSError as error:
                log.warning("--metrics-host %s: this worker serves no metrics: %s", host, error.strerror or error)
                return None
        return f"{self._reachable(host)}:{self._server.port}"

    def _reachable(self, host: str) -> str:
        """Return the address at which others reach this machine; of several, the one that faces the master."""
        if not _is_any(host):
            return host
        master = self._runner.master_host if isinstance(self._runner, WorkerRunner) else "127.0.0.1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 1))  # a datagram socket: nothing is sent
            return str(probe.getsockname()[0])

    def _readings(self) -> Iterator[Reading]:
        run = self._current_run()
        if run is not None:
            yield from run.readings()


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
