"""A CouchDB for a bench, of which any kind of request can be made to go unanswered, or answered in a hostile way."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

Hostile = Callable[[BaseHTTPRequestHandler], None]
"""Answers one request in place of the server."""


def never(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing, until the client gives up."""
    handler.connection.settimeout(60)
    with suppress(OSError):
        handler.rfile.read(1)
    handler.close_connection = True


def byte_by_byte(handler: BaseHTTPRequestHandler) -> None:
    """Send a good answer, but one byte every now and then, without end."""
    with suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b" " * 1000:
            handler.wfile.write(bytes((byte,)))
            time.sleep(0.2)
    handler.close_connection = True


def without_end(handler: BaseHTTPRequestHandler) -> None:
    """Send an answer that does not stop."""
    with suppress(OSError):
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{"_rev":"1-a","p":"')
        while True:
            handler.wfile.write(b"x" * 65536)
    handler.close_connection = True


def saying(said: object) -> Hostile:
    """Answer with this JSON."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        content = json.dumps(said).encode()
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    return answer


def kind_of(method: str, path: str, body: object) -> str:
    """Return what a bench does with a request: set-up, create, look, read, write or delete."""
    name = unquote(urlsplit(path).path).partition("/")[2].partition("/")[2]
    if name == "_bulk_docs":
        return "delete" if any(one.get("_deleted") for one in body["docs"]) else "create"  # type: ignore[index] # ours
    if name == "_all_docs":
        return "look"
    if not name or name.startswith(("_", "stalewatch-")) or path.startswith(("/_", "/_replicator")):
        return "set-up"
    return "read" if method == "GET" else "write"


class TwoFacedCouch:
    """Two leaders that replicate at once, for they share their documents; what they were sent is counted by kind."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.counts: dict[str, int] = {}
        self.hostile: dict[str, Hostile] = {}
        """What is done with requests of a kind, from now on."""
        self.credentials: set[str] = set()
        self._servers = [ThreadingHTTPServer(("127.0.0.1", 0), self._handler(number)) for number in range(2)]
        self.urls = [f"http://u:s3cret@127.0.0.1:{server.server_address[1]}" for server in self._servers]

    def __enter__(self) -> Self:
        for server in self._servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def arguments(self) -> tuple[str, ...]:
        """The addresses, for a bench."""
        a, b = self.urls
        return ("couch", "--couch-a", a, "--couch-b", b)

    def _handler(self, number: int) -> type[BaseHTTPRequestHandler]:
        couch = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:  # quiet
                pass

            def answer(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(content) if content else None
                kind = kind_of(self.command, self.path, body)
                couch.counts[kind] = couch.counts.get(kind, 0) + 1
                if kind in couch.hostile:
                    couch.hostile[kind](self)
                    return
                status, said = couch.answer(number, self.command, self.path, body)
                content = json.dumps(said).encode()
                self.wfile.write(b"HTTP/1.1 %d \r\nContent-Length: %d\r\n\r\n%s" % (status, len(content), content))

        for method in ("GET", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        return Handler

    def answer(self, number: int, method: str, path: str, body: Any) -> tuple[int, object]:  # JSON
        """Return the status and the JSON of a CouchDB's answer."""
        database, _, name = unquote(urlsplit(path).path)[1:].partition("/")
        if not database or not name:
            return 200, {"couchdb": "Welcome", "version": "3.5.0", "uuid": f"u{number}"}
        if database.startswith("_"):
            return (200, {"rows": []}) if name.startswith("_all_docs") else (404, {"error": "not_found"})
        if name == "_all_docs":
            return 200, {"rows": [self._row(key) for key in (body or {}).get("keys", ())]}
        key = f"{number}/{name}" if name.startswith("_local/") else name
        found = self.documents.get(key)
        if method == "GET":
            return (200, found) if found else (404, {"error": "not_found", "reason": "missing"})
        if name == "_bulk_docs":
            return 201, [self._stored(one["_id"], one) for one in body["docs"]]
        return 201, self._stored(key, {"_deleted": True} if method == "DELETE" else body)

    def _row(self, key: str) -> Mapping[str, object]:
        found = self.documents.get(key)
        return {"id": key, "doc": found} if found else {"key": key, "error": "not_found"}

    def _stored(self, key: str, document: dict[str, Any]) -> Mapping[str, object]:
        if document.get("_deleted"):
            self.documents.pop(key, None)
            return {"ok": True, "id": key, "rev": "9-a"}
        generation = int(self.documents.get(key, {}).get("_rev", "0-a").partition("-")[0]) + 1
        self.documents[key] = {**document, "_id": key, "_rev": f"{generation}-a"}
        return {"ok": True, "id": key, "rev": f"{generation}-a"}
