"""The driver's event loop under gevent: nothing is mixed up, whatever is killed, and what is due comes."""

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

Ask = Callable[[str], Callable[[], dict[str, Any]]]
"""Lets the program ask a node, and returns when it has; what that returns waits for the answers."""


class Called:
    """Notes when it is called."""

    def __init__(self) -> None:
        self.moments: list[float] = []

    def __call__(self) -> None:
        self.moments.append(time.monotonic())

    def wait(self) -> None:
        deadline = time.monotonic() + 10
        while not self.moments and time.monotonic() < deadline:
            gevent.sleep(0.01)


def test_a_timer_calls_once_and_not_before_it_is_due() -> None:
    called, begin = Called(), time.monotonic()
    timer = Timer(0.05, called)
    called.wait()
    gevent.sleep(0.1)
    assert len(called.moments) == 1
    assert called.moments[0] >= begin + 0.05
    timer.cancel()  # as the driver does with one that came due in the end
    timer.cancel()


def test_what_held_the_loop_up_before_does_not_count() -> None:
    """A greenlet that a timer of the loop's wakes sees the loop's time of its last look at the clock."""
    gevent.sleep(0.01)
    held_up_until = time.monotonic() + 0.3
    while time.monotonic() < held_up_until:
        pass
    called, begin = Called(), time.monotonic()
    Timer(0.2, called)
    called.wait()
    assert called.moments[0] >= begin + 0.2


def test_one_that_was_due_before_calls_at_once() -> None:
    called = Called()
    Timer(-1.0, called)
    called.wait()
    assert len(called.moments) == 1


def test_a_cancelled_timer_calls_nothing_and_keeps_nothing() -> None:
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


def test_one_that_is_cancelled_between_its_moment_and_its_call_calls_nothing() -> None:
    called, other = Called(), Called()
    moment = get_hub().loop.timer(0.03)
    timer = Timer(0.03, called)
    moment.start(timer.cancel)  # comes due in the same look at the clock, before what the other has spawned can run
    Timer(0.03, other)
    held_up_until = time.monotonic() + 0.06
    while time.monotonic() < held_up_until:
        pass
    other.wait()
    gevent.sleep(0.05)
    assert len(other.moments) == 1
    assert not called.moments


def test_it_may_wait_in_what_it_calls() -> None:
    """As the driver does, for a lock: a timer of the hub's own would not be allowed to."""
    done = Called()

    def wait() -> None:
        gevent.sleep(0.01)
        done()

    Timer(0.0, wait)
    done.wait()
    assert len(done.moments) == 1


class Paired(GreenletConnection):  # type: ignore[misc] # the driver ships no type information
    """A connection to the other end of a pair of sockets, which is no node."""

    def __init__(self, end: gevent.socket.socket) -> None:
        self.end = end
        super().__init__()

    def _connect_socket(self) -> None:
        self._socket = self.end

    def _send_options_message(self) -> None:
        """Say nothing by itself."""


@pytest.fixture
def pair() -> Iterator[tuple[Paired, gevent.socket.socket]]:
    ours, theirs = gevent.socket.socketpair()
    ours.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_SNDBUF, 10_000)
    connection = Paired(ours)
    yield connection, theirs
    connection.close()
    theirs.close()
    gevent.sleep(0.01)


def test_all_arrives_in_its_order_also_what_the_socket_has_no_room_for(
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


def test_what_waits_for_room_waits_no_longer_than_the_connection(pair: tuple[Paired, gevent.socket.socket]) -> None:
    connection, _ = pair
    there = len(greenlets_at_work())
    connection.push(b"x" * 1_000_000)
    gevent.sleep(0.05)
    assert len(greenlets_at_work()) == there + 1
    connection.close()
    gevent.sleep(0.05)
    assert len(greenlets_at_work()) == there - 1  # nor does it go on reading


def greenlets_at_work() -> list[gevent.Greenlet]:
    return [one for one in gc.get_objects() if isinstance(one, gevent.Greenlet) and one.started and not one.dead]


@contextmanager
def program(what: str, hosts: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.clients.cassandra_greenlets", what, hosts]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


@pytest.mark.server
def test_killed_greenlets_mix_nothing_up(ring: CassandraCluster) -> None:
    """Each value is read where it was written, and no connection is lost, however greenlets are killed in between."""
    with program("killed", ring.uri()) as running:
        output, _ = running.communicate(timeout=120)
    found = json.loads(output)
    assert found["wrong"] == 0
    assert set(found["failed"]) <= {"OperationTimedOut", "ReadTimeout", "WriteTimeout"}, found  # of a busy machine
    assert found["right"] > 200
    assert found["killed"] > 100
    assert found["same_connections"] is True


@pytest.fixture
def ask(ring: CassandraCluster) -> Iterator[Ask]:
    with program("one", ring.uri()) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        lines_in, lines_out = running.stdin, running.stdout

        def begin(node: str) -> Callable[[], dict[str, Any]]:
            lines_in.write(f"{node}\n")
            lines_in.flush()
            assert lines_out.readline() == "asked\n"
            return lambda: json.loads(lines_out.readline())

        yield begin


def endings(found: list[tuple[str, float]]) -> set[str]:
    return {ending for ending, _ in found}


@pytest.mark.server
def test_a_frozen_node_costs_those_who_ask_it_their_time_out(ring: CassandraCluster, ask: Ask) -> None:
    node = ring.nodes()[1]
    eventually(lambda: endings(ask(node)()["one"]) == {"ok"})
    ring.pause(node)
    try:
        found = ask(node)()
    finally:
        ring.resume(node)
    assert endings(found["one"]) == {"OperationTimedOut"}
    assert all(1.9 < took < 3 for _, took in found["one"])
    assert endings(found["other"]) == {"ok"}
    assert all(took < 1.5 for _, took in found["other"])
    eventually(lambda: endings(ask(node)()["one"]) == {"ok"})


@pytest.mark.server
def test_requests_end_with_the_connection_that_carries_them(ring: CassandraCluster, ask: Ask) -> None:
    node = ring.nodes()[1]
    eventually(lambda: endings(ask(node)()["one"]) == {"ok"})
    ring.pause(node)
    answer = ask(node)
    ring.kill(node)
    found = answer()
    assert endings(found["one"]) == {"ConnectionShutdown"}, found
    assert all(took < 1.9 for _, took in found["one"])  # not only when their time was over
    ring.restart(node)
    eventually(lambda: endings(ask(node)()["one"]) == {"ok"})


def test_a_server_that_hangs_up_at_once_is_told_at_once() -> None:
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
