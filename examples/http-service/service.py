"""A service that keeps profiles in MongoDB, with w=1: `python service.py --read-from 127.0.0.1:27019`."""

from gevent import monkey

monkey.patch_all()

import argparse
import json
import socket
from collections.abc import Callable, Iterable
from typing import Any

from gevent.pywsgi import WSGIServer
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

LOCAL = "mongodb://127.0.0.1:27017,127.0.0.1:27018,127.0.0.1:27019/?replicaSet=rs0"


class ProfileService:
    """PUT, GET and DELETE /profiles/KEY; a profile is a JSON object. GET /durable/KEY waits for a majority."""

    def __init__(self, uri: str, read_from: str) -> None:
        """Write with w=1; read from the primary, from any secondary, or from one member."""
        self.profiles = MongoClient(uri, w=1).shop.profiles
        member = MongoClient(read_from, directConnection=True) if ":" in read_from else None
        self.read = (member or MongoClient(uri, readPreference=read_from)).shop.profiles
        self.durable = self.profiles.with_options(read_concern=ReadConcern("linearizable"))

    def __call__(self, request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request with a JSON object, and with its version as a header."""
        kind, key = request["PATH_INFO"].strip("/").split("/")
        if request["REQUEST_METHOD"] == "PUT":
            body = json.load(request["wsgi.input"])
            self.profiles.replace_one({"_id": key}, body, upsert=True)
        elif request["REQUEST_METHOD"] == "DELETE":
            body = {}
            self.profiles.delete_one({"_id": key})
        else:
            body = (self.durable if kind == "durable" else self.read).find_one({"_id": key}) or {}
        content = json.dumps(body).encode()
        start("200 OK", [("Content-Length", str(len(content))), ("X-Version", str(body.get("version", 0)))])
        return [content]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--mongo", default=LOCAL, help="where MongoDB is (default: the local cluster)")
    parser.add_argument("--read-from", default="primary", help="primary, secondary, or HOST:PORT")
    parser.add_argument("--port", type=int, default=8001)
    given = parser.parse_args()
    server = WSGIServer(("127.0.0.1", given.port), ProfileService(given.mongo, given.read_from), log=None)
    server.init_socket()
    server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # do not hold answers back for 40 ms
    server.serve_forever()
