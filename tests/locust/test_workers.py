"""Workers from another run, workers that stall, ports, load shapes and rates."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.locust.conftest import MEMORY, ROOT, SECOND, SLOW, STALE, WAIT_S, Swarm, assert_agrees, assert_is_paced

LOAD = ("-u", "20", "-r", "100", "--keys", "100", *STALE)
BUSY = str(Path(__file__).with_name("busy_users.py"))


def test_a_worker_of_an_earlier_run_is_refused_and_exits(swarm: Swarm) -> None:
    first = swarm.master("--headless", *LOAD)
    stale = swarm.worker()
    swarm.await_operations()
    os.kill(first, signal.SIGKILL)
    swarm.code(first)
    second = swarm.master("--headless", *LOAD)
    swarm.await_log(second, "refused worker")
    assert swarm.code(stale) == 1
    assert "refused by the master: this worker is still in run" in swarm.log(stale)
    fresh = swarm.worker()
    assert swarm.finish(second, workers=2) == 0  # the refused worker wrote a history too
    assert swarm.code(fresh) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert result["complete"]
    assert not swarm.living()


def test_a_stalled_worker_is_reported_and_its_delay_does_not_count(swarm: Swarm, tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    arguments = ("--headless", "-t", "9s", "--expect-workers", "2", "--json-file", str(stats), *LOAD, *SLOW)
    pid = swarm.master(*arguments, locustfile=BUSY)
    for _ in range(2):
        swarm.worker(locustfile=BUSY)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    stalls = [stall for worker in result["workers"] for stall in worker["stalls"]]
    stall_ms = max(stall["end"] - stall["start"] for stall in stalls) / 1e6
    assert stall_ms > 4500
    assert "stalled for" in swarm.log(pid)
    assert result["stalled_operations"]
    assert max(result["latency"][kind]["service_ms"]["max"] for kind in ("read", "write")) < stall_ms
    assert result["guarantees"]["stale_reads"]["staleness_s"]["max"] < stall_ms / 1000
    (file,) = tmp_path.glob("stats*")
    rows = [row for row in json.loads(file.read_text()) if row["method"] == "memory"]
    assert rows
    assert max(row["max_response_time"] for row in rows) < stall_ms


def test_both_of_locusts_ports_are_bound_to_loopback(swarm: Swarm) -> None:
    pid = swarm.master(*LOAD)
    swarm.await_page()
    swarm.get("/")
    listening = [one.laddr for one in psutil.Process(pid).net_connections() if one.status == psutil.CONN_LISTEN]
    assert {address.port for address in listening} == {swarm.web_port, swarm.master_port}
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_a_load_shape_controls_the_users(swarm: Swarm) -> None:
    pid = swarm.alone(
        "--headless", "-u", "10", "-r", "100", "-t", "5s", *SLOW, locustfile=f"{MEMORY},examples/shapes/steps.py"
    )
    assert swarm.code(pid) == 0
    assert swarm.result()["ended_early"] is None  # the shape ended it
    assert [f"updating to {users} users" in swarm.log(pid) for users in (2, 4, 6, 8, 10)] == [True] * 5
    assert_agrees(swarm.result(), swarm.histories, workers=1)


def test_an_open_loop_keeps_its_rate_and_measures_response_times_from_when_operations_are_due(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "-u", "10", "-r", "100", "--processes", "2", "--rate", "100", *STALE)
    assert swarm.finish(pid, workers=2, lines=100) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert_is_paced(swarm, SECOND // 10)
    assert result["latency"]["read"]["response_ms"]["avg"] >= result["latency"]["read"]["service_ms"]["avg"]


def test_spawn_messages_do_not_parse_locusts_defaults_again_and_again() -> None:
    command = [sys.executable, "-m", "tests.locust.spawn_messages"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert done.stdout.split() == ["1", "3", "False"], done.stderr  # the newest options, without Locust's own
