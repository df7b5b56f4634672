"""What each way to perform an operation costs: a bare driver loop, the bench, a plain Locust user, and ours.

All four run against one local cluster, in processes of their own that take turns. CPU time is that of the load
generator, which does not include the servers. In a closed loop the mean latency follows from the time of a batch.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measurement import ADDRESSES, Row, differences, progress, ratios, row, servers
from benchmarks.subjects import CONTROL, USERS

HERE = Path(__file__).parent
START_S = 120.0


class Subject(NamedTuple):
    """A database to measure: operations in a batch, options of the bench and the users, Locust's class, the goal."""

    batch: int
    options: tuple[str, ...]
    users: str
    bench_goal: str
    bare: tuple[str, ...]
    """The drivers of the bare loops; the goal is for the first."""


SUBJECTS = {
    "mongo": Subject(3000, ("--read-from", "secondary"), "MongoUser", "<= 1.05", ("mongo",)),
    "cassandra": Subject(
        2500,
        ("--write-cl", "ONE", "--read-cl", "ONE"),
        "CassandraUser",
        "<= 1.00",
        ("cassandra", "cassandra-with-our-event-loop"),
    ),
    "couch": Subject(2500, ("--write-to", "home", "--read-from", "same"), "CouchUser", "<= 1.00", ("couch",)),
    "null": Subject(6000, (), "NullUser", "", ("null",)),
}


class Used(NamedTuple):
    """What a batch used, in microseconds per operation."""

    cpu_us: float
    latency_us: float


class Process:
    """One process that performs batches."""

    def __init__(self, name: str, listener: socket.socket, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 # closed with the process
        port = str(listener.getsockname()[1])
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, CONTROL: port, **env},
        )
        self._connection = self._accepted(listener)
        self._lines = self._connection.makefile("rw")

    def _accepted(self, listener: socket.socket) -> socket.socket:
        """Wait until the process connects, which it does once it is ready."""
        patience = time.monotonic() + START_S
        while self._process.poll() is None and time.monotonic() < patience:
            try:
                return listener.accept()[0]
            except TimeoutError:
                pass
        self.kill()
        raise SystemExit(self._failure("did not start"))

    def batch(self, operations: int) -> Used:
        """Perform a batch."""
        used = json.loads(self._say(str(operations)))
        return Used(used["cpu_s"] / operations * 1e6, used["wall_s"] * USERS / operations * 1e6)

    def leave(self) -> None:
        """End the process."""
        if self._process.poll() is None:
            self._say("leave")
            self._process.wait(60)
        self._connection.close()
        self._log.close()

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> str:
        self._lines.write(line + "\n")
        self._lines.flush()
        answer = self._lines.readline()
        if not answer:
            raise SystemExit(self._failure("ended early"))
        return answer

    def _failure(self, what: str) -> str:
        self._log.seek(0)
        return f"{self.name} {what}:\n{self._log.read()[-4000:]}"


def measure(database: str, rounds: int) -> Iterator[Row]:
    """Yield ratios first, then costs."""
    with null_server() if database == "null" else _local(database) as addresses:
        yield from _measure(database, SUBJECTS[database], addresses, rounds)


@contextmanager
def _local(database: str) -> Iterator[list[str]]:
    yield servers(database)


@contextmanager
def null_server(*stall: str) -> Iterator[list[str]]:
    """Run a null server, and yield its port."""
    command = [sys.executable, "-m", "benchmarks.null", *stall]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None  # noqa: S101 # it is a pipe
        try:
            yield [server.stdout.readline().strip()]
        finally:
            server.kill()


def _measure(database: str, subject: Subject, addresses: list[str], rounds: int) -> Iterator[Row]:
    with ExitStack() as stack:
        processes = _processes(database, subject, addresses, stack)
        used: dict[str, list[Used]] = {one.name: [] for one in processes}
        for one in processes:
            one.batch(subject.batch)  # warms up connections, caches and the servers
        for number in range(rounds):
            progress(f"operation: {database}, round {number + 1} of {rounds}")
            for one in processes:
                used[one.name].append(one.batch(subject.batch))
        for one in processes:
            one.leave()
    yield from _rows(database, subject, used)


def _processes(database: str, subject: Subject, addresses: list[str], stack: ExitStack) -> list[Process]:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listener.settimeout(1.0)
    where = _where(database, addresses)
    locust = ("-m", "locust", "--headless", "--only-summary", "-u", str(USERS), "-r", "100", "-t", "1h")
    history = ("--history-dir", stack.enter_context(tempfile.TemporaryDirectory()), "--keys", "1000")
    commands: dict[str, tuple[Sequence[str], Mapping[str, str]]] = {
        "bench": (("-m", "benchmarks.subjects", "bench", database, *where, *subject.options), {})  # creates the schema
    }
    for name in subject.bare:
        commands[f"bare loop {name}"] = (("-m", "benchmarks.subjects", "bare", name, *addresses), {})
    plain = {"BENCHMARKS_DATABASE": subject.bare[0], "BENCHMARKS_ADDRESSES": " ".join(addresses)}
    commands["plain Locust user"] = ((*locust, "-f", str(HERE / "plain_users.py")), plain)
    ours = (*locust, "-f", str(HERE / "our_users.py"), *where, *subject.options, *history, subject.users)
    commands["our Locust user"] = (ours, {})
    processes = []
    for name, (command, environment) in commands.items():
        progress(f"operation: {database}, starting {name}")
        found = {"PYTHONPATH": str(HERE.parent), **environment}
        processes.append(Process(name, listener, [sys.executable, *command], found))
        stack.callback(processes[-1].kill)
    return processes


def _where(database: str, addresses: Sequence[str]) -> list[str]:
    if database == "null":
        return ["--null-port", addresses[0]]
    named = zip(ADDRESSES[database], addresses, strict=True)
    return [text for name, address in named for text in (f"--{name.replace('_', '-')}", address)]


def _rows(database: str, subject: Subject, used: Mapping[str, Sequence[Used]]) -> Iterator[Row]:
    cpu = {name: [one.cpu_us for one in batches] for name, batches in used.items()}
    latency = {name: [one.latency_us for one in batches] for name, batches in used.items()}
    first, *others = (f"bare loop {name}" for name in subject.bare)
    benchmark, goal = f"operation {database}", subject.bench_goal

    def compared(one: str, other: str, values: Mapping[str, Any], what: str, goal: str = "") -> Row:
        return row(benchmark, f"{what}: {one} / {other}", ratios(values[one], values[other]), "x", goal=goal)

    yield compared("bench", first, cpu, "CPU", goal)
    for other in others:
        yield compared("bench", other, cpu, "CPU")
    yield compared("our Locust user", "plain Locust user", cpu, "CPU", "<= 1.00" if database != "null" else "")
    yield compared("our Locust user", "bench", cpu, "CPU")
    yield compared("bench", first, latency, "latency")
    yield compared("our Locust user", "plain Locust user", latency, "latency")
    yield row(benchmark, "CPU: bench - bare loop", differences(cpu["bench"], cpu[first]), "us")
    yield row(benchmark, "CPU: our - plain user", differences(cpu["our Locust user"], cpu["plain Locust user"]), "us")
    for name, costs in cpu.items():
        yield row(benchmark, f"CPU per operation: {name}", costs, "us")
