"""Ways to perform the same operations, each in a process of its own that performs a batch whenever it is told to.

    python -m benchmarks.subjects bare|bench DATABASE ADDRESS ...       (the benchmark `operation` starts them)

The two others are locustfiles: `plain_users.py` and `our_users.py`. A batch takes about a second, and between batches a
process is idle. So four of them can take turns many times, and noise of the machine affects all alike.
"""

# ruff: noqa: E402, I001 # gevent has to patch before anything else is imported
from gevent import monkey

monkey.patch_all()

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import random

import gevent
from gevent import socket
from gevent.event import Event

CONTROL = "BENCHMARKS_CONTROL"
"""The environment variable with the port at which the benchmark waits for this process."""

USERS = 20
WRITE_RATIO = 0.3

Batch = Callable[[int], None]
"""Performs that many operations."""


class Gate:
    """Lets users perform a number of operations, and holds them between batches."""

    def __init__(self) -> None:
        self._left = 0
        self._held = 0
        self._opened = Event()
        self._closed = Event()

    def passed(self) -> None:
        """Wait until the next operation may be performed; users call this between two operations."""
        if self._left > 0:
            self._left -= 1
            return
        self._held += 1
        if self._held == USERS:
            self._closed.set()
        self._opened.wait()

    def batch(self, operations: int) -> None:
        """Let all users together perform that many operations, once all are there, and wait until they have."""
        self._closed.wait()
        self._held, self._left = 0, operations - USERS
        self._closed.clear()
        opened, self._opened = self._opened, Event()
        opened.set()
        self._closed.wait()


def answer(batch: Batch, leave: Callable[[], None]) -> None:
    """Perform batches as the benchmark asks for them, and report what each used, until it says to leave."""
    with socket.create_connection(("127.0.0.1", int(os.environ[CONTROL]))) as control:
        lines = control.makefile("rw")
        for line in lines:
            if line.strip() == "leave":
                break
            operations = int(line)
            cpu, begun = time.process_time(), time.perf_counter()
            batch(operations)
            used = {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun}
            lines.write(json.dumps(used) + "\n")
            lines.flush()
        leave()
        lines.write("left\n")


def answer_under_locust(gate: Gate, leave: Callable[[], None]) -> None:
    """Answer in the background, if this process was started by the benchmark."""
    if CONTROL in os.environ:
        gevent.spawn(answer, gate.batch, leave)


def one_operation(keys: Sequence[str], read: Callable[[str], None], write: Callable[[str], None]) -> str:
    """Read or write a key, and return which."""
    key = keys[int(random() * len(keys))]
    if random() < WRITE_RATIO:
        write(key)
        return "write"
    read(key)
    return "read"


def run_bare(database: str, addresses: Sequence[str]) -> None:
    """Perform operations in a loop around the driver."""
    from benchmarks.drivers import DRIVERS  # noqa: PLC0415 # after the patch

    driver, gate = DRIVERS[database](addresses, USERS), Gate()
    keys, read, write, passed = driver.keys, driver.read, driver.write, gate.passed

    def work() -> None:
        while True:
            passed()
            key = keys[int(random() * len(keys))]
            try:
                if random() < WRITE_RATIO:
                    write(key)
                else:
                    read(key)
            except Exception as error:  # noqa: BLE001 # a time-out on a busy machine
                print(f"{type(error).__name__}: {error}", file=sys.stderr)

    for _ in range(USERS):
        threading.Thread(target=work, daemon=True).start()
    answer(gate.batch, driver.close)


def run_bench(database: str, arguments: Sequence[str]) -> None:
    """Perform operations as `bench.py` does, with all checks and a history; each batch ends with a scrape's work."""
    from benchmarks import null  # noqa: PLC0415

    null.register()
    from stalewatch.clients.databases import DATABASES  # noqa: PLC0415
    from stalewatch.commands.main import parser  # noqa: PLC0415
    from stalewatch.clients.options import parse_options  # noqa: PLC0415
    from stalewatch.engine.database_run import collect_garbage_rarely  # noqa: PLC0415
    from stalewatch.engine.process_run import ThreadedLoad, connected  # noqa: PLC0415
    from stalewatch.metrics.process import ProcessMetrics  # noqa: PLC0415
    from stalewatch.workloads.options import LoadOptions  # noqa: PLC0415
    from dataclasses import replace  # noqa: PLC0415

    parsed = parser("bench").parse_args(["bench", database, *arguments, "--users", str(USERS)])
    row, load = DATABASES[database], parse_options(LoadOptions, parsed)
    with connected(row, parse_options(row.options, parsed), load, print, history=Path(os.devnull)) as process:
        run = process.run
        metrics = ProcessMetrics(run.name, database, lambda: USERS)
        metrics.watch(run)
        run.create_keys()
        collect_garbage_rarely()

        def batch(operations: int) -> None:
            run.load = replace(load, operations=operations)
            ThreadedLoad(run).perform(lambda _progress: None)
            metrics.collect()

        try:
            answer(batch, lambda: None)
        finally:
            run.finish()
            run.remove_keys()


if __name__ == "__main__":
    {"bare": run_bare, "bench": run_bench}[sys.argv[1]](sys.argv[2], sys.argv[3:])
