"""A proxy that keeps answers for a second, whatever is written meanwhile: `python proxy.py [--token]`."""

from gevent import monkey

monkey.patch_all()

import argparse
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

import urllib3
from gevent.pywsgi import WSGIServer

TTL_S = 1.0


class CachingProxy:
    """Passes requests on to a service; with `token` it heeds X-Seen, the version that the session knows of."""

    def __init__(self, service: str, *, token: bool) -> None:
        """Start with an empty cache."""
        self.service = service
        self.token = token
        self.pool = urllib3.PoolManager(maxsize=100)
        self.cache: dict[str, tuple[float, int, bytes]] = {}

    def __call__(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer from the cache if it holds an answer that is young enough, and new enough for the session."""
        path, method = request["PATH_INFO"], request["REQUEST_METHOD"]
        seen = int(request.get("HTTP_X_SEEN", 0)) if self.token else 0
        asked, version, content = self.cache.get(path, (float("-inf"), 0, b""))
        if method != "GET" or time.monotonic() - asked > TTL_S or version < seen:
            asked = time.monotonic()
            answer = self.pool.request(method, self.service + path, body=request["wsgi.input"].read())
            version, content = int(answer.headers["X-Version"]), answer.data
            if method == "GET":
                self.cache[path] = asked, version, content
        start("200 OK", [("Content-Length", str(len(content))), ("X-Version", str(version))])
        return [content]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--service", default="http://127.0.0.1:8001")
    parser.add_argument("--token", action="store_true", help="pass by the cache if a session knows something newer")
    parser.add_argument("--port", type=int, default=8002)
    given = parser.parse_args()
    server = WSGIServer(("127.0.0.1", given.port), CachingProxy(given.service, token=given.token), log=None)
    server.init_socket()
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # do not hold answers back for 40 ms
    server.serve_forever()
