"""Locust's exit code: it depends on expectations, not on single requests."""

import pytest

from stalewatch.clusters.local import ports
from tests.locust.conftest import STALE, Swarm

LOAD = ("-u", "10", "-r", "100", "--keys", "50")
MONGO = "locustfiles/mongo_users.py"


def test_a_met_expectation_exits_with_0_even_if_requests_failed(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, "--refusals", "0.2", "--expect", "read_your_writes=0,stale_reads<0.05")
    assert swarm.finish(pid) == 0
    assert swarm.result()["operations"]["write"]["fail"]
    assert "fail: Refused" in swarm.log(pid)


def test_a_missed_expectation_exits_with_1(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "--processes", "2", *LOAD, *STALE, "--expect", "read_your_writes=0")
    assert swarm.finish(pid, workers=2) == 1
    assert "expected read_your_writes=0: it is" in swarm.log(pid)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--write-ratio", "7"), "--write-ratio '7': must be a share from 0 to 1"),
        (("--expect", "nonsense=0"), "unknown name 'nonsense'"),
        (("--topology", "ring"), "--topology"),
    ],
)
def test_an_invalid_option_exits_with_2(swarm: Swarm, arguments: tuple[str, ...], message: str) -> None:
    pid = swarm.alone("--headless", *LOAD, *arguments)
    assert swarm.code(pid) == 2
    assert message in swarm.log(pid)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["alone", "with workers"])
def test_an_unreachable_database_exits_with_3(swarm: Swarm, processes: tuple[str, ...]) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://127.0.0.1:{port}/?replicaSet=rs0"
    pid = swarm.alone("--headless", *processes, "-u", "4", "-r", "9", "--mongo-uri", uri, locustfile=MONGO)
    assert swarm.code(pid) == 3
    assert "no MongoDB server answers" in swarm.log(pid)
    assert not swarm.living()


def test_help_all_explains_every_option(swarm: Swarm) -> None:
    pid = swarm.start("--help-all", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    for flag in ("--write-concern", "--workload", "--topology", "--reread", "--expect", "--history-dir"):
        assert flag in swarm.log(pid)


def test_user_classes_can_be_chosen_by_name(swarm: Swarm) -> None:
    pid = swarm.start("--list", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    assert {"MemoryUser", "MongoUser"} <= set(swarm.log(pid).split())
    pid = swarm.alone("--headless", *LOAD, "MemoryUser", locustfile="locustfiles/")
    assert swarm.finish(pid) == 0
    assert swarm.result()["database"] == "memory"
