"""The HTTP server for metrics and for the list of workers to scrape; under gevent its threads are greenlets.

Readings are exposed by prometheus_client, in Prometheus' text format or in OpenMetrics.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stalewatch.metrics.families import BUILD_INFO, PREFIX, Family
from stalewatch.metrics.meter import Histogram, Reading

LOOPBACK = "127.0.0.1"
METRICS, DISCOVERY, WORKER = "/metrics", "/sd", "/worker"

RECENT_SCRAPE_S = 90.0
MAX_LINGER_S = 30.0
POLL_S = 0.05


Source = Callable[[], Iterable[Reading]]

_WITH_UNIT = ("seconds",)
"""Units that are part of the name, as OpenMetrics requires."""


class Exposition(Collector):
    """A collector that queries its sources at every scrape."""

    def __init__(self, *sources: Source) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield every family that has a series."""
        found: defaultdict[Family, list[Reading]] = defaultdict(list)
        for source in self._sources:
            for reading in source():
                found[reading.family].append(reading)
        for family, readings in found.items():
            yield _metric(family, readings)


def registry(*sources: Source) -> CollectorRegistry:
    """Return a registry of these sources, of this process, and of the version."""
    made = CollectorRegistry()
    made.register(Exposition(*sources, _build))
    ProcessCollector(registry=made)
    return made


def _build() -> Iterator[Reading]:
    try:
        yield Reading(BUILD_INFO, (version("stalewatch"),), 1)
    except PackageNotFoundError:  # runs from a checkout that is not installed
        yield Reading(BUILD_INFO, ("unknown",), 1)


def _metric(family: Family, readings: Iterable[Reading]) -> Metric:
    name = f"{PREFIX}{family.name}"
    metric = Metric(name, family.help, family.kind, family.unit if family.unit in _WITH_UNIT else "")
    suffix = "_total" if family.kind == "counter" else ""
    for reading in readings:
        labels = dict(zip(family.label_names, reading.labels, strict=True))
        if isinstance(reading.value, Histogram):
            _add_histogram(metric, labels, reading.value)
        else:
            metric.add_sample(f"{name}{suffix}", labels, reading.value)
    return metric


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    count = 0
    for bound, count in histogram.buckets():  # the last bucket counts all values
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, histogram.total)


class Target(NamedTuple):
    """A worker to scrape: its address, its number and the path of its metrics."""

    address: str
    worker: int
    path: str = METRICS


def discovery(targets: Callable[[], Iterable[Target]]) -> WSGIApplication:
    """Return the page that Prometheus' http_sd_configs requests."""

    def page(_: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps([_group(target) for target in targets()]).encode()]

    return page


def _group(target: Target) -> dict[str, object]:
    return {
        "targets": [target.address],
        "labels": {"worker": str(target.worker), "__metrics_path__": target.path},
    }


def exposing(registry: CollectorRegistry) -> WSGIApplication:
    """Return the page of a registry, as text or as OpenMetrics, whichever the request accepts."""
    # Compression would block the hub for longer than it takes to send the bytes over a local network.
    app: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
    return app


class MetricsServer:
    """A server of pages by path, in a thread of its own; raises OSError if the port is taken.

    `address` is where other machines can reach it, provided that they can reach the host that it binds to.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, **pages: WSGIApplication) -> None:
        self._pages: Mapping[str, WSGIApplication] = {
            METRICS: self._timed(exposing(registry)),
            **{f"/{name}": page for name, page in pages.items()},
        }
        self._scrapes: list[float] = []
        self._one_at_a_time = threading.Lock()  # pages gather what they serve; without gevent they do so in threads
        try:
            self._server = make_server(host, port, self._answer, ThreadingWSGIServer, handler_class=_SilentHandler)
        except OSError as error:
            error.filename = f"--metrics-port {port}"
            raise
        self.address = f"{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def linger(self, log: Callable[[str], None], over: Callable[[], bool] = lambda: False) -> None:
        """Wait for one more scrape, so that the last counts are seen; return at once if nobody scrapes.

        The wait ends after two scrape intervals, after half a minute, or when `over` returns true.
        """
        now, scrapes = time.monotonic(), self._scrapes
        if not scrapes or now - scrapes[-1] > RECENT_SCRAPE_S:
            return
        log("waiting until the last counts have been scraped")
        while scrapes[-1] < now and time.monotonic() < now + self._max_wait_s() and not over():
            time.sleep(POLL_S)

    def _max_wait_s(self) -> float:
        """Return how long to wait; the interval may become known only during the wait, when a scrape is answered."""
        scrapes = self._scrapes
        interval_s = scrapes[-1] - scrapes[0] if len(scrapes) > 1 else MAX_LINGER_S
        return min(2 * interval_s + 1, MAX_LINGER_S)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        if page is not None:
            with self._one_at_a_time:
                return page(environ, start)
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"not found; try {', '.join(self._pages)}\n".encode()]

    def _timed(self, page: WSGIApplication) -> WSGIApplication:
        """Return the page; it keeps the start times of the last two requests that were answered."""

        def timed(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            begun = time.monotonic()
            return _Answer(page(environ, start), lambda: self._scraped(begun))

        return timed

    def _scraped(self, begun: float) -> None:
        self._scrapes[:] = [*self._scrapes[-1:], begun]


class _Answer(list[bytes]):
    """The parts of an answer, with a callback for when it has been sent; a list, because its length must be known."""

    def __init__(self, parts: Iterable[bytes], sent: Callable[[], None]) -> None:
        super().__init__(parts)
        self.close = sent


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 # the name of the method it overrides
        """Log nothing: there is a scrape every second."""
