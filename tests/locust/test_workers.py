"""Workers from another run, workers that stall, ports, load shapes and rates."""

import json
import os
import signal
from pathlib import Path

import psutil

from tests.locust.conftest import MEMORY, STALE, Swarm, assert_agrees

LOAD = ("-u", "20", "-r", "100", "--keys", "100", *STALE)
BUSY = str(Path(__file__).with_name("busy_users.py"))


def test_a_worker_of_an_earlier_run_is_refused_and_exits(swarm: Swarm) -> None:
    first = swarm.master("--headless", *LOAD)
    stale = swarm.worker()
    swarm.await_operations()
    os.kill(first, signal.SIGKILL)
    swarm.code(first)
    second = swarm.master("--headless", "-t", "6s", *LOAD)
    swarm.await_log(second, "refused worker")
    assert swarm.code(stale) == 1
    assert "refused by the master: this worker is still in run" in swarm.log(stale)
    fresh = swarm.worker()
    assert swarm.code(second) == 0
    assert swarm.code(fresh) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert result["complete"]
    assert not swarm.living()


def test_a_stalled_worker_is_reported_and_its_delay_does_not_count(swarm: Swarm, tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    arguments = ("--headless", "-t", "14s", "--expect-workers", "2", "--json-file", str(stats), *LOAD)
    pid = swarm.master(*arguments, locustfile=BUSY)
    for _ in range(2):
        swarm.worker(locustfile=BUSY)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    stalls = [stall for worker in result["workers"] for stall in worker["stalls"]]
    assert max(stall["end"] - stall["start"] for stall in stalls) > 6.5e9
    assert "stalled for" in swarm.log(pid)
    assert result["stalled_operations"]
    assert max(result["latency"][kind]["service_ms"]["max"] for kind in ("read", "write")) < 5000
    assert result["guarantees"]["stale_reads"]["staleness_s"]["max"] < 5
    (file,) = tmp_path.glob("stats*")
    rows = [row for row in json.loads(file.read_text()) if row["method"] == "memory"]
    assert rows
    assert max(row["max_response_time"] for row in rows) < 5000


def test_both_of_locusts_ports_are_bound_to_loopback(swarm: Swarm) -> None:
    pid = swarm.master(*LOAD)
    swarm.await_page()
    swarm.get("/")
    listening = [one.laddr for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN]
    assert {address.port for address in listening} == {swarm.web_port, swarm.master_port}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_load_shape_controls_the_users(swarm: Swarm) -> None:
    pid = swarm.alone(
        "--headless", "-u", "10", "-r", "100", "-t", "7s", locustfile=f"{MEMORY},examples/shapes/steps.py"
    )
    assert swarm.code(pid) == 0
    assert swarm.result()["ended_early"] is None  # the shape ended it
    assert [f"updating to {users} users" in swarm.log(pid) for users in (2, 4, 6, 8, 10)] == [True] * 5
    assert_agrees(swarm.result(), swarm.histories, workers=1)


def test_an_open_loop_keeps_its_rate_and_measures_response_times_from_when_operations_are_due(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "-u", "10", "-r", "100", "-t", "6s", "--processes", "2", "--rate", "100", *STALE)
    assert swarm.code(pid) == 0
    result = swarm.result()
    operations = sum(sum(counts.values()) for counts in result["operations"].values())
    assert 0.7 < operations / (100 * result["duration_s"]) < 1.1
    assert result["latency"]["read"]["response_ms"]["avg"] >= result["latency"]["read"]["service_ms"]["avg"]
