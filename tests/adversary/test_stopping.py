"""SIGTERM in any phase of a drill, of Locust's master and of its workers: an end in order, then at once."""

import os
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from stalewatch.clusters.local.mongo import MongoCluster
from tests.adversary.running import AT_A_TIME, Ended, Started
from tests.adversary.two_faced import TwoFacedCouch, never
from tests.conftest import eventually
from tests.locust.conftest import ROOT, Swarm

IN_ORDER_S = 120.0
AT_ONCE_S = 30.0
"""Two seconds are promised; the rest is the machine's."""

TERMINATED = 128 + signal.SIGTERM
HASTY = """
from stalewatch.clients.mongodb import client
from stalewatch.engine import final_reads
final_reads.RECOVERY_S = client.BATCH_S = 3.0
"""
"""Lines that let nobody wait a minute for servers that recover."""


class Moment(NamedTuple):
    """A phase of a load under Locust: the kind of request that goes unanswered then, and what is awaited before."""

    kind: str
    before: str = ""


LOAD = Moment("read")
MOMENTS: Mapping[str, Moment] = {
    "connecting": Moment("set-up"),
    "creating keys": Moment("create"),
    "load": LOAD,
    "final reads": Moment("look", before="read"),
}


class Stopped(NamedTuple):
    """What became of a master and a worker since the last signal to one of them."""

    code: int
    took_s: float
    log: str


def stopped(folder: Path, moment: Moment, who: str, times: int) -> Stopped:
    """Send SIGTERM to a master or a worker while the database does not answer."""
    folder.mkdir()
    users = folder / "users.py"
    users.write_text(HASTY + (ROOT / "locustfiles" / "couch_users.py").read_text())
    with TwoFacedCouch() as couch:
        swarm = Swarm(folder)
        try:
            if not moment.before:
                couch.hostile[moment.kind] = never
            given = (*couch.arguments[1:], "--timeout", "1" if times == 1 else "60", "--keys", "4")
            pids = {
                "master": swarm.master("--headless", "-u", "2", "--expect-workers", "1", *given, locustfile=str(users)),
                "worker": swarm.worker(*couch.arguments[1:], locustfile=str(users)),
            }
            eventually(lambda: couch.counts.get(moment.before or moment.kind))
            if moment.before:
                couch.hostile["look"] = couch.hostile["read"] = never
            begin = time.monotonic()
            for number in range(times):
                if number:
                    swarm.await_log(pids[who], "SIGTERM")
                os.kill(pids[who], signal.SIGTERM)
            code = swarm.code(pids[who])
            took_s = time.monotonic() - begin
            if times == 1:
                swarm.code(pids["worker" if who == "master" else "master"])
            return Stopped(code, took_s, "".join(map(swarm.log, pids.values())))
        finally:
            swarm.end()


def all_at_once(run: Callable[[str, str], Stopped], cases: list[tuple[str, str]]) -> dict[tuple[str, str], Stopped]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {case: pool.submit(run, *case) for case in cases}
        return {case: one.result() for case, one in begun.items()}


EVERY = [(phase, who) for phase in MOMENTS for who in ("master", "worker")]
SOME = [("load", "worker"), ("final reads", "master")]
CASES = pytest.mark.parametrize("cases", [SOME, pytest.param(EVERY, marks=pytest.mark.soak)], ids=["some", "every"])


@CASES
def test_the_first_sigterm_ends_a_master_and_its_worker_in_order(tmp_path: Path, cases: list[tuple[str, str]]) -> None:
    def run(phase: str, who: str) -> Stopped:
        return stopped(tmp_path / f"{phase}-{who}", MOMENTS[phase], who, times=1)

    for case, one in all_at_once(run, cases).items():
        assert "Traceback" not in one.log, (case, one.log)
        assert "did not end in time" not in one.log, (case, one.log)
        assert one.took_s < IN_ORDER_S, case
        if case[0] in {"load", "final reads"}:
            assert "verdict: " in one.log, (case, one.log)


@CASES
def test_the_second_sigterm_ends_a_master_or_a_worker_at_once(tmp_path: Path, cases: list[tuple[str, str]]) -> None:
    def run(phase: str, who: str) -> Stopped:
        return stopped(tmp_path / f"{phase}-{who}", MOMENTS[phase], who, times=2)

    for case, one in all_at_once(run, cases).items():
        assert one.code in {TERMINATED, -signal.SIGTERM}, (case, one.log)
        assert one.took_s < AT_ONCE_S, case


VICTIM = (
    "from gevent import monkey\nmonkey.patch_all()"
    + HASTY
    + """
import sys, time
from pathlib import Path
from stalewatch.__main__ import start
sys.argv.pop(0)
folder = Path(sys.argv.pop(0))
read = final_reads.FinalReads.run
def announced(finals, report):
    (folder / "load has ended").touch()
    while not (folder / "go on").exists():
        time.sleep(0.02)
    read(finals, report)
final_reads.FinalReads.run = announced
sys.argv.insert(0, "stalewatch")
sys.exit(start())
"""
)
TIMES = pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.soak)], ids=["once", "twice"])
LOAD_OF_DRILLS = ("--users", "3", "--rate", "60", "--timeout", "1")
DRILL = ("drill", "mongo", "--fault", "kill-replica", "--at", "1", "--for", "60", *LOAD_OF_DRILLS)


def drilling(cluster: MongoCluster, folder: Path, *options: str) -> Started:
    folder.mkdir()
    given = (*DRILL, *options, "--history", str(folder / "history.jsonl"), "--json", str(folder / "result.json"))
    return Started(folder, "-c", VICTIM, str(folder), *given, STALEWATCH_HOME=str(cluster.home))


def terminated(drill: Started, cluster: MongoCluster, times: int = 1) -> Ended:
    """Send SIGTERM to a drill, and return how it ended, and how long that took; its fault is undone."""
    begin = time.monotonic()
    for number in range(times):
        if number:
            eventually(lambda: "stopping; press Ctrl-C" in drill.said())
        drill.send(signal.SIGTERM)
    ended = drill.ended(IN_ORDER_S * 2)._replace(took_s=time.monotonic() - begin)
    assert "Traceback" not in ended.err, ended.err
    assert "did not end in time" not in ended.err or times > 1, ended.err
    assert ended.code in {TERMINATED, -signal.SIGTERM}, ended.err
    assert ended.took_s < (IN_ORDER_S if times == 1 else AT_ONCE_S)
    eventually(lambda: all(node.healthy for node in cluster.status()))
    return ended


@pytest.mark.server
@TIMES
def test_a_drill_on_mongo_ends_in_its_load_and_undoes_its_fault(
    whole: MongoCluster, tmp_path: Path, times: int
) -> None:
    creating = drilling(whole, tmp_path / "creating", "--keys", "50000")
    eventually(lambda: "keys" in creating.said())
    terminated(creating, whole, times)
    load = drilling(whole, tmp_path / "load", "--keys", "20")
    eventually(lambda: any(node.state == "dead" for node in whole.status()))
    ended = terminated(load, whole, times)
    if times == 1:
        assert "interrupted after " in ended.out
        assert (tmp_path / "load" / "result.json").exists()


@pytest.mark.server
@TIMES
def test_a_drill_on_mongo_ends_in_its_final_reads_although_no_member_answers(
    whole: MongoCluster, tmp_path: Path, times: int
) -> None:
    drill = drilling(whole, tmp_path / "final", "--keys", "20", "--for", "1", "--duration", "3")
    eventually((tmp_path / "final" / "load has ended").exists)
    for node in whole.nodes():
        whole.pause(node)
    try:
        (tmp_path / "final" / "go on").touch()
        time.sleep(1)  # into the final reads
        drill.send(signal.SIGTERM)
        if times == 2:
            eventually(lambda: "stopping; press Ctrl-C" in drill.said())
            drill.send(signal.SIGTERM)
        ended = drill.ended(IN_ORDER_S * 2)
    finally:
        for node in whole.nodes():
            whole.resume(node)
    assert "Traceback" not in ended.err, ended.err
    assert ended.code in {TERMINATED, -signal.SIGTERM}, ended.err
    if times == 1:
        assert "verdict: unknown" in ended.out, ended.out
        assert "keys left in the database" in ended.err, ended.err
