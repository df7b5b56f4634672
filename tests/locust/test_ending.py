"""Loads that end before their time, and the exit code that Locust, the user's handlers and we come to together."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from tests.locust.conftest import ROOT, WAIT_S, Swarm, assert_agrees

LOAD = ("-u", "5", "-r", "50", "--keys", "50", "--reread", "0.9")
FRESH = ("--expect", "read_your_writes=0")


@pytest.mark.parametrize(
    ("signals", "reason"),
    [
        ((signal.SIGSTOP, signal.SIGCONT), "no worker was left: all missed Locust heartbeats, after "),
        ((signal.SIGTERM,), "no worker was left: all had quit, after "),
    ],
    ids=["heartbeats missed", "quit"],
)
def test_a_run_that_loses_all_workers_is_not_valid_and_misses_expectations(
    swarm: Swarm, signals: tuple[signal.Signals, ...], reason: str
) -> None:
    pid = swarm.master("--headless", "-t", "90s", *LOAD, *FRESH)
    worker = swarm.worker()
    swarm.await_operations()
    os.kill(worker, signals[0])
    if len(signals) > 1:
        swarm.await_log(pid, "The last worker went missing")
        os.kill(worker, signals[1])
    assert swarm.code(pid) == 1
    result = swarm.result()
    assert result["complete"]  # the worker sent its last report
    assert result["guarantees"]["read_your_writes"]["verdict"] == "holds"
    assert result["verdict"] == "unknown"
    assert result["ended_early"].startswith(reason)
    assert result["ended_early"].endswith(" of 90 s")
    assert f"expected read_your_writes=0: not shown, since the run ended early: {reason}" in swarm.log(pid)


JUMPING = "tests/locust/jumping_users.py"
STEPPED = "the clock was stepped"


@pytest.mark.parametrize("hours", [1, -80])
def test_steps_of_the_machines_clock_change_nothing_of_a_run_in_one_process(swarm: Swarm, hours: int) -> None:
    steps = {"STEP_S": str(hours * 3600)}
    pid = swarm.alone("--headless", *LOAD, *FRESH, locustfile=JUMPING, env=steps)
    swarm.await_log(pid, STEPPED, times=3)
    assert swarm.finish(pid, lines=100) == 0
    result = swarm.result()
    assert (result["verdict"], result["ended_early"]) == ("valid", None)
    assert 0 < result["duration_s"] < WAIT_S
    assert_agrees(result, swarm.histories, workers=1)


def test_steps_of_the_masters_clock_change_nothing_of_a_run(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD, *FRESH, locustfile=JUMPING, env={"STEP_S": str(-80 * 3600)})
    swarm.worker(locustfile=JUMPING, env={"STEP_S": "0"})
    swarm.await_log(pid, STEPPED, times=3)
    assert swarm.finish(pid, lines=100) == 0
    assert (swarm.result()["verdict"], swarm.result()["ended_early"]) == ("valid", None)
    assert_agrees(swarm.result(), swarm.histories, workers=1)


def test_a_run_that_ends_because_the_workers_clock_was_stepped_is_not_valid_and_says_so(swarm: Swarm) -> None:
    pid = swarm.master("--headless", "-t", "90s", *LOAD, *FRESH, locustfile=JUMPING, env={"STEP_S": "0"})
    worker = swarm.worker(locustfile=JUMPING, env={"STEP_S": "3600"})
    assert swarm.code(pid) == 1
    assert "Didn't get heartbeat from master in over 60s" in swarm.log(worker)
    result = swarm.result()
    assert (result["verdict"], result["complete"]) == ("unknown", True)
    assert result["ended_early"].startswith("no worker was left: all had quit, after ")
    assert_agrees(result, swarm.histories, workers=1)


def test_ctrl_c_before_the_run_time_ends_a_run_early(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "-t", "90s", *LOAD)
    swarm.await_operations(lines=100)
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    assert swarm.result()["verdict"] == "unknown"
    assert swarm.result()["ended_early"].startswith("interrupted, after ")


def test_without_a_run_time_ctrl_c_is_the_normal_end(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD)
    swarm.await_operations(lines=100)
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    assert (swarm.result()["ended_early"], swarm.result()["verdict"]) == (None, "valid")


def test_on_the_page_a_run_is_early_if_it_is_stopped_before_the_forms_run_time(swarm: Swarm) -> None:
    pid = swarm.alone(*LOAD, "-t", "90s")  # only the form's default
    swarm.await_page()
    for number, (run_time, stop, early) in enumerate(
        [("90s", True, True), ("", True, False), ("3s", False, False)], start=1
    ):
        assert swarm.post("/swarm", user_count=5, spawn_rate=50, run_time=run_time).json()["success"]
        if stop:
            swarm.await_operations(workers=number, lines=100)
            swarm.post("/stop")
        swarm.await_log(pid, "verdict: ", times=number)
        result = swarm.result()
        assert (result["verdict"], bool(result["ended_early"])) == (("unknown", True) if early else ("valid", False))
        rows = {row["guarantee"]: row for row in consistency(swarm)}
        assert rows["whole run"]["verdict"] == result["verdict"]
        assert ("ended early: stopped, after" in rows["whole run"]["witness"]) == early


def consistency(swarm: Swarm) -> list[dict[str, Any]]:
    tables = swarm.get("/stats/requests").json()["extended_stats"]
    (rows,) = (table["data"] for table in tables if table["key"] == "consistency")
    return list(rows)


def test_options_cannot_be_changed_while_a_test_runs(swarm: Swarm) -> None:
    swarm.alone(*LOAD)
    swarm.await_page()
    form = {"user_count": 5, "spawn_rate": 50, "write_ratio": "0.5", "seed": ""}
    assert swarm.post("/swarm", **form).json()["success"]
    swarm.await_operations(lines=100)
    answer = swarm.post("/swarm", **form | {"write_ratio": "0.9"}).json()
    assert not answer["success"]
    assert answer["message"] == "cannot be changed while a test runs, stop it first: write_ratio"
    assert swarm.post("/swarm", **form | {"user_count": 8}).json()["success"]
    swarm.post("/stop")
    assert swarm.result()["options"]["write_ratio"] == 0.5
    assert swarm.post("/swarm", **form | {"write_ratio": "0.9"}).json()["success"]
    assert_agrees(swarm.result(), swarm.histories, workers=1)


CODES: Sequence[tuple[int, Sequence[str], int | None, int]] = (
    (0, [], None, 0),
    (0, ["memory", "violation"], None, 0),  # outcomes, which we count
    (0, ["memory", "GET"], None, 5),
    (1, ["GET"], None, 5),
    (130, ["GET"], None, 130),
    (3, [], None, 3),
    (1, [], 0, 1),  # a handler that is content with the requests knows nothing of expectations
    (0, [], 7, 7),
    (0, ["GET"], 0, 0),
    (3, ["GET"], 1, 3),
)
"""Our own code, failed requests, the code that a handler chooses, and the code of the process."""


def test_the_exit_code_is_the_highest_of_ours_locusts_and_the_users() -> None:
    line = [sys.executable, "-m", "tests.locust.settled_codes"]
    cases = json.dumps([case for *case, _ in CODES])
    done = subprocess.run(line, cwd=ROOT, input=cases, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [code for *_, code in CODES]
