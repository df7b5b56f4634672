"""Users and passwords are sent to nobody but the servers of the address that they were given with."""

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from pymongo.errors import PyMongoError

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.couchdb.administration import LeaderAdmin
from stalewatch.clients.couchdb.http import Connection
from stalewatch.clients.couchdb.options import Leader
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.mongodb.address import MongoAddress
from stalewatch.clients.mongodb.client import MongoDatabaseClient
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.history.clock import RealClock
from tests.adversary.hostile import HostileServer
from tests.adversary.test_connecting import HELLO, mongo_message

USER, PASSWORD = "ada", "s3cret"


class Recorder:
    """What a server was sent, over all connections."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def as_mongo(self, client: socket.socket, _closing: threading.Event) -> None:
        """Pose as the primary of a set."""
        while request := client.recv(65536):
            self.heard.append(request)
            client.sendall(mongo_message(request, HELLO))

    def as_http(self, client: socket.socket, _closing: threading.Event) -> None:
        """Answer every request with an empty object."""
        while request := client.recv(65536):
            self.heard.append(request)
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    return Recorder()


@pytest.mark.server
def test_mongodb_gets_no_login_before_it_is_known_to_be_a_member(whole: MongoCluster, recorder: Recorder) -> None:
    with HostileServer(recorder.as_mongo) as server:
        client = MongoDatabaseClient(MongoOptions(uri=whole.uri(), read_from=server.node, timeout_s=5), RealClock())
        with pytest.raises(BadAddress, match="is not a member of the set"):
            client.prepare()
    assert recorder.heard
    assert not [request for request in recorder.heard if b"sasl" in request.lower()]


def test_a_mongodb_that_is_only_looked_at_gets_no_login(recorder: Recorder) -> None:
    with HostileServer(recorder.as_mongo) as server:
        address = MongoAddress(MongoOptions(uri=f"mongodb://{USER}:{PASSWORD}@127.0.0.1:1/?authMechanism=PLAIN"))
        with address.open_stranger("127.0.0.1", server.port) as stranger:
            stranger.admin.command("hello")
        heard = b"".join(recorder.heard)
        assert heard
        assert b"sasl" not in heard.lower()
        assert PASSWORD.encode() not in heard
        with address.open_member("127.0.0.1", server.port) as member, suppress(PyMongoError):
            member.admin.command("hello")
    assert PASSWORD.encode() in b"".join(recorder.heard)  # so the server would have seen it


@pytest.mark.server
def test_cassandra_connects_to_no_coordinator_outside_the_ring(ring: CassandraCluster, recorder: Recorder) -> None:
    for flag in ("coordinator", "read_from"):
        with HostileServer(recorder.as_http) as server:
            options = CassandraClientOptions(hosts=ring.uri(), **{flag: server.node})  # type: ignore[arg-type] # text
            with pytest.raises(BadAddress, match="is not a node of the ring"):
                CassandraDatabaseClient(options, RealClock()).prepare()
    assert recorder.heard == []


def test_no_redirection_of_a_couchdb_is_followed(recorder: Recorder) -> None:
    with HostileServer(recorder.as_http) as other:
        there = b"HTTP/1.1 302 Found\r\nLocation: http://%s/\r\nContent-Length: 0\r\n\r\n" % other.node.encode()
        with HostileServer(lambda client, _: (client.recv(65536), client.sendall(there))[1]) as server:
            leader = Leader("http", "127.0.0.1", server.port, USER, PASSWORD)
            with closing(LeaderAdmin("--couch-a", leader, 5.0)) as admin, pytest.raises(ClientError, match="302"):
                admin.ask("GET", "")
            with closing(Connection(leader, 5.0)) as connection:
                assert connection.ask("GET", "/db/key")[0] == 302
    assert recorder.heard == []


def test_a_couchdb_gets_the_login_of_its_own_address(recorder: Recorder) -> None:
    with HostileServer(recorder.as_http) as server:
        leader = Leader("http", "127.0.0.1", server.port, USER, PASSWORD)
        with closing(Connection(leader, 5.0)) as connection:
            connection.ask("GET", "/")
    assert b64encode(f"{USER}:{PASSWORD}".encode()) in recorder.heard[0]
