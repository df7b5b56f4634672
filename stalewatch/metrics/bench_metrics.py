"""A run in one process, without Locust, served to Prometheus as a master and its only worker would be."""

import threading
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stalewatch.clients.errors import BadAddress
from stalewatch.metrics import families
from stalewatch.metrics.faults import Faults
from stalewatch.metrics.meter import NS, Reading
from stalewatch.metrics.nodes import NodeMetrics
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.metrics.replication_watch import watch
from stalewatch.recording.pulse import Pulse, Steady
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.tally import Tally

if TYPE_CHECKING:
    from stalewatch.metrics.server import MetricsServer

WORKERS = {"running": 1, "done": 0, "lost": 0}


@contextmanager
def serving(
    run: str,
    options: Namespace,
    recorder: Recorder,
    tally: Tally,
    users: int,
    tell: Callable[[str], None],
    faults: Faults,
) -> Iterator[None]:
    """Serve while the block runs, and until whoever scrapes has seen the last counts; do nothing without a port.

    Raises OSError for a port that is taken, `BadAddress` where a package is missing: the bare bench has none.
    """
    if options.metrics_port is None:
        yield
        return
    metrics = ProcessMetrics(run, options.database, tally.gather, lambda: users)
    tally.watchers.append(lambda findings, statistics: metrics.watch(findings.verdicts, statistics))
    recorder.listeners.append(metrics.by_key)
    nodes, over = NodeMetrics(run, options.database), threading.Event()
    server = _server(options.metrics_port, metrics, nodes, faults, recorder.pulse)
    tell(f"metrics: http://{server.address}/metrics, /sd")
    watched = (options.database, options, nodes, over)
    threading.Thread(target=watch, args=watched, name="replication", daemon=True).start()
    try:
        yield
        server.linger(tell)
    finally:
        over.set()
        server.close()


def _server(
    port: int, metrics: ProcessMetrics, nodes: NodeMetrics, faults: Faults, pulse: Pulse | Steady
) -> "MetricsServer":
    try:
        from stalewatch.metrics.exposition import registry  # noqa: PLC0415
        from stalewatch.metrics.server import LOOPBACK, WORKER, MetricsServer, Target, discovery, exposing  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadAddress(f"--metrics-port needs {error.name}: pip install prometheus-client") from None
    return MetricsServer(
        LOOPBACK,
        port,
        registry(lambda: _totals(metrics, nodes, faults)),
        sd=discovery(lambda: [Target(f"{LOOPBACK}:{port}", 0, WORKER)]),
        worker=exposing(registry(lambda: _own(metrics, pulse))),
    )


def _totals(metrics: ProcessMetrics, nodes: NodeMetrics, faults: Faults) -> Iterator[Reading]:
    metrics.gather()
    meter = metrics.meter
    yield from meter.readings()
    yield from nodes.readings()
    yield from faults.readings(meter)
    yield meter.reading(families.RUN_INFO, 1)
    yield meter.reading(families.SESSIONS, metrics.sessions())
    yield meter.reading(families.LOST_WRITES, meter.lost_writes)
    yield meter.reading(families.WORKER_STALLS, 0)
    for state, count in WORKERS.items():
        yield meter.reading(families.WORKERS, count, state)


def _own(metrics: ProcessMetrics, pulse: Pulse | Steady) -> Iterator[Reading]:
    yield from metrics.readings()
    yield Reading(families.SCHEDULER_LAG, (), pulse.lag_ns() / NS)
