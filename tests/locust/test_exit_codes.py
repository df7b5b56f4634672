"""What Locust's exit code says: what was expected, not what single requests did."""

import pytest

from stalewatch.clusters.local import ports
from tests.locust.conftest import STALE, Swarm

LOAD = ("-u", "10", "-r", "100", "-t", "2s", "--keys", "50")
MONGO = "locustfiles/mongo_users.py"


def test_an_expectation_that_is_met_is_0_whatever_single_requests_did(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", *LOAD, "--refusals", "0.2", "--expect", "read_your_writes=0,stale_reads<0.05")
    assert swarm.code(pid) == 0
    assert swarm.result()["operations"]["write"]["fail"]
    assert "fail: Refused" in swarm.log(pid)


def test_an_expectation_that_is_missed_is_1(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "--processes", "2", *LOAD, *STALE, "--expect", "read_your_writes=0")
    assert swarm.code(pid) == 1
    assert "expected read_your_writes=0: it is" in swarm.log(pid)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--write-ratio", "7"), "--write-ratio '7': must be a share from 0 to 1"),
        (("--expect", "nonsense=0"), "unknown name 'nonsense'"),
        (("--topology", "ring"), "--topology"),
    ],
)
def test_an_option_that_makes_no_sense_is_2(swarm: Swarm, arguments: tuple[str, ...], said: str) -> None:
    pid = swarm.alone("--headless", *LOAD, *arguments)
    assert swarm.code(pid) == 2
    assert said in swarm.log(pid)


@pytest.mark.parametrize("processes", [(), ("--processes", "2")], ids=["alone", "with workers"])
def test_no_database_reached_is_3(swarm: Swarm, processes: tuple[str, ...]) -> None:
    (port,) = ports.free(1)
    uri = f"mongodb://127.0.0.1:{port}/?replicaSet=rs0"
    pid = swarm.alone("--headless", *processes, "-u", "4", "-r", "9", "--mongo-uri", uri, locustfile=MONGO)
    assert swarm.code(pid) == 3
    assert "no MongoDB server answers" in swarm.log(pid)
    assert not swarm.living()


def test_every_option_is_explained(swarm: Swarm) -> None:
    pid = swarm.start("--help-all", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    for flag in ("--write-concern", "--workload", "--topology", "--reread", "--expect", "--history-dir"):
        assert flag in swarm.log(pid)


def test_classes_can_be_chosen_by_name(swarm: Swarm) -> None:
    pid = swarm.start("--list", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    assert {"MemoryUser", "MongoUser"} <= set(swarm.log(pid).split())
    pid = swarm.alone("--headless", *LOAD, "MemoryUser", locustfile="locustfiles/")
    assert swarm.code(pid) == 0
    assert swarm.result()["database"] == "memory"
