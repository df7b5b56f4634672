"""A worker's own metrics: what it did, on a port of its own, from the first run that asks for it on."""

import logging
import socket
from argparse import Namespace
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from locust.runners import Runner, WorkerRunner

from stalewatch.locust.share import Share
from stalewatch.metrics.meter import Reading
from stalewatch.metrics.server import MetricsServer, registry

log = logging.getLogger("stalewatch")


class WorkerMetrics:
    """Serves the share of whichever run this process takes part in."""

    def __init__(self, runner: Runner, share: Callable[[], Share | None]) -> None:
        self._runner = runner
        self._share = share
        self._server: MetricsServer | None = None

    def serve(self, options: Namespace) -> str | None:
        """Return where the metrics are, as HOST:PORT, if the master's options ask for them."""
        if not getattr(options, "metrics_port", None):
            return None
        host = str(options.metrics_host)
        if self._server is None:
            try:
                self._server = MetricsServer(host, 0, registry(self._readings))
            except OSError as error:
                log.warning("--metrics-host %s: no metrics of this worker: %s", host, error.strerror or error)
                return None
        return f"{self._reachable(host)}:{self._server.port}"

    def _reachable(self, host: str) -> str:
        """Return the address under which others reach this machine: of all of them, the one that faces the master."""
        if not _is_any(host):
            return host
        master = self._runner.master_host if isinstance(self._runner, WorkerRunner) else "127.0.0.1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((master, 1))  # a datagram socket: nothing is sent
            return str(probe.getsockname()[0])

    def _readings(self) -> Iterator[Reading]:
        share = self._share()
        if share is not None:
            yield from share.readings()


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False
