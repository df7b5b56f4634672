"""CPU and memory of a master with fifty workers that each report a thousand operations per second.

    python -m benchmarks.master [SECONDS]     # default: ten minutes

The master is real. The workers are simulated by this process, which sends what workers send, at the same pace.
"""

import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import msgpack
import psutil
import zmq

from benchmarks.tables import print_table
from stalewatch.checkers.judge import Judge
from stalewatch.clusters.local.ports import free
from stalewatch.history.operation import Read, Write
from stalewatch.locust import messages
from stalewatch.locust.messages import WorkerReport, counts_of, encode, verdict_rows
from stalewatch.recording.statistics import Statistics

WORKERS = 50
OPERATIONS_A_REPORT = 1000
KEYS = 200
WRITES, STALE = 0.3, 0.05
"""Shares of the operations."""
SETTLE_S = 10
LOCUST_EVERY = 3
"""Workers send Locust's own report every three seconds."""


class SimulatedWorker:
    """A worker that sends messages over a socket of its own."""

    def __init__(self, context: zmq.Context[Any], index: int, port: int) -> None:
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
        self._random = Random(index)
        self._send("client_ready", version("locust"))

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
            if kind == "spawn":
                self._start(data)
            elif kind == messages.DRAIN and not self.ended:
                self.ended = True
                self._report(last=True)

    def _start(self, data: dict[str, Any]) -> None:
        self.run = data["parsed_options"][messages.RUN]
        classes = data["user_classes_count"]
        users = {"user_classes_count": classes, "user_count": sum(classes.values())}
        self._send("spawning", None)
        self._send("spawning_complete", users)

    def _send(self, kind: str, data: object) -> None:
        self._socket.send(msgpack.dumps((kind, data, self._name)))

    def _report(self, *, last: bool) -> None:
        judge, statistics, random, now = Judge(), Statistics(), self._random, time.time_ns()
        written: dict[str, int] = {}
        for number in range(OPERATIONS_A_REPORT):
            start, end = now + number * 1_000_000, now + number * 1_000_000 + round(random.expovariate(1 / 2e6))
            key = f"{self.run}-w{self.index}-{random.randrange(KEYS)}"
            operation: Read | Write
            if random.random() < WRITES:
                written[key] = written.get(key, 0) + 1
                operation = Write(session="s", key=key, version=written[key], start=start, end=end, outcome="ok")
            else:
                shown = max(0, written.get(key, 0) - (random.random() < STALE))
                operation = Read(session="s", key=key, version=shown, start=start, end=end, outcome="ok")
            kind = "write" if isinstance(operation, Write) else "read"
            statistics.count(kind, operation, judge.observe(operation), stalled=False)
        self._send(messages.REPORT, {"report": self._encoded(judge, statistics, last=last)})
        self._number += 1

    def _encoded(self, judge: Judge, statistics: Statistics, *, last: bool) -> bytes:
        return encode(
            WorkerReport(
                run=self.run,
                worker=self.index,
                number=self._number,
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
                last=last,
                ended_cleanly=True,
                extra_results={},
                counting_from_ns=1,
            )
        )

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


def main(seconds: float) -> None:
    """Print the master's CPU and memory in the course of the run."""
    (port,) = free(1)
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        master = _master(port, Path(folder) / "result.json", seconds)
        workers = [SimulatedWorker(context, index, port) for index in range(WORKERS)]
        process, begun = psutil.Process(master.pid), time.monotonic()
        marks: list[tuple[float, float, int]] = []
        while master.poll() is None:
            _tick(workers)
            if time.monotonic() - begun > SETTLE_S + len(marks) * max(5.0, seconds / 10) and master.poll() is None:
                times = process.cpu_times()
                marks.append((time.monotonic(), times.user + times.system, process.memory_info().rss))
        (start, cpu, _), *later = marks
    rows = [
        (f"{at - start:.0f}", f"{(used - cpu) / (at - start):.1%}", f"{rss / 2**20:.0f}") for at, used, rss in later
    ]
    print_table(f"master with {WORKERS} workers", ("seconds", "of a core since the start", "memory, MB"), rows)


def _tick(workers: list[SimulatedWorker]) -> None:
    """Run one second of every worker, spread over that second."""
    for worker in workers:
        due = time.monotonic() + 1 / len(workers)
        worker.tick()
        time.sleep(max(0.0, due - time.monotonic()))


def _master(port: int, result: Path, seconds: float) -> subprocess.Popen[bytes]:
    options = ("--headless", "--only-summary", "-u", str(WORKERS), "-r", "100", "-t", f"{seconds + SETTLE_S:.0f}s")
    ports = ("--master", "--master-bind-port", str(port), "--expect-workers", str(WORKERS))
    command = [sys.executable, "-m", "locust", "-f", "locustfiles/memory_users.py", *options, *ports]
    return subprocess.Popen([*command, "--report-json", str(result)], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 600)
