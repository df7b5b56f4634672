"""Whatever happens to master and workers, the verdict equals that of their history files."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.locust.conftest import MEMORY, SLOW, STALE, Swarm, assert_agrees

LOAD = ("-u", "20", "-r", "100", "--keys", "100", *STALE)
Eventually = Callable[..., None]


def has_violations(result: dict[str, Any]) -> bool:
    return all(result["guarantees"][name]["violated"] for name in ("stale_reads", "read_your_writes"))


def test_a_run_in_one_process_is_judged_exactly(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD)
    assert swarm.finish(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert has_violations(result)
    assert result["guarantees"]["lost_writes"]["checked"]
    assert result["complete"]
    assert result["ended_early"] is None
    assert result["verdict"] == "invalid"
    assert "verdict: invalid" in swarm.log(pid)


def test_a_run_with_three_workers_is_judged_exactly(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "--expect-workers", "3", *LOAD)
    workers = [swarm.worker() for _ in range(3)]
    assert swarm.finish(pid, workers=3) == 0
    assert [swarm.code(worker) for worker in workers] == [0, 0, 0]
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=3)
    assert has_violations(result)
    assert [worker["state"] for worker in result["workers"]] == ["done"] * 3
    assert sum(worker["operations"] for worker in result["workers"]) == sum(
        sum(counts.values()) for counts in result["operations"].values()
    )
    assert not swarm.living()


def test_user_classes_with_different_workloads_share_a_database(swarm: Swarm) -> None:
    load = ("-u", "12", "-r", "100", "--keys", "200", "--workload", "register,sequence", "--timeouts", "0.02")
    pid = swarm.alone("--headless", "--processes", "2", *load, locustfile="tests/locust/mixed_users.py")
    assert swarm.finish(pid, workers=6, lines=50) == 0, swarm.log(pid)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=6)  # each worker has one for every workload
    rows = result["guarantees"]
    assert (result["workloads"], result["lost_writes_exact"]) == (["ledger", "register", "sequence"], False)
    assert result["verdict"] == "valid"
    assert all(rows[name]["checked"] for name in ("stale_reads", "lost_writes", "unique_ids"))
    assert all(f"{kind} w=1" in swarm.log(pid) for kind in ("write", "append", "draw"))


def test_dependencies_stay_within_the_keys_of_a_worker(swarm: Swarm) -> None:
    load = ("-u", "10", "-r", "100", "--keys", "50", *STALE, "--workload", "causal", "--processes", "2")
    pid = swarm.alone("--headless", *load)
    assert swarm.finish(pid, workers=2) == 0, swarm.log(pid)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["workloads"] == ["causal"]
    assert result["guarantees"]["consistent_prefix"]["violated"]


def test_a_worker_that_joins_late_creates_its_own_keys(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD)
    swarm.worker()
    swarm.await_users(pid)  # so that the second one is told to spawn as soon as it is connected
    swarm.await_operations()
    swarm.worker()
    assert swarm.finish(pid, workers=2) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert all(worker["operations"] for worker in result["workers"])


def test_a_killed_worker_is_reported_with_what_could_not_be_checked(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "--expect-workers", "2", *LOAD)
    swarm.worker()
    victim = swarm.worker()
    swarm.await_operations(workers=2)
    os.kill(victim, signal.SIGKILL)
    os.kill(pid, signal.SIGTERM)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert not result["complete"]
    states = {worker["state"]: worker for worker in result["workers"]}
    assert set(states) == {"done", "lost"}
    assert "final reads are missing" in states["lost"]["unchecked"]
    assert f"worker {states['lost']['worker']}" in swarm.log(pid)
    assert not swarm.living()


def test_the_reports_of_a_killed_worker_count_without_its_history(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "--expect-workers", "2", *LOAD, *SLOW, "--history-dir", "")
    swarm.worker()
    victim = swarm.worker()
    swarm.await_log(victim, "creating 100 keys")
    time.sleep(3)  # a few reports
    os.kill(victim, signal.SIGKILL)
    os.kill(pid, signal.SIGTERM)
    swarm.code(pid)
    (lost,) = (worker for worker in swarm.result()["workers"] if worker["state"] == "lost")
    assert lost["operations"]
    assert "after its last report is not counted" in lost["unchecked"]


def test_stopping_and_starting_on_the_web_page_makes_two_runs(swarm: Swarm, eventually: Eventually) -> None:
    pid = swarm.master(*LOAD)
    swarm.worker()
    swarm.worker()
    swarm.await_log(pid, "reported as ready", times=2)
    results = []
    for number in (1, 2):
        swarm.post("/swarm", user_count=10, spawn_rate=100)
        swarm.await_operations(workers=2 * number)
        swarm.post("/stop")
        results.append(swarm.result())
        eventually(lambda: swarm.get("/stats/requests").json()["state"] in {"stopped", "ready"})
        swarm.await_log(pid, "reported as ready", times=2 + 2 * number)
    assert results[0]["run"] != results[1]["run"]
    for result in results:
        assert_agrees(result, swarm.histories, workers=2)
        assert has_violations(result)
    os.kill(pid, signal.SIGTERM)
    assert swarm.code(pid) == 0
    eventually(lambda: not swarm.living())


def test_a_reset_clears_the_page_but_not_the_verdict(swarm: Swarm) -> None:
    swarm.alone(*LOAD)
    swarm.await_page()
    swarm.post("/swarm", user_count=10, spawn_rate=100)
    swarm.await_operations(lines=3000)
    before = shown(swarm)["stale_reads"]["checked"]
    assert swarm.post_reset().ok
    swarm.post("/stop")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert 0 < shown(swarm)["stale_reads"]["checked"] <= result["guarantees"]["stale_reads"]["checked"] - before


def shown(swarm: Swarm) -> dict[str, dict[str, Any]]:
    """Return the rows of the Consistency tab, after Locust's cache of two seconds has expired."""
    time.sleep(2.1)
    tables = {table["key"]: table["data"] for table in swarm.get("/stats/requests").json()["extended_stats"]}
    return {row["guarantee"]: row for row in tables["consistency"]}


def test_slow_operations_in_flight_at_the_end_are_all_counted(swarm: Swarm) -> None:
    slow = ("--service", "0.4", "--timeouts", "0.2", "--refusals", "0.1", "--timeout", "0.8", "--write-ratio", "0.6")
    pid = swarm.alone("--headless", "--processes", "2", *LOAD, *slow)
    assert swarm.finish(pid, workers=2, lines=60) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    for kind in ("read", "write"):
        assert all(result["operations"][kind][outcome] for outcome in ("ok", "fail", "unknown"))
    assert not result["guarantees"]["phantom_reads"]["violated"]
    assert not result["guarantees"]["lost_writes"]["violated"]


def test_a_ctrl_c_that_workers_notice_late_skips_no_final_reads(swarm: Swarm) -> None:
    """Its second arrival does: that a second Ctrl-C skips them is tested below."""
    load = ("-u", "20", "-r", "100", "--keys", "100", "--rate", "500")
    leaders = ("--topology", "multi-leader", "--lag", "4")  # for which final reads wait until both agree
    pid = swarm.alone("--headless", "--processes", "2", *load, *leaders)
    swarm.await_operations(workers=2, lines=200)
    os.kill(pid, signal.SIGINT)
    time.sleep(1.5)  # the master has ended the load; without that, this would be the usual order
    for child in psutil.Process(pid).children():
        child.send_signal(signal.SIGINT)
    assert swarm.code(pid) == 130
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["guarantees"]["lost_writes"]["checked"]
    assert not result["unread_keys"]


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "with workers"])
def test_ctrl_c_loses_nothing_and_exits_with_130(swarm: Swarm, workers: int) -> None:
    pid = swarm.alone("--headless", *(("--processes", "2") if workers else ()), *LOAD)
    swarm.await_operations(workers=workers or 1)
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=workers or 1)
    assert result["complete"]
    assert result["guarantees"]["lost_writes"]["checked"]
    assert not swarm.living()


def test_autoquit_leaves_no_orphans_and_loses_nothing(swarm: Swarm) -> None:
    pid = swarm.master(
        "--autostart", "--autoquit", "1", "-t", "5s", "--stop-timeout", "5", "--expect-workers", "2", *LOAD, *SLOW
    )
    workers = [swarm.worker(), swarm.worker()]
    assert swarm.code(pid) == 0
    assert [swarm.code(worker) for worker in workers] == [0, 0]
    assert_agrees(swarm.result(), swarm.histories)
    assert not swarm.living()


def test_a_terminated_worker_reports_before_it_exits(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "--expect-workers", "2", *LOAD)
    swarm.worker()
    leaving = swarm.worker()
    swarm.await_operations(workers=2)
    psutil.Process(leaving).terminate()
    assert swarm.code(leaving) == 0
    os.kill(pid, signal.SIGTERM)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["complete"]


def test_ctrl_c_in_the_master_alone_also_ends_the_workers(swarm: Swarm, eventually: Eventually) -> None:
    pid = swarm.master("--headless", "--expect-workers", "2", *LOAD)
    workers = [swarm.worker(), swarm.worker()]
    swarm.await_operations(workers=2)
    os.kill(pid, signal.SIGINT)
    assert swarm.code(pid) == 130
    assert [swarm.code(worker) for worker in workers] == [0, 0]
    assert_agrees(swarm.result(), swarm.histories, workers=2)
    eventually(lambda: not swarm.living())


def test_a_second_ctrl_c_exits_at_once_with_a_verdict(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, "--service", "600", "--timeout", "900")
    swarm.await_operations(lines=0)  # none has ended
    time.sleep(1)
    swarm.interrupt(pid)
    time.sleep(0.5)
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert result["operations"]["write"]["unknown"]


def test_a_second_sigterm_exits_at_once_whatever_is_waited_for(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, "--service", "20", "--timeout", "30")
    swarm.await_log(pid, "All users spawned")
    os.kill(pid, signal.SIGTERM)
    swarm.await_log(pid, "Got SIGTERM")
    os.kill(pid, signal.SIGTERM)
    assert swarm.code(pid) == 128 + signal.SIGTERM


def test_a_second_ctrl_c_also_hurries_the_workers(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "--processes", "2", *LOAD, "--service", "6", "--timeout", "9")
    swarm.await_operations(workers=2, lines=0)
    time.sleep(1)
    swarm.interrupt(pid)
    time.sleep(0.5)
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    assert_agrees(swarm.result(), swarm.histories, workers=2)
    assert not swarm.living()


def test_a_headless_run_ends_with_a_verdict_when_its_last_worker_dies(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD)
    worker = swarm.worker()
    swarm.await_operations()
    os.kill(worker, signal.SIGKILL)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert not result["complete"]
    assert "verdict: invalid" in swarm.log(pid)


def test_sigterm_ends_a_master_with_a_load_shape(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD, "-t", "60s", locustfile=f"{MEMORY},examples/shapes/steps.py")
    worker = swarm.worker(locustfile=f"{MEMORY},examples/shapes/steps.py")
    assert swarm.finish(pid) == 0
    assert swarm.code(worker) == 0
    assert_agrees(swarm.result(), swarm.histories, workers=1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_master_that_waits_for_workers_stops_those_it_has(swarm: Swarm, number: signal.Signals) -> None:
    pid = swarm.master("--headless", "--expect-workers", "2", *LOAD)
    worker = swarm.worker()
    swarm.await_log(pid, "reported as ready")
    os.kill(pid, number)
    assert swarm.code(pid) == 128 + number
    assert swarm.code(worker) == 0
    assert "Traceback" not in swarm.log(pid)
