"""A TLS handshake that comes byte by byte, on a connection that an operation waits for: it ends by its time-out.

Separate from other hostile servers, which a bench meets while it connects: here the driver knows the server already,
and opens one more connection.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.adversary.hostile import Answer, HostileServer, dripping
from tests.adversary.running import Started
from tests.adversary.test_connecting import HELLO, TLS_RECORD, always, mongo_message
from tests.clients.certificates import certificate

SOON_S = 60.0
"""The handshake would take an hour."""

MONGO = """
from gevent import monkey
monkey.patch_all()
import sys
from stalewatch.clients.mongodb.address import MongoAddress
from stalewatch.clients.mongodb.options import MongoOptions
uri = f"mongodb://{sys.argv[1]}/?replicaSet=rs0&tls=true&tlsInsecure=true"
client = MongoAddress(MongoOptions(uri=uri, timeout_s=1)).open()
client.admin.command("ping")
"""

CASSANDRA = """
from gevent import monkey
monkey.patch_all()
import ssl, sys
from cassandra.connection import DefaultEndPoint
from stalewatch.clients.cassandra.event_loop import GreenletConnection
host, port = sys.argv[1].split(":")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
GreenletConnection(DefaultEndPoint(host, int(port)), ssl_context=context, connect_timeout=1)
"""

slow: Answer = dripping(always(TLS_RECORD))


class SlowPool:
    """A MongoDB primary until it has said hello to its first client, which then asks for more connections."""

    def __init__(self, folder: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate(folder)[1:])
        self._greeted = False

    def __call__(self, client: socket.socket, closing: threading.Event) -> None:
        if self._greeted:
            slow(client, closing)
            return
        with self._context.wrap_socket(client, server_side=True) as secured:
            hello = secured.recv(65536)
            self._greeted = True
            while hello:
                secured.sendall(greeting(secured, hello))
                hello = secured.recv(65536)


def greeting(client: socket.socket, request: bytes) -> bytes:
    own = "{}:{}".format(*client.getsockname())
    return mongo_message(request, {**HELLO, "hosts": [own], "me": own})


def of_mongo(folder: Path) -> AbstractContextManager[HostileServer]:
    return HostileServer(SlowPool(folder))


def of_cassandra(_folder: Path) -> AbstractContextManager[HostileServer]:
    return HostileServer(slow)


@pytest.mark.parametrize(
    ("script", "served"), [(MONGO, of_mongo), (CASSANDRA, of_cassandra)], ids=["mongo", "cassandra"]
)
def test_a_tls_handshake_that_comes_byte_by_byte_ends_by_its_time_out(
    script: str, served: Callable[[Path], AbstractContextManager[HostileServer]], tmp_path: Path
) -> None:
    with served(tmp_path) as server:
        ended = Started(tmp_path / "run", "-c", script, server.node).ended(SOON_S)
    assert ended.code == 1, ended  # killed if it took longer
    assert "no connection in time" in ended.said
