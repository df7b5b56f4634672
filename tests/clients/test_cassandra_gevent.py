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
import pytest

from clients.cassandra_gevent import Timer
from replication.local.cassandra import CassandraCluster
from tests.conftest import eventually

Ask = Callable[[str], Callable[[], dict[str, Any]]]
"""Asks the program of a node; what comes back waits for the answer."""


class Called:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_a_timer_calls_once_when_it_is_due() -> None:
    called = Called()
    timer = Timer(0.05, called)
    gevent.sleep(0.02)
    assert called.times == 0
    gevent.sleep(0.1)
    assert called.times == 1
    timer.cancel()  # as the driver does with one that came due in the end
    timer.cancel()


def test_one_that_was_due_before_calls_at_once() -> None:
    called = Called()
    Timer(-1.0, called)
    gevent.sleep(0.02)
    assert called.times == 1


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
    gevent.sleep(0.05)


def test_it_may_wait_in_what_it_calls() -> None:
    """As the driver does, for a lock: a timer of the hub's own would not be allowed to."""
    done = Called()

    def wait() -> None:
        gevent.sleep(0.01)
        done()

    Timer(0.0, wait)
    gevent.sleep(0.1)
    assert done.times == 1


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
    assert (found["wrong"], found["failed"]) == (0, 0)
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
    time.sleep(0.5)
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
    assert "Traceback" not in done.stderr
