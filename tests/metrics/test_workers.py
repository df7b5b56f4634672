"""Prometheus finds the workers as they join and leave; a bench is scraped like a master with one worker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.local import ports
from stalewatch.clusters.local.mongo import MongoCluster
from tests.locust.conftest import ROOT, STALE, Swarm
from tests.metrics.conftest import Prometheus

pytestmark = pytest.mark.server

Eventually = Callable[..., None]
LEAVE_S = 60.0
"""10 s of silence, 2 s until Prometheus requests the list, and a margin for a busy machine."""


def test_a_worker_that_joins_is_scraped_and_a_killed_one_is_not(
    swarm: Swarm, scrape: Callable[[int], Prometheus], eventually: Eventually
) -> None:
    (port,) = ports.free(1)
    master = swarm.master(
        "--headless", "--metrics-port", str(port), "-u", "20", "-r", "100", "-t", "240s", "--rate", "300", *STALE
    )
    prometheus = scrape(port)
    swarm.worker()
    eventually(lambda: prometheus.workers() == {"0": "up"})
    swarm.worker()
    swarm.await_operations(workers=2, lines=1)
    joined = time.monotonic()
    eventually(lambda: prometheus.workers() == {"0": "up", "1": "up"})
    took_s = time.monotonic() - joined
    victim = next(process for process in swarm.living() if "--worker" in process.cmdline() and process.pid != master)
    victim.kill()
    killed = time.monotonic()
    eventually(lambda: len(prometheus.workers()) == 1, timeout_s=LEAVE_S)
    print(f"scraped {took_s:.1f} s after it joined, removed {time.monotonic() - killed:.1f} s after it was killed")
    os.kill(master, signal.SIGTERM)
    swarm.code(master)
    lost = prometheus.instant('last_over_time(stalewatch_workers{state="lost"}[1m])')
    assert lost[0].values[-1][1] == 1
    total = prometheus.instant('sum(last_over_time(stalewatch_operations_total{job="stalewatch"}[1m]))')
    assert total[0].values[-1][1] == sum(sum(counts.values()) for counts in swarm.result()["operations"].values()), (
        "operations salvaged from the killed worker count too"
    )


def test_the_counts_of_two_runs_do_not_add_up(swarm: Swarm, eventually: Eventually) -> None:
    (port,) = ports.free(1)
    swarm.alone("--metrics-port", str(port), *STALE)
    swarm.await_page()
    names = set()
    for _ in range(2):
        swarm.post("/swarm", user_count=4, spawn_rate=100)
        eventually(lambda: " 4.0" in shown(port, "stalewatch_sessions"))
        swarm.post("/stop")
        result = swarm.result()
        ok = result["operations"]["read"]["ok"]
        (line,) = (
            one for one in shown(port, "stalewatch_operations_total").splitlines() if 'read",outcome="ok"' in one
        )
        assert line.endswith(f'run="{result["run"]}"}} {float(ok)}')
        names.add(result["run"])
        eventually(lambda: swarm.get("/stats/requests").json()["state"] in {"stopped", "ready"})
    assert len(names) == 2


def shown(port: int, name: str) -> str:
    lines = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text.splitlines()
    return "\n".join(line for line in lines if line.startswith(name))


def test_a_master_exits_with_a_message_if_the_metrics_port_is_taken(swarm: Swarm) -> None:
    (port,) = ports.free(1)
    first = swarm.alone("--metrics-port", str(port))
    swarm.await_page()
    swarm.web_port, swarm.master_port = ports.free(2)
    second = swarm.alone("--metrics-port", str(port), "--report-json", str(swarm.folder / "second.json"))
    assert swarm.code(second) == 2
    assert f"--metrics-port {port}: Address already in use" in swarm.log(second)
    os.kill(first, signal.SIGTERM)
    assert swarm.code(first) == 0


def test_a_bench_is_scraped_like_a_master_with_one_worker(
    whole: MongoCluster, scrape: Callable[[int], Prometheus], tmp_path: Path
) -> None:
    (port,) = ports.free(1)
    prometheus, result = scrape(port), tmp_path / "result.json"
    load = ("--read-from", "secondary", "--duration", "8", "--users", "4", "--reread", "0.8", "--rate", "200")
    outputs = ("--metrics-port", str(port), "--json", str(result))
    command = [sys.executable, "bench.py", "mongo", "--mongo-uri", whole.uri(), *load, *outputs]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads(result.read_text())
    counted = prometheus.instant('last_over_time(stalewatch_checked_total{job="stalewatch"}[1m])')
    assert {series.labels["guarantee"]: series.values[-1][1] for series in counted} == {
        name: row["checked"] for name, row in found["guarantees"].items()
    }
    for query in (
        'stalewatch_reads_after_write_total{job="stalewatch-workers",worker="0"}',
        "stalewatch_replication_lag_seconds",
        "stalewatch_scheduler_lag_seconds",
    ):
        assert prometheus.instant(f"last_over_time({query}[1m])"), query
