"""Overhead of Locust: CPU time per operation relative to `bench.py` on one replica set, and the throughput of workers.

The two run alternately, so that noise of the machine affects both alike; the ratio is the median over the pairs.
Neither measurement includes start-up: the bench is measured during its load, Locust from two seconds after its start.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.overhead import FULL, last_number
from benchmarks.tables import median_and_range, median_ratio, print_table
from stalewatch.clusters.local.ports import free
from stalewatch.clusters.local_clusters import addresses

ROUNDS = 5
SECONDS = 12
USERS = 20
CROWD = 400
OPERATIONS = 15_000
LOADED = ("--read-from", "secondary", "--keys", "1000")


def main() -> None:
    """Print the costs, their ratio, and the throughput of one and two workers."""
    uri = addresses("mongo", lambda line: print(line, file=sys.stderr))["mongo_uri"]
    bench, locust = [], []
    for _ in range(ROUNDS):
        bench.append(_bench(uri))
        locust.append(_locust(uri))
    rows = [
        ("bench.py", median_and_range(bench), ""),
        ("Locust", median_and_range(locust), f"x {median_ratio(locust, bench):.3f}"),
    ]
    print_table("Locust over bench.py", ("load", "us CPU per operation", "ratio"), rows)
    one, two = [], []
    for _ in range(ROUNDS):
        one.append(_throughput(1))
        two.append(_throughput(2))
    rows = [("1", median_and_range(one), ""), ("2", median_and_range(two), f"x {median_ratio(two, one):.2f}")]
    print_table("two workers over one, each filling a core", ("workers", "operations/s", "ratio"), rows)


def _bench(uri: str) -> float:
    arguments = ("mongo", "--mongo-uri", uri, "--users", str(USERS), "--ops", str(OPERATIONS), *LOADED)
    command = [sys.executable, "-c", FULL, *arguments, "--history", os.devnull]
    return last_number(command, "stderr")


def _locust(uri: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--mongo-uri", uri, *LOADED, "--history-dir", folder, "MongoUser")
        command = [*_command("-u", str(USERS), "-r", "100", "-t", f"{SECONDS}s"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("cpu_us_per_operation"))
    return float(line.split()[1])


def _throughput(workers: int) -> float:
    """Return the operations per second of a fixed number of users, enough to fill a core, with that many workers."""
    (port,) = free(1)
    ports = ("--master-bind-port", str(port), "--master-port", str(port))
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        load = ("-u", str(CROWD), "-r", "200", "-t", "6s", "--service", "0.002")
        command = [*_command(*load, "--processes", str(workers), *ports), "--report-json", str(result)]
        subprocess.run([*command, "MemoryUser"], capture_output=True, check=True)
        found = json.loads(result.read_text())
    return sum(sum(counts.values()) for counts in found["operations"].values()) / found["duration_s"]


def _command(*arguments: str) -> list[str]:
    users = str(Path(__file__).with_name("measured_users.py"))
    return [sys.executable, "-m", "locust", "-f", users, "--headless", "--only-summary", *arguments]


if __name__ == "__main__":
    main()
