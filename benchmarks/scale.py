"""Load on several workers, many users, a long run's memory, and the time that commands take to start."""

import gc
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import psutil

from benchmarks.judge import operations, slowed
from benchmarks.measurement import Row, output_of, progress, ratios, row
from benchmarks.operation import HERE
from stalewatch.checkers.judge import Judge
from stalewatch.clusters.local.ports import free
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header
from stalewatch.history.writer import HistoryWriter
from stalewatch.locust.messages import counts_of, encode, verdict_rows
from stalewatch.metrics.process import ProcessMetrics
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.workloads.options import LoadOptions

WORKERS = (1, 2, 4)
CROWD = 400
"""Enough users to fill a core."""

MANY = 5000
LONG = 4_000_000
"""Operations of a long run."""

A_REPORT = 5000
STARTS = {
    "stalewatch --help": ("--help",),
    "stalewatch check --help": ("check", "--help"),
    "stalewatch check FILE": ("check",),
}

HEADER = Header(format=FORMAT, version=FORMAT_VERSION, run="r", database="memory", clock_error_ns=0, closes=True)


def measure_workers(rounds: int) -> Iterator[Row]:
    """Yield the throughput of several workers over that of one; more than there are cores gain nothing."""
    found: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for number in range(min(rounds, 3)):
        for workers in WORKERS:
            progress(f"workers: {workers}, round {number + 1} of {min(rounds, 3)}")
            found[workers].append(_throughput(workers))
    cores = os.cpu_count() or 1
    for workers in WORKERS[1:]:
        goal = ">= 1.95" if workers == 2 <= cores else ""  # noqa: PLR2004 # two
        note = "" if workers <= cores else f"this machine has {cores} cores"
        yield row("workers", f"{workers} workers / 1", ratios(found[workers], found[1]), "x", goal=goal, note=note)
    yield row("workers", "1 worker that fills a core", found[1], "operations/s")


def _throughput(workers: int) -> float:
    """Return the operations per second of a fixed number of users with that many workers."""
    (port,) = free(1)
    ports = ("--master-bind-port", str(port), "--master-port", str(port))
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        load = ("-u", str(CROWD), "-r", "200", "-t", "6s", "--service", "0.002")
        output_of(_locust(*load, "--processes", str(workers), *ports, "--report-json", str(result), "MemoryUser"))
        found = json.loads(result.read_text())
    return float(sum(sum(counts.values()) for counts in found["operations"].values()) / found["duration_s"])


def _locust(*arguments: str) -> list[str]:
    users = str(HERE / "our_users.py")
    return [sys.executable, "-m", "locust", "-f", users, "--headless", "--only-summary", *arguments]


def measure_spawn(rounds: int) -> Iterator[Row]:
    """Yield what it takes until many users have opened their sessions and run, at a rate that leaves the core free."""
    times, costs = [], []
    for number in range(min(rounds, 2)):
        progress(f"spawn: {MANY:,} users, round {number + 1} of {min(rounds, 2)}")
        load = ("-u", str(MANY), "-r", str(MANY), "-t", "8s", "--rate", "500", "--keys", "100", "CountedUser")
        lines = output_of(_locust(*load), BENCHMARKS_SPAWNED=str(MANY)).splitlines()
        spawned = json.loads(next(line for line in lines if line.startswith('{"spawned"')))
        times.append(spawned["wall_s"])
        costs.append(spawned["cpu_s"] / MANY * 1e6)
    yield row("spawn", f"{MANY:,} users with open sessions", times, "s")
    yield row("spawn", "CPU per user", costs, "us")


def measure_memory(_rounds: int) -> Iterator[Row]:
    """Yield the memory of a worker in the course of a long run.

    Operations come as fast as they are recorded, a report after every 5,000, instead of over hours. Their own times are
    those of about 1,000 operations a second.
    """
    yield from memory("memory", LONG)


def memory(name: str, length: int) -> Iterator[Row]:
    """Yield the memory of a worker after so many operations over that after a quarter of them."""
    progress(f"{name}: a worker with {length:,} operations")
    found = json.loads(output_of([sys.executable, "-m", "benchmarks.scale", str(length)], PYTHONPATH=str(HERE.parent)))
    early, late = found[str(length // 4)], found[str(length)]
    ratio = late / early
    note = f"{early:.0f} MB after {length // 4:,}, {late:.0f} MB after {length:,}"
    what = f"of a worker after {length:,} operations / after {length // 4:,}"
    yield Row(name, what, ratio, "x", ratio, ratio, "<= 1.10", note)


def _memory_of_a_long_run(length: int) -> dict[int, float]:
    """Return the memory in MB after a quarter of the operations that a worker records, judges and reports, and all."""
    clock = RealClock()
    recorder = Recorder(clock, Judge(), HistoryWriter(Path(os.devnull), HEADER))
    run = DatabaseRun(MemoryClient(MemoryOptions(), clock), recorder, LoadOptions(), "r")
    metrics = ProcessMetrics("r", "memory", lambda: 20)
    metrics.watch(run)
    made, found, done = slowed(operations(length)), {}, 0
    while block := list(islice(made, A_REPORT)):
        for operation in block:
            recorder._hand_on(operation)  # noqa: SLF001 # what every end of an operation does
        totals = run.drain()
        encode((verdict_rows(totals.findings), counts_of(totals.statistics)))
        done += len(block)
        if done in (length // 4, length):
            gc.collect()
            found[done] = psutil.Process().memory_info().rss / 2**20
    return found


def measure_start(rounds: int) -> Iterator[Row]:
    """Yield the CPU time of commands that do next to nothing, including that of Python."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.jsonl"
        with HistoryWriter(path, HEADER) as writer:
            for operation in operations(100):
                writer.add(operation)
        costs: dict[str, list[float]] = {name: [] for name in STARTS}
        for _ in range(2 * rounds):
            for name, arguments in STARTS.items():
                costs[name].append(_cpu_s([*arguments, str(path)] if name.endswith("FILE") else arguments))
    progress("start: done")
    for name, values in costs.items():
        yield row("start", f"CPU of `{name}`", values, "s", goal="<= 0.30")


def _cpu_s(arguments: Sequence[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "stalewatch", *arguments]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    print(json.dumps(_memory_of_a_long_run(int(sys.argv[1]))))
