"""What a run's owner serves to Prometheus: a Locust master, or the bench as a master and its only worker would.

The owner also polls the database's servers: one process does it, so that they are asked once.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Database, NodeState, NoServerAnswers, Servers
from stalewatch.engine.process_run import ProcessRun
from stalewatch.metrics import families
from stalewatch.metrics.meter import NS, Meter, Reading
from stalewatch.metrics.nodes import Faults, NodeMetrics
from stalewatch.metrics.process import ProcessMetrics

if TYPE_CHECKING:
    from stalewatch.metrics.server import MetricsServer

log = logging.getLogger("stalewatch")

POLL_EVERY_S = 1.0
ONE_WORKER = {"running": 1, "done": 0, "lost": 0}


def run_readings(
    meter: Meter,
    faults: Faults,
    nodes: Iterable[NodeMetrics],
    *,
    sessions: int,
    workers: Mapping[str, int],
    stalls: int,
) -> Iterator[Reading]:
    """Yield the series of a whole run; `workers` counts workers by state."""
    yield from meter.readings()
    for one in nodes:
        yield from one.readings()
    yield from faults.readings(meter)
    yield meter.reading(families.RUN_INFO, 1)
    yield meter.reading(families.SESSIONS, sessions)
    yield meter.reading(families.LOST_WRITES, meter.lost_writes)
    yield meter.reading(families.WORKER_STALLS, stalls)
    for state, count in workers.items():
        yield meter.reading(families.WORKERS, count, state)


class Over(Protocol):
    """Whether a run is over: an event of threads or of greenlets."""

    def is_set(self) -> bool:
        """Return whether it is."""
        ...

    def wait(self, timeout: float | None = None) -> object:
        """Wait until it is, at most that many seconds."""
        ...


def poll_servers(database: Database, options: object, nodes: NodeMetrics, over: Over) -> None:
    """Note what the servers report about themselves until the run is over; without an answer, go without."""
    if database.servers is None:
        return
    try:
        servers = database.servers(options)
    except ClientError as error:
        log.warning("%s: replication lag is not shown: %s", database.name, error)
        return
    try:
        while not over.is_set():
            nodes.update(_states(servers))
            over.wait(POLL_EVERY_S)
    except ClientError as error:
        log.warning("%s: replication lag is not shown: %s", database.name, error)
    finally:
        servers.close()


def _states(servers: Servers) -> list[NodeState]:
    """Ask twice: after a failure the first question goes to the server that was just lost."""
    for _ in range(2):
        try:
            return list(servers.look())
        except NoServerAnswers:
            time.sleep(POLL_EVERY_S / 5)
    return []


@contextmanager
def serving(run: ProcessRun, port: int | None, faults: Faults, report_line: Callable[[str], None]) -> Iterator[None]:
    """Serve a run in one process while the block runs and until the last counts are scraped; do nothing without a port.

    Raises OSError for a port that is taken, `BadAddress` if prometheus-client is missing.
    """
    if port is None:
        yield
        return
    database, over = run.spec.database, threading.Event()
    metrics = ProcessMetrics(run.spec.run, database.name, lambda: run.spec.users)
    metrics.watch(run.run)
    nodes = NodeMetrics(run.spec.run, database.name)
    server = _server(port, run, metrics, nodes, faults)
    report_line(f"metrics: http://{server.address}/metrics, /sd")
    polled = (database, run.spec.options, nodes, over)
    threading.Thread(target=poll_servers, args=polled, name="servers", daemon=True).start()
    try:
        yield
        server.linger(report_line)
    finally:
        over.set()
        server.close()


def _server(port: int, run: ProcessRun, metrics: ProcessMetrics, nodes: NodeMetrics, faults: Faults) -> "MetricsServer":
    try:
        from stalewatch.metrics.server import (  # noqa: PLC0415
            LOOPBACK,
            WORKER,
            MetricsServer,
            Target,
            discovery,
            exposing,
            registry,
        )
    except ModuleNotFoundError as error:
        raise BadAddress(f"--metrics-port needs {error.name}: pip install prometheus-client") from None

    def totals() -> Iterator[Reading]:
        metrics.collect()
        sessions = metrics.sessions()
        yield from run_readings(metrics.meter, faults, [nodes], sessions=sessions, workers=ONE_WORKER, stalls=0)

    def own() -> Iterator[Reading]:
        yield from metrics.readings()
        yield Reading(families.SCHEDULER_LAG, (), run.run.recorder.stalls.lag_ns() / NS)

    return MetricsServer(
        LOOPBACK,
        port,
        registry(totals),
        sd=discovery(lambda: [Target(f"{LOOPBACK}:{port}", 0, WORKER)]),
        worker=exposing(registry(own)),
    )
