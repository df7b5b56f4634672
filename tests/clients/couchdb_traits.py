"""A leader as Apache CouchDB 3.x shows itself: a reverse proxy before a real one that adds what PouchDB does not do.

Sequence numbers are opaque text; `_conflicts` come in any order; a write may be accepted (202) without a quorum; leaves
come as JSON only to who asks for it; bodies that are not sent as JSON are refused; answers come in chunks; a deleted
document stands in `_all_docs` without its body; the configuration and the scheduler can be asked.
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


def apart(nodes: Sequence[str]) -> list[tuple[str, str]]:
    """Return each of two leaders with the other one."""
    a, b = nodes
    return [(a, b), (b, a)]


class Disguise:
    """One leader behind a proxy; every `accepted_every`-th PUT of a document (0: none) is answered 202."""

    def __init__(self, behind: str, *, accepted_every: int = 0, peer_url: str | None = None) -> None:
        self.behind = behind
        self.accepted_every = accepted_every
        self.peer_url = peer_url
        self.puts = 0
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.disguise = self  # type: ignore[attr-defined] # how a handler finds it
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 # the library's word
        """Say nothing."""

    def _serve(self) -> None:
        disguise: Disguise = self.server.disguise  # type: ignore[attr-defined] # set above
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path)
        disguise.asked.append(f"{self.command} {path.path}")
        if path.path == "/_node/_local/_config/stalewatch/peer_url":
            told = disguise.peer_url
            return self._say(
                *((200, told) if told else (404, {"error": "not_found", "reason": "unknown_config_value"}))
            )
        if self.command == "POST" and self.headers.get("Content-Type") != "application/json":
            return self._say(415, {"error": "bad_content_type", "reason": "Content-Type must be application/json"})
        query = {name: _plain(value) if name == "since" else value for name, value in parse_qsl(path.query)}
        if "open_revs" in query and "application/json" not in self.headers.get("Accept", ""):
            return self._say(406, {"error": "not_acceptable", "reason": "this is multipart"})
        answer = requests.request(
            self.command,
            f"{disguise.behind}{path.path}?{urlencode(query)}",
            data=body or None,
            headers={name: value for name, value in self.headers.items() if name in _PASSED},
            timeout=TIMEOUT_S,
        )
        return self._say(self._status(disguise, answer.status_code, path.path), _dressed(answer.json(), path.path))

    do_GET = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 # the library's names

    def _status(self, disguise: Disguise, status: int, path: str) -> int:
        if self.command == "PUT" and status == 201 and path.count("/") == 2 and "stalewatch-" not in path:
            disguise.puts += 1
            if disguise.accepted_every and disguise.puts % disguise.accepted_every == 0:
                return 202
        return status

    def _say(self, status: int, told: object) -> None:
        content = json.dumps(told).encode() + b"\n"
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
    """Return what stands behind a sequence number of ours; anything else was made up by the client."""
    plain = seq.partition("-")[0]
    assert seq in {"0", "now", _opaque(plain)}, f"{seq} was never given out"
    return plain


def _dressed(told: Any, path: str) -> Any:
    if path == "/":
        return {"couchdb": "Welcome", "version": "3.5.0", "vendor": {"name": "The Apache Software Foundation"}}
    if isinstance(told, dict):
        for row in told.get("results", ()):
            row["seq"] = _opaque(row["seq"])
        for name in ("last_seq", "update_seq"):
            if name in told:
                told[name] = _opaque(told[name])
        for row in told.get("rows", ()):
            _shuffle(row.get("doc") or {})
            if row.get("value", {}).get("deleted"):
                row["doc"] = None
        _shuffle(told)
    return told


def _shuffle(document: dict[str, Any]) -> None:
    if "_conflicts" in document:
        random.shuffle(document["_conflicts"])
