"""What Locust adds: CPU an operation over `bench.py`'s on the same replica set, and how many operations workers carry.

The two run in turns, so that noise of the machine hits both alike; the ratio is the median of the pairs'. The bench is
measured while its sessions work, Locust from two seconds after its start, both without start-up.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.overhead import FULL
from stalewatch.clusters.local.ports import free
from stalewatch.clusters.local_clusters import addresses

ROUNDS = 5
SECONDS = 12
USERS = 20
CROWD = 400
OPERATIONS = 15_000
LOADED = ("--read-from", "secondary", "--keys", "1000")


def main() -> None:
    """Print the costs, the ratio, and how much two workers carry."""
    uri = addresses("mongo", lambda line: print(line, file=sys.stderr))["mongo_uri"]
    bench, locust = [], []
    for _ in range(ROUNDS):
        bench.append(_bench(uri))
        locust.append(_locust(uri))
    ratio = statistics.median(ours / theirs for ours, theirs in zip(locust, bench, strict=True))
    print(json.dumps({"bench_us": [round(one) for one in bench], "locust_us": [round(one) for one in locust]}))
    print(f"Locust over bench.py, CPU an operation: x {ratio:.3f}")
    ratios = []
    for _ in range(ROUNDS):
        one, two = _carried(1), _carried(2)
        print(f"operations/s with 1 worker: {one:.0f}, with 2: {two:.0f}", flush=True)
        ratios.append(two / one)
    print(f"two workers over one: x {statistics.median(ratios):.2f}")


def _bench(uri: str) -> float:
    arguments = ("mongo", "--mongo-uri", uri, "--users", str(USERS), "--ops", str(OPERATIONS), *LOADED)
    command = [sys.executable, "-c", FULL, *arguments, "--history", os.devnull]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(next(line for line in reversed(done.stderr.splitlines()) if line.replace(".", "").isdigit()))


def _locust(uri: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ("--mongo-uri", uri, *LOADED, "--history-dir", folder, "MongoUser")
        command = [*_command("-u", str(USERS), "-r", "100", "-t", f"{SECONDS}s"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("cpu_us_per_operation"))
    return float(line.split()[1])


def _carried(workers: int) -> float:
    """Return the operations a second that a fixed number of users, enough to fill a core, do with that many workers."""
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
