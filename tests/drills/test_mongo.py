"""Drills on a real replica set: their figures agree with the servers' logs and with the history files."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from tests.drills.conftest import (
    BRIEF,
    NS,
    Done,
    drill,
    elections,
    faults,
    figure,
    recovery_time_s,
    start,
)
from tests.locust.conftest import COUNTED, Swarm
from tests.locust.conftest import assert_agrees as assert_histories_agree

pytestmark = pytest.mark.server

TIMEOUT_S = 2.0
"""The default timeout of an operation."""


def assert_agrees(done: Done) -> None:
    """Compare every count of the verdict with the history, and the recovery times with their definition."""
    for result, history in zip(done.results, done.histories, strict=True):
        again = check_result(judge_files([history]).findings())
        for name, row in again["guarantees"].items():
            assert {field: result["guarantees"][name][field] for field in COUNTED} == {
                field: row[field] for field in COUNTED
            }, name
        for kind, found in result["recovery"].items():
            assert found["rto_s"] == pytest.approx(recovery_time_s([history], kind)), kind
        recorded = [(one.fault, one.node, one.start, one.end) for one in faults([history])]
        assert recorded == [(one["fault"], one["node"], one["start"], one["end"]) for one in result["faults"]]


def test_writes_recover_when_the_server_log_has_a_new_primary(whole: MongoCluster, tmp_path: Path) -> None:
    done = drill("mongo", "kill-primary", *BRIEF, home=whole.home, folder=tmp_path)
    assert done.code == 0, done.err
    assert_agrees(done)
    result = done.result
    (fault,) = result["faults"]
    assert fault["fault"] == "kill"
    won = next(moment for moment in elections(whole) if moment > fault["start"] / NS)
    assert result["recovery"]["write"]["rto_s"] == pytest.approx(won - fault["start"] / NS, abs=2 * TIMEOUT_S)
    assert result["recovery"]["write"]["sustained_rto_s"] >= result["recovery"]["write"]["rto_s"]
    assert result["two_primaries_s"][0] == 0
    assert result["converged_s"] is not None
    # On a slow machine the election may outlast the fault, or the fault the load.
    for kind in ("read", "write"):
        before, *others = (phase["operations"][kind]["ok"] for phase in result["phases"].values())
        assert before > 0
        assert sum(others) > 0
    assert float(figure(done.out, "write rto/sustained s").split()[0]) > 0
    assert all(node.healthy for node in whole.status())


def test_a_split_brain_loses_w1_writes_and_no_majority_write(lab: MongoLab, tmp_path: Path) -> None:
    levels = ("--vary", "write-concern=1,majority")
    done = drill("mongo", "isolate-primary", *BRIEF, *levels, home=lab.home, folder=tmp_path)
    assert done.code == 0, done.err
    assert_agrees(done)
    alone, majority = done.results
    lost = alone["guarantees"]["lost_writes"]
    assert lost["violated"] > 0
    assert all(len(witness["operations"]) == 2 for witness in lost["witnesses"])
    assert alone["rpo"]["lost_items"] > 0
    assert alone["rpo"]["lost_writes"] == len(alone["rpo"]["items"]) > 0
    twice = alone["guarantees"]["unique_ids"]
    assert twice["violated"] > 0
    assert all(len(witness["operations"]) == 2 for witness in twice["witnesses"])
    assert majority["guarantees"]["lost_writes"]["verdict"] == "holds"
    assert majority["guarantees"]["unique_ids"]["verdict"] == "holds"
    assert majority["rpo"]["lost_writes"] == 0
    assert "--write-concern 1: " in done.out
    assert "--write-concern majority: " in done.out


def test_values_vanish_that_local_reads_showed_and_none_that_majority_reads_did(lab: MongoLab, tmp_path: Path) -> None:
    load = ("--workload", "register", "--reread", "0.8", "--keys", "400", "--users", "10", "--rate", "400")
    times = ("--at", "1", "--for", "5", "--duration", "8")
    levels = ("--vary", "read-concern=local,majority")
    done = drill("mongo", "dirty-reads", *load, *times, *levels, home=lab.home, folder=tmp_path)
    assert done.code == 0, done.err
    assert_agrees(done)
    local, majority = (one["guarantees"]["read_regressions"] for one in done.results)
    assert local["causes"]["vanished"] > 0
    assert f"vanished_values: {local['causes']['vanished']}" in done.out
    vanished = [one["operations"] for one in local["witnesses"] if one["cause"] == "vanished"]
    assert all(read["op"] == "read" and final["op"] == "final" for read, final in vanished)
    assert all(final["version"] < read["version"] for read, final in vanished)
    assert majority["checked"] > 20
    assert majority.get("causes", {}).get("vanished", 0) == 0


def test_a_paused_primary_loses_no_majority_write_and_has_no_stale_linearizable_reads(
    whole: MongoCluster, tmp_path: Path
) -> None:
    levels = ("--write-concern", "majority", "--read-concern", "linearizable")
    done = drill("mongo", "pause-primary", *BRIEF, *levels, home=whole.home, folder=tmp_path)
    assert done.code == 0, done.err
    assert_agrees(done)
    assert done.result["guarantees"]["lost_writes"]["verdict"] == "holds"
    assert done.result["guarantees"]["stale_reads"]["verdict"] == "holds"
    assert done.result["guarantees"]["unique_ids"]["verdict"] == "holds"


def test_ctrl_c_during_a_split_leaves_nothing_behind(lab: MongoLab, tmp_path: Path) -> None:
    assert lab  # the fixture skips this test if labs are impossible
    mine = MongoLab(tmp_path / "home")
    with start("mongo", "isolate-primary", "--at", "1", "--for", "60", home=mine.home, folder=tmp_path) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("isolate:"):
                break
        time.sleep(0.5)  # the firewall rules are being made, or are in force
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "interrupted: no final reads were made" in out
    assert not guardians_of(mine.home)
    assert {node.state for node in mine.status()} == {"dead"}
    mark = mine.network.outer.removeprefix("sw-")
    for listing in (["ip", "netns", "list"], ["ip", "-br", "link"]):
        assert mark not in subprocess.run(listing, capture_output=True, text=True, check=True).stdout


def guardians_of(home: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if _guards(one, str(home))]


def _guards(process: psutil.Process, home: str) -> bool:
    try:
        return "stalewatch.faults.guardian" in process.cmdline() and process.environ()["STALEWATCH_HOME"] == home
    except (psutil.Error, KeyError):
        return False


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_locust_workers_see_the_outage_of_the_server_log(whole: MongoCluster, swarm: Swarm, workers: int) -> None:
    options = ("--headless", "-u", "12", "-r", "100", "-t", "14s", "--keys", "100", "--rate", "200")
    faulty = ("--drill", "kill-primary", "--at", "2", "--for", "6")
    env = {"STALEWATCH_HOME": str(whole.home)}
    users = "locustfiles/mongo_users.py"
    master = swarm.master("--expect-workers", str(workers), *options, *faulty, locustfile=users, env=env)
    for _ in range(workers):
        swarm.worker(locustfile=users, env=env)
    assert swarm.code(master) == 0, swarm.log(master)
    result, files = swarm.result(), sorted(swarm.histories.glob("*.jsonl"))
    assert len(files) == workers + 1  # one of them is the master's, which has the faults
    assert_histories_agree(result, swarm.histories)
    for kind, found in result["recovery"].items():
        assert found["rto_s"] == pytest.approx(recovery_time_s(files, kind), abs=0.05), kind
    (fault,) = result["faults"]
    assert [one.node for one in faults(files)] == [fault["node"]]
    won = next(moment for moment in elections(whole) if moment > fault["start"] / NS)
    assert result["recovery"]["write"]["rto_s"] == pytest.approx(won - fault["start"] / NS, abs=2 * TIMEOUT_S)
    assert "drill: " in swarm.log(master)
