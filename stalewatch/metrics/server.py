"""Serves metrics, and the list of workers to be scraped, over HTTP; gevent makes its threads greenlets."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

LOOPBACK = "127.0.0.1"
METRICS, DISCOVERY, WORKER = "/metrics", "/sd", "/worker"

SCRAPED_LATELY_S = 90.0
LONGEST_LINGER_S = 30.0
LOOK_S = 0.05


class Target(NamedTuple):
    """A worker that can be scraped: where, and which number it has."""

    address: str
    worker: int
    path: str = METRICS


def discovery(targets: Callable[[], Iterable[Target]]) -> WSGIApplication:
    """Return the page that Prometheus' http_sd_configs asks."""

    def page(_: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        start("200 OK", [("Content-Type", "application/json")])
        return [json.dumps([_group(target) for target in targets()]).encode()]

    return page


def _group(target: Target) -> dict[str, object]:
    return {
        "targets": [target.address],
        "labels": {"worker": str(target.worker), "__metrics_path__": target.path},
    }


class MetricsServer:
    """Serves pages by path from a thread; OSError where the port is taken.

    `address` is where others reach it, if they can reach the host that it was told to bind.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, **pages: WSGIApplication) -> None:
        self._pages: Mapping[str, WSGIApplication] = {
            METRICS: self._noting(exposing(registry)),
            **{f"/{name}": page for name, page in pages.items()},
        }
        self._scrapes: list[float] = []
        self._one_at_a_time = threading.Lock()  # what is served is gathered then, by threads where there is no gevent
        try:
            self._server = make_server(host, port, self._answer, ThreadingWSGIServer, handler_class=_Quiet)
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
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()

    def linger(self, tell: Callable[[str], None], over: Callable[[], bool] = lambda: False) -> None:
        """Wait until whoever scrapes has had another look, so that the last counts are seen; not if nobody does.

        It waits for two of the intervals in which scrapes came, no longer than half a minute, and until it is `over`.
        """
        now, scrapes = time.monotonic(), self._scrapes
        if not scrapes or now - scrapes[-1] > SCRAPED_LATELY_S:
            return
        tell("waiting until the last counts have been scraped")
        while scrapes[-1] < now and time.monotonic() < now + self._patience_s() and not over():
            time.sleep(LOOK_S)

    def _patience_s(self) -> float:
        """Return for how long to wait; a scrape that was under way as the wait began tells the interval only then."""
        scrapes = self._scrapes
        interval_s = scrapes[-1] - scrapes[0] if len(scrapes) > 1 else LONGEST_LINGER_S
        return min(2 * interval_s + 1, LONGEST_LINGER_S)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        page = self._pages.get(environ["PATH_INFO"])
        if page is not None:
            with self._one_at_a_time:
                return page(environ, start)
        start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"here are {', '.join(self._pages)}\n".encode()]

    def _noting(self, page: WSGIApplication) -> WSGIApplication:
        def noted(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
            begun = time.monotonic()
            return _Answer(page(environ, start), lambda: self._note(begun))

        return noted

    def _note(self, scrape: float) -> None:
        self._scrapes[:] = [*self._scrapes[-1:], scrape]


def exposing(registry: CollectorRegistry) -> WSGIApplication:
    """Return the page of a registry: text or OpenMetrics, as the asker says."""
    # Compression would block the hub for longer than the bytes take on a local network.
    app: WSGIApplication = make_wsgi_app(registry, disable_compression=True)
    return app


class _Answer(list[bytes]):
    """The parts of an answer, which tells when it has been sent; a list, so that its length is known."""

    def __init__(self, parts: Iterable[bytes], sent: Callable[[], None]) -> None:
        super().__init__(parts)
        self.close = sent


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 # the name of the method it overrides
        """Say nothing: scrapes come every second."""
