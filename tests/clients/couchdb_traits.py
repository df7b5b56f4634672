"""A reverse proxy that makes a PouchDB server behave like Apache CouchDB 3.x.

Sequence numbers are opaque text; `_conflicts` are in random order; a write may be accepted (202) without a quorum;
leaves are JSON only if the client accepts it; bodies that are not sent as JSON are refused; answers are chunked; a
deleted document is in `_all_docs` without its body; the configuration and the replication scheduler can be queried;
`/` names the server's uuid; who is no administrator may not use system databases or create others; databases may be
partitioned. It may be reached by TLS.
"""

import base64
import json
import random
import secrets
import ssl
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pytest
import requests

from stalewatch.clients.couchdb.client import CouchClient
from stalewatch.clients.couchdb.options import CouchOptions, leader
from stalewatch.clients.errors import ClientError
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.history.clock import RealClock

TIMEOUT_S = 60


def paired(nodes: Sequence[str]) -> list[tuple[str, str]]:
    """Return each of two leaders with the other one."""
    a, b = nodes
    return [(a, b), (b, a)]


def options_for(nodes: Sequence[str], **chosen: Any) -> CouchOptions:
    a, b = (leader(url(node)) for node in nodes)
    return CouchOptions(a=a, b=b, **chosen)


def error_of(options: CouchOptions) -> ClientError:
    with pytest.raises(ClientError) as caught:
        CouchClient(options, RealClock()).prepare()
    assert "\n" not in str(caught.value)
    assert "wr0ng" not in str(caught.value)
    return caught.value


class CouchProxy:
    """A proxy for one leader that answers every `accepted_every`-th PUT of a document with 202 (0: none).

    `failure` is the error of every replication, as the scheduler reports it, and `failing` those of single documents,
    by a part of their ids; they run once they are written again. `member`: the user is no administrator. `tls` takes
    the server's side of connections.
    """

    def __init__(
        self,
        behind: str,
        *,
        accepted_every: int = 0,
        peer_url: str | None = None,
        failure: str = "",
        failing: Mapping[str, str] | None = None,
        uuid: str | None = None,
        member: bool = False,
        partitioned: bool = False,
        revs_limit: int = 1000,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.behind = behind
        self.accepted_every = accepted_every
        self.peer_url = peer_url
        self.failure = failure
        self.failing = dict(failing or {})
        self.uuid = uuid or secrets.token_hex(16)
        self.member = member
        self.partitioned = partitioned
        self.revs_limit = revs_limit
        self.puts = 0
        self.asked: list[str] = []
        """The requests so far, as METHOD PATH."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
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
        if proxy.member and _is_for_admins(self.command, path.path):
            return self._answer(401, {"error": "unauthorized", "reason": "You are not a server admin."})
        if path.path.startswith("/_scheduler/docs/") or path.path.endswith("/_revs_limit"):
            asked = unquote(path.path)
            return self._answer(200, _scheduled(proxy, asked) if "scheduler" in asked else proxy.revs_limit)
        if path.path.startswith("/_replicator/") and self.command == "DELETE":
            proxy.failing = {part: error for part, error in proxy.failing.items() if part not in unquote(path.path)}
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
        translated = _translated(answer.json(), path.path, proxy)
        return self._answer(self._status(proxy, answer.status_code, path.path), translated)

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


def _is_for_admins(command: str, path: str) -> bool:
    creates = command == "PUT" and path.count("/") == 1
    return creates or path.startswith(("/_replicator", "/_users", "/_scheduler", "/_node"))


def _scheduled(proxy: CouchProxy, path: str) -> dict[str, object]:
    failing = [error for part, error in proxy.failing.items() if part in path]
    error = proxy.failure or (failing[0] if failing else None)
    return {"state": "crashing", "info": {"error": error}} if error else {"state": "running", "info": {}}


def _translated(body: Any, path: str, proxy: CouchProxy) -> Any:
    if path == "/":
        vendor = {"name": "The Apache Software Foundation"}
        return {"couchdb": "Welcome", "version": "3.5.0", "uuid": proxy.uuid, "vendor": vendor}
    if proxy.partitioned and "update_seq" in body:
        body["props"] = {"partitioned": True}
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
