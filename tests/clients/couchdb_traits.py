"""A reverse proxy that makes a PouchDB server behave like Apache CouchDB 3.x.

Sequence numbers are opaque text; `_conflicts` are in random order; a write may be accepted (202) without a quorum;
leaves are JSON only if the client accepts it; bodies that are not sent as JSON are refused; answers are chunked; a
deleted document is in `_all_docs` without its body; the configuration and the replication scheduler can be queried.
"""

import base64
import json
import random
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import requests

TIMEOUT_S = 60


def paired(nodes: Sequence[str]) -> list[tuple[str, str]]:
    """Return each of two leaders with the other one."""
    a, b = nodes
    return [(a, b), (b, a)]


class CouchProxy:
    """A proxy for one leader that answers every `accepted_every`-th PUT of a document with 202 (0: none).

    `failure` is the error of every replication, as the scheduler reports it.
    """

    def __init__(self, behind: str, *, accepted_every: int = 0, peer_url: str | None = None, failure: str = "") -> None:
        self.behind = behind
        self.accepted_every = accepted_every
        self.peer_url = peer_url
        self.failure = failure
        self.puts = 0
        self.asked: list[str] = []
        """The requests so far, as METHOD PATH."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined] # where the handler finds it
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 # the library's word
        """Log nothing."""

    def _serve(self) -> None:
        proxy: CouchProxy = self.server.proxy  # type: ignore[attr-defined] # set above
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path)
        proxy.asked.append(f"{self.command} {path.path}")
        if path.path == "/_node/_local/_config/stalewatch/peer_url":
            url = proxy.peer_url
            return self._answer(
                *((200, url) if url else (404, {"error": "not_found", "reason": "unknown_config_value"}))
            )
        if proxy.failure and path.path.startswith("/_scheduler/docs/"):
            return self._answer(200, {"state": "crashing", "info": {"error": proxy.failure}})
        if self.command == "POST" and self.headers.get("Content-Type") != "application/json":
            return self._answer(415, {"error": "bad_content_type", "reason": "Content-Type must be application/json"})
        query = {name: _plain(value) if name == "since" else value for name, value in parse_qsl(path.query)}
        if "open_revs" in query and "application/json" not in self.headers.get("Accept", ""):
            return self._answer(406, {"error": "not_acceptable", "reason": "this is multipart"})
        answer = requests.request(
            self.command,
            f"{proxy.behind}{path.path}?{urlencode(query)}",
            data=body or None,
            headers={name: value for name, value in self.headers.items() if name in _PASSED},
            timeout=TIMEOUT_S,
        )
        return self._answer(self._status(proxy, answer.status_code, path.path), _translated(answer.json(), path.path))

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 # the library's names

    def _status(self, proxy: CouchProxy, status: int, path: str) -> int:
        if self.command == "PUT" and status == 201 and path.count("/") == 2 and "stalewatch-" not in path:
            proxy.puts += 1
            if proxy.accepted_every and proxy.puts % proxy.accepted_every == 0:
                return 202
        return status

    def _answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for start in range(0, len(content), 100):
            piece = content[start : start + 100]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


_PASSED = ("Authorization", "Content-Type", "Accept")


def _opaque(seq: object) -> str:
    return f"{seq}-g1AAAA{base64.urlsafe_b64encode(str(seq).encode()).decode()}"


def _plain(seq: str) -> str:
    """Return the server's sequence number for an opaque one, which the client must have received from here."""
    plain = seq.partition("-")[0]
    assert seq in {"0", "now", _opaque(plain)}, f"{seq} was never sent"
    return plain


def _translated(body: Any, path: str) -> Any:
    if path == "/":
        return {"couchdb": "Welcome", "version": "3.5.0", "vendor": {"name": "The Apache Software Foundation"}}
    if isinstance(body, dict):
        for row in body.get("results", ()):
            row["seq"] = _opaque(row["seq"])
        for name in ("last_seq", "update_seq"):
            if name in body:
                body[name] = _opaque(body[name])
        for row in body.get("rows", ()):
            _shuffle(row.get("doc") or {})
            if row.get("value", {}).get("deleted"):
                row["doc"] = None
        _shuffle(body)
    return body


def _shuffle(document: dict[str, Any]) -> None:
    if "_conflicts" in document:
        random.shuffle(document["_conflicts"])
