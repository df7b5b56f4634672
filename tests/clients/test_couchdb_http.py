"""A connection to one leader, against servers with scripted answers."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from stalewatch.clients.couchdb.errors import AnswerTooLarge, MalformedAnswer, NotConnected, explain
from stalewatch.clients.couchdb.http import IDLE_S, Connection
from stalewatch.clients.couchdb.options import Leader
from tests.adversary.hostile import DRIP_S, HostileServer, dripping, endless
from tests.clients.scripted_server import OK, ScriptedServer


@contextmanager
def scripted(*answers: bytes | None) -> Iterator[tuple[ScriptedServer, Connection]]:
    server = ScriptedServer(*answers)
    connection = Connection(server.leader, timeout_s=0.5)
    try:
        yield server, connection
    finally:
        connection.close()
        server.close()


def test_requests_share_one_connection_and_carry_credentials() -> None:
    with scripted() as (server, connection):
        assert [connection.ask("PUT", "/db/k", b'{"v":1}') for _ in range(3)] == [(200, b"{}")] * 3
    assert server.connections == 1
    assert b"Authorization: Basic YWRhOnM6Mw==\r\n" in server.requests[0]
    assert server.requests[0].endswith(b'Content-Length: 7\r\n\r\n{"v":1}')


def test_a_chunked_answer_is_read_completely() -> None:
    chunked = b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[1,2\r\n1\r\n]\r\n0\r\n\r\n"
    with scripted(chunked) as (server, connection):
        assert connection.ask("GET", "/") == (201, b"[1,2]")
        assert connection.ask("GET", "/") == (200, b"{}")
    assert server.connections == 1


@pytest.mark.parametrize(
    "broken",
    [None, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"nonsense\r\n\r\n"],
    ids=["closed", "truncated", "malformed"],
)
def test_a_broken_answer_is_unknown_and_the_request_is_not_repeated(broken: bytes | None) -> None:
    with scripted(broken) as (server, connection):
        with pytest.raises(Exception) as caught:  # noqa: PT011 # the parser decides which
            connection.ask("PUT", "/db/k", b"{}")
        assert explain(caught.value).outcome == "unknown"
        assert len(server.requests) == 1
        assert connection.ask("GET", "/") == (200, b"{}")
    assert server.connections == 2


def test_a_refused_connection_means_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        leader = Leader("http", "127.0.0.1", server.getsockname()[1], "ada", "s3cret")
    with pytest.raises(NotConnected) as refused:
        Connection(leader, timeout_s=0.5).ask("GET", "/")
    assert explain(refused.value).outcome == "fail"
    assert "s3cret" not in str(refused.value)


def test_an_unresolvable_host_means_nothing_was_sent() -> None:
    with pytest.raises(NotConnected):
        Connection(Leader("http", "nowhere.invalid", 1), timeout_s=0.5).ask("GET", "/")


def test_a_late_answer_is_never_taken_for_the_next_ones() -> None:
    with scripted(b"", OK) as (server, connection):
        with pytest.raises(TimeoutError) as late:
            connection.ask("PUT", "/db/k", b"{}")
        assert explain(late.value).outcome == "unknown"
        assert connection.ask("GET", "/other") == (200, b"{}")
    assert server.connections == 2


@pytest.mark.parametrize("ask", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_a_whole_answer_has_one_deadline_however_often_some_of_it_arrives(ask: bytes) -> None:
    with HostileServer(dripping(lambda _request: ask)) as server:
        connection = Connection(Leader("http", "127.0.0.1", server.port), timeout_s=DRIP_S * 4)
        begin = time.monotonic()
        with pytest.raises(TimeoutError) as late:
            connection.ask("PUT", "/db/k", b"{}")
        connection.close()
        assert time.monotonic() - begin < DRIP_S * len(ask)
    assert explain(late.value).outcome == "unknown"


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n"]
)
def test_an_answer_is_read_up_to_a_largest_size(beginning: bytes) -> None:
    with HostileServer(endless(lambda _request: beginning)) as server:
        connection = Connection(Leader("http", "127.0.0.1", server.port), timeout_s=60, largest=1 << 20)
        with pytest.raises((AnswerTooLarge, MalformedAnswer)) as refused:
            connection.ask("PUT", "/db/k", b"{}")
        connection.close()
    assert explain(refused.value).outcome == "unknown"


def test_a_connection_closed_while_idle_is_replaced_before_use() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with scripted(OK, closing) as (server, connection):
        connection.ask("GET", "/")
        connection._socket.shutdown(socket.SHUT_WR)  # type: ignore[union-attr] # it is open # ends the server's loop
        time.sleep(IDLE_S + 0.1)
        assert connection.ask("GET", "/") == (200, b"{}")
        assert connection.ask("GET", "/") == (200, b"{}")
    assert server.connections == 3
