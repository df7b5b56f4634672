"""The event loop under gevent: timers, sending and receiving, killed greenlets, and nodes that freeze or die."""

import gc
import json
import os
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent import get_hub

from stalewatch.clients.cassandra.event_loop import GreenletConnection, Timer
from stalewatch.clusters.local.cassandra import CassandraCluster
from tests.conftest import eventually

Query = Callable[[str], Callable[[], dict[str, Any]]]
"""Makes the program query a node; once the requests are sent, returns a function that waits for the results."""


class Called:
    """A callback that records when it is called."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self) -> None:
        self.moments.append(time.monotonic())

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while not self.moments and time.monotonic() < deadline:
            gevent.sleep(0.01)


def test_a_timer_fires_once_and_not_too_early() -> None:
    called, begin = Called(), time.monotonic()
    timer = Timer(0.05, called)
    called.wait()
    gevent.sleep(0.1)
    assert len(called.moments) == 1
    assert called.moments[0] >= begin + 0.05
    timer.cancel()  # the driver also cancels timers that have fired
    timer.cancel()


def test_time_for_which_the_loop_was_blocked_before_does_not_count() -> None:
    """In a greenlet woken by a timer of the loop, the loop's cached time is that of its last clock reading."""
    gevent.sleep(0.01)
    blocked_until = time.monotonic() + 0.3
    while time.monotonic() < blocked_until:
        pass
    called, begin = Called(), time.monotonic()
    Timer(0.2, called)
    called.wait()
    assert called.moments[0] >= begin + 0.2


def test_a_timer_in_the_past_fires_at_once() -> None:
    called = Called()
    Timer(-1.0, called)
    called.wait()
    assert len(called.moments) == 1


def test_a_cancelled_timer_does_not_fire_and_releases_its_callback() -> None:
    called = Called()
    kept = weakref.ref(called)
    gc.disable()
    try:
        timer = Timer(0.02, called)
        del called
        assert kept() is not None
        timer.cancel()
        assert kept() is None
    finally:
        gc.enable()


def test_a_timer_cancelled_between_its_expiry_and_its_call_does_not_fire() -> None:
    called, other = Called(), Called()
    canceller = get_hub().loop.timer(0.03)
    timer = Timer(0.03, called)
    canceller.start(timer.cancel)  # expires in the same turn of the loop, before the greenlet of the timer can run
    Timer(0.03, other)
    blocked_until = time.monotonic() + 0.06
    while time.monotonic() < blocked_until:
        pass
    other.wait()
    gevent.sleep(0.05)
    assert len(other.moments) == 1
    assert not called.moments


def test_a_timer_callback_may_block() -> None:
    """The driver's callback waits for a lock, which is not allowed in a callback of the hub itself."""
    done = Called()

    def wait() -> None:
        gevent.sleep(0.01)
        done()

    Timer(0.0, wait)
    done.wait()
    assert len(done.moments) == 1


class Paired(GreenletConnection):  # type: ignore[misc] # the driver ships no type information
    """A connection to the other end of a socket pair instead of a node."""

    def __init__(self, end: gevent.socket.socket) -> None:
        self.end = end
        super().__init__()

    def _connect_socket(self) -> None:
        self._socket = self.end

    def _send_options_message(self) -> None:
        """Send nothing."""


@pytest.fixture
def pair() -> Iterator[tuple[Paired, gevent.socket.socket]]:
    ours, theirs = gevent.socket.socketpair()
    ours.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 10_000)
    connection = Paired(ours)
    yield connection, theirs
    connection.close()
    theirs.close()
    gevent.sleep(0.01)


def test_everything_arrives_in_order_even_if_the_socket_is_full(
    pair: tuple[Paired, gevent.socket.socket],
) -> None:
    connection, theirs = pair
    pushed: list[bytes] = []
    arrived: list[bytes] = []

    def push(number: int) -> None:
        for size in (1, 50_000, 3, 7_000):
            pushed.append(bytes([number]) * size)
            connection.push(pushed[-1])
            gevent.sleep(0.001 * (number % 3))

    def read() -> None:
        while data := theirs.recv(3_000):
            arrived.append(data)

    reader = gevent.spawn(read)
    greenlets = [gevent.spawn(push, number) for number in range(10)]
    gevent.sleep(0.005)
    greenlets[3].kill()
    gevent.joinall(greenlets)
    with gevent.Timeout(60):
        while sum(map(len, arrived)) < sum(map(len, pushed)):
            gevent.sleep(0.01)
    reader.kill()
    assert b"".join(arrived) == b"".join(pushed)


def test_closing_the_connection_ends_its_greenlets(pair: tuple[Paired, gevent.socket.socket]) -> None:
    connection, _ = pair
    before = await_greenlets(lambda running: running > 0)
    connection.push(b"x" * 1_000_000)
    await_greenlets(lambda running: running == before + 1)
    connection.close()
    await_greenlets(lambda running: running == before - 1)  # the reading greenlet has ended too


def await_greenlets(matches: Callable[[int], bool]) -> int:
    """Let greenlets run until their number matches, and return it."""
    with gevent.Timeout(60):
        while not matches(found := len(running_greenlets())):
            gevent.sleep(0.01)
    return found


def running_greenlets() -> list[gevent.Greenlet]:
    # `isinstance` would ask a weak proxy for the class of an object that may be gone.
    return [one for one in gc.get_objects() if issubclass(type(one), gevent.Greenlet) and one.started and not one.dead]


@contextmanager
def program(what: str, hosts: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.clients.cassandra_greenlets", what, hosts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.server
def test_killed_greenlets_do_not_mix_up_answers(ring: CassandraCluster) -> None:
    """Every read returns its own key's value, and no connection is lost, although greenlets are killed all the time."""
    with program("killed", ring.uri()) as running:
        output, _ = running.communicate(timeout=240)
    found = json.loads(output)
    assert found["wrong"] == 0
    assert set(found["failed"]) <= {"OperationTimedOut", "ReadTimeout", "WriteTimeout"}, found  # on a busy machine
    assert found["same_connections"] is True


@pytest.fixture
def query(ring: CassandraCluster) -> Iterator[Query]:
    with program("one", ring.uri()) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        lines_in, lines_out = running.stdin, running.stdout

        def begin(node: str) -> Callable[[], dict[str, Any]]:
            lines_in.write(f"{node}\n")
            lines_in.flush()
            assert lines_out.readline() == "sent\n"
            return lambda: json.loads(lines_out.readline())

        yield begin


def endings(found: list[tuple[str, float]]) -> set[str]:
    return {ending for ending, _ in found}


@pytest.mark.server
def test_only_requests_to_a_frozen_node_time_out(ring: CassandraCluster, query: Query) -> None:
    node = ring.nodes()[1]
    eventually(lambda: endings(query(node)()["one"]) == {"ok"})
    ring.pause(node)
    try:
        found = query(node)()
    finally:
        ring.resume(node)
    assert endings(found["one"]) == {"OperationTimedOut"}
    assert endings(found["other"]) == {"ok"}
    assert max(took for _, took in found["other"]) < min(took for _, took in found["one"])
    eventually(lambda: endings(query(node)()["one"]) == {"ok"})


@pytest.mark.server
def test_pending_requests_fail_as_soon_as_their_connection_is_lost(ring: CassandraCluster, query: Query) -> None:
    node = ring.nodes()[1]
    eventually(lambda: endings(query(node)()["one"]) == {"ok"})
    ring.pause(node)
    answer = query(node)
    ring.kill(node)
    found = answer()
    assert endings(found["one"]) == {"ConnectionShutdown"}, found  # before their time-outs
    ring.restart(node)
    eventually(lambda: endings(query(node)()["one"]) == {"ok"})


def test_a_server_that_closes_connections_is_reported_without_waiting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def hang_up() -> None:
            server.settimeout(0.1)
            while not over.is_set():
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    continue

        thread = threading.Thread(target=hang_up)
        thread.start()
        port = server.getsockname()[1]
        command = [sys.executable, "bench.py", "cassandra", "--hosts", f"127.0.0.1:{port}", "--timeout", "30"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ}, check=False)
        finally:
            over.set()
            thread.join()
    assert done.returncode == 3
    assert f"127.0.0.1:{port}" in done.stderr
    assert "did not answer in time" not in done.stderr
    assert "Traceback" not in done.stderr
