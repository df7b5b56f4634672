"""Half an hour of load on the simulator and on MongoDB at once: memory, cost and scheduler lag have to stay flat.

    python -m benchmarks soak --for 30m

Our Locust users, at a fixed rate that leaves the cores mostly idle, so that lag is our own.
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measurement import Row, progress, servers
from benchmarks.operation import HERE

RATES = {"memory": ("MemoryUser", "300"), "mongo": ("MongoUser", "200")}
NAME = "soak"
HELP = "half an hour on the simulator and MongoDB; --for sets its length"
LEAST_S = 60
LAG_MS = 20


def measure(seconds: float) -> Iterator[Row]:
    """Yield the ratios of the last quarter over the second, and the scheduler's lag."""
    if seconds < LEAST_S:
        raise SystemExit(f"a soak takes at least {LEAST_S} seconds")
    progress(f"soak: {seconds:.0f} s on {' and '.join(RATES)} at once")
    (uri,) = servers("mongo")
    where: dict[str, tuple[str, ...]] = {"memory": (), "mongo": ("--mongo-uri", uri, "--read-from", "secondary")}
    with tempfile.TemporaryDirectory() as folder:
        files = {database: Path(folder) / database for database in RATES}
        started = [_start(one, seconds, where[one], files[one]) for one in RATES]
        try:
            for process in started:
                process.wait()
        finally:
            for process in started:
                process.kill()  # where Ctrl-C ends this one first
        for database, file in files.items():
            samples = [json.loads(line) for line in file.read_text().splitlines()]
            yield from _rows(database, samples)


def _start(database: str, seconds: float, where: Sequence[str], samples: Path) -> "subprocess.Popen[bytes]":
    users, rate = RATES[database]
    load = ("-u", "20", "-r", "100", "-t", f"{seconds:.0f}s", "--rate", rate, *where)
    locust = ("-m", "locust", "-f", str(HERE / "our_users.py"), "--headless", "--only-summary")
    command = [sys.executable, *locust, *load, "--history-dir", str(samples.with_suffix(".histories")), users]
    environment = {**os.environ, "BENCHMARKS_SAMPLES": str(samples), "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)


def _rows(database: str, samples: Sequence[dict[str, Any]]) -> Iterator[Row]:
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = [statistics.median(one["rss"] for one in part) / 2**20 for part in (second, last)]
    costs = [_cost_us(part) for part in (second, last)]
    lags = sorted(lag for one in samples[quarter // 2 :] for lag in one["lags_ms"])
    p99 = lags[math.ceil(0.99 * len(lags)) - 1]
    minutes = (samples[-1]["at_s"] - samples[0]["at_s"]) / 60
    performed, failed = samples[-1]["operations"], samples[-1]["failures"]
    name = f"soak {database}"
    for what, (early, late), unit in (("memory", memory, "MB"), ("CPU per operation", costs, "us")):
        ratio, note = late / early, f"{early:.1f} and {late:.1f} {unit}"
        yield Row(name, f"{what}: last quarter / second", ratio, "x", ratio, ratio, "<= 1.10", note)
    note = f"{performed:,} operations in {minutes:.1f} min, {failed} failed"
    yield Row(name, "scheduler lag, p99", p99, "ms", lags[len(lags) // 2], lags[-1], f"<= {LAG_MS}", note)


def _cost_us(part: Sequence[dict[str, Any]]) -> float:
    first, last = part[0], part[-1]
    return float((last["cpu_s"] - first["cpu_s"]) / max(1, last["operations"] - first["operations"]) * 1e6)
