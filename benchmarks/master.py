"""CPU and memory of a master with many workers that each report a thousand operations per second.

The master is real. The workers are simulated by this process, which sends what workers send, at the same pace. The
contents of reports are made once, and get the worker's name and the present second when they are sent.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import msgspec
import psutil
import zmq

from benchmarks.measurement import Row, progress
from benchmarks.operation import HERE
from stalewatch.checkers.judge import Judge
from stalewatch.clusters.local.ports import free
from stalewatch.history.operation import Read, Write
from stalewatch.locust import messages
from stalewatch.locust.messages import WorkerReport, counts_of, encode, verdict_rows
from stalewatch.recording.statistics import Statistics

WORKERS = (10, 50, 100, 200)
SECONDS = 10.0
"""How long each number of workers is measured."""

MOST_CPU = 0.5
"""The part of a core that the master may use with the most workers."""

VARIANTS = 20
"""How many different reports there are."""

OPERATIONS_A_REPORT = 1000
KEYS = 200
WRITES, STALE = 0.3, 0.05
"""Shares of the operations."""
SETTLE_S = 6.0
LOCUST_EVERY = 3
"""Workers send Locust's own report every three seconds."""


class SimulatedWorker:
    """A worker that sends messages over a socket of its own."""

    def __init__(self, context: zmq.Context[Any], index: int, port: int, contents: list[WorkerReport]) -> None:
        self.index = index
        self.run = ""
        self.ended = False
        self._name = f"simulated-{index}"
        self._number = 0
        self._ticks = index  # so that they do not all report at the same time
        self._socket = context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.IDENTITY, self._name.encode())
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(f"tcp://127.0.0.1:{port}")
        self._contents = contents
        self._send("client_ready", version("locust"))
        self._send(messages.HELLO, msgspec.to_builtins(messages.Hello()))

    def tick(self) -> None:
        """Send what a worker sends every second."""
        self._ticks += 1
        self._receive()
        state = {"state": "running" if self.run else "ready", "current_cpu_usage": 50, "current_memory_usage": 1 << 27}
        self._send("heartbeat", state)
        if self.run and not self.ended:
            self._report(last=False)
            self._send(messages.CLOCK, {"sent": time.monotonic_ns()})
            if self._ticks % LOCUST_EVERY == 0:
                self._send("stats", self._locust_stats())

    def _receive(self) -> None:
        while self._socket.poll(0):
            kind, data, _ = msgpack.loads(self._socket.recv(), strict_map_key=False)
            if kind == "ack":
                self.index = data["index"]
            elif kind == "spawn":
                self._start(data)
            elif kind == messages.DRAIN and not self.ended:
                self.ended = True
                self._report(last=True)

    def _start(self, data: dict[str, Any]) -> None:
        if not self.run:  # the master may not have listened to the first one
            self._send(messages.HELLO, msgspec.to_builtins(messages.Hello()))
        self.run = data["parsed_options"][messages.RUN]
        classes = data["user_classes_count"]
        users = {"user_classes_count": classes, "user_count": sum(classes.values())}
        self._send("spawning", None)
        self._send("spawning_complete", users)

    def _send(self, kind: str, data: object) -> None:
        self._socket.send(msgpack.dumps((kind, data, self._name)))

    def _report(self, *, last: bool) -> None:
        made = self._contents[self._number % VARIANTS]
        made.run, made.worker, made.number, made.last = self.run, self.index, self._number, last
        numbers, second = made.counts.seconds, int(time.time())
        made.counts.seconds = {second + place: numbers[one] for place, one in enumerate(sorted(numbers))}
        self._send(messages.REPORT, {"report": encode(made)})
        self._number += 1

    def _locust_stats(self) -> dict[str, Any]:
        entry = {
            "last_request_timestamp": time.time(),
            "start_time": time.time() - 3,
            "num_requests": 3 * OPERATIONS_A_REPORT,
            "num_none_requests": 0,
            "num_failures": 0,
            "total_response_time": 6000,
            "max_response_time": 20,
            "min_response_time": 1,
            "total_content_length": 0,
            "response_times": dict.fromkeys(range(1, 20), 100),
            "num_reqs_per_sec": {int(time.time()): 1000},
            "num_fail_per_sec": {},
        }
        entries = [{"name": name, "method": "memory", **entry} for name in ("read", "write")]
        users = {"user_classes_count": {"MemoryUser": 1}, "user_count": 1}
        return {"stats": entries, "stats_total": {"name": "Aggregated", "method": "", **entry}, "errors": {}, **users}


def measure(_rounds: int) -> Iterator[Row]:
    """Yield the part of a core that the master uses, and its memory, by the number of workers."""
    contents = [_content(Random(seed)) for seed in range(VARIANTS)]
    for workers in WORKERS:
        progress(f"master: {workers} workers")
        cores, megabytes = _measured(workers, contents)
        goal = f"<= {MOST_CPU}" if workers == WORKERS[-1] else ""
        yield Row("master", f"CPU with {workers} workers", cores, "cores", cores, cores, goal, f"{megabytes:.0f} MB")


def _content(random: Random) -> WorkerReport:
    """Return the report of a second's operations."""
    judge, statistics, now = Judge(), Statistics(), time.time_ns()
    written: dict[str, int] = {}
    for number in range(OPERATIONS_A_REPORT):
        start, end = now + number * 1_000_000, now + number * 1_000_000 + round(random.expovariate(1 / 2e6))
        key = f"20260101000000abcd-w1-{random.randrange(KEYS)}"
        operation: Read | Write
        if random.random() < WRITES:
            written[key] = written.get(key, 0) + 1
            what = {"session": "s", "key": key, "version": written[key], "node": "127.0.0.1:27017"}
            operation = Write(**what, start=start, end=end, outcome="ok")
        else:
            shown = max(0, written.get(key, 0) - (random.random() < STALE))
            node = f"127.0.0.1:2701{random.randrange(8, 10)}"
            operation = Read(session="s", key=key, version=shown, node=node, start=start, end=end, outcome="ok")
        statistics.on_operation(operation, judge.observe(operation))
    return WorkerReport(
        run="",
        worker=0,
        number=0,
        host="simulated",
        phase="load",
        done=0,
        total=0,
        unit="",
        verdicts=verdict_rows(judge.drain()),
        counts=counts_of(statistics),
        duplicate_items=0,
        phantom_items=0,
        stalls=[],
        settings={},
        histories=[],
        clock_error_ns=0,
        failure=None,
        exit_code=0,
        last=False,
        ended_cleanly=True,
        extra_results={},
        counting_from_ns=now,
    )


def _measured(count: int, contents: list[WorkerReport]) -> tuple[float, float]:
    """Return the CPU seconds per second of a master with that many workers, and its memory in MB at the end."""
    (port,) = free(1)
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        master = _master(port, Path(folder), count)
        try:
            workers = [SimulatedWorker(context, index, port, contents) for index in range(count)]
            process, begun = psutil.Process(master.pid), time.monotonic()
            _until(begun + SETTLE_S, workers)
            while not all(one.run for one in workers):
                _tick(workers)
            used = _cpu_s(process)
            seconds = _until(time.monotonic() + SECONDS, workers)
            cores = (_cpu_s(process) - used) / seconds
            megabytes = process.memory_info().rss / 2**20
            master.send_signal(signal.SIGTERM)
            while master.poll() is None:
                _tick(workers)
        finally:
            master.kill()
        if (counted := _counted(Path(folder))) < count * seconds * OPERATIONS_A_REPORT:
            raise SystemExit(f"the master counted {counted:,} operations only:\n{(Path(folder) / 'log').read_text()}")
        return cores, megabytes


def _counted(folder: Path) -> int:
    result = json.loads((folder / "result.json").read_text())
    return sum(sum(counts.values()) for counts in result["operations"].values())


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _until(moment: float, workers: list[SimulatedWorker]) -> int:
    """Return how many seconds of the workers were run; on a busy machine, that is fewer than have passed."""
    ticks = 0
    while time.monotonic() < moment:
        _tick(workers)
        ticks += 1
    return ticks


def _tick(workers: list[SimulatedWorker]) -> None:
    """Run one second of every worker, spread over that second."""
    begun = time.monotonic()
    for number, worker in enumerate(workers, start=1):
        worker.tick()
        time.sleep(max(0.0, begun + number / len(workers) - time.monotonic()))


def _master(port: int, folder: Path, workers: int) -> "subprocess.Popen[bytes]":
    options = ("--headless", "--only-summary", "-u", str(workers), "-r", "100", "-t", "10m")
    ports = ("--master", "--master-bind-port", str(port), "--expect-workers", str(workers))
    users = str(HERE.parent / "locustfiles" / "memory_users.py")
    command = [sys.executable, "-m", "locust", "-f", users, *options, *ports]
    command += ["--report-json", str(folder / "result.json")]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
