"""Locust users of a real MongoDB replica set."""

from collections.abc import Callable, Iterator
from urllib.parse import quote

import pymongo
import pytest

from stalewatch.clusters.local.mongo import MongoCluster
from tests.conftest import leading
from tests.locust.conftest import Swarm, assert_agrees, assert_keeps_secret

MONGO = "locustfiles/mongo_users.py"
LOAD = ("--headless", "-u", "20", "-r", "100", "--keys", "50", "--reread", "0.8", "--rate", "400")
PASSWORD = "hunter2/@"  # noqa: S105 # of a user that this test creates

pytestmark = pytest.mark.server


def run(swarm: Swarm, cluster: MongoCluster, *arguments: str, locustfile: str = MONGO, pool: int = 0) -> int:
    return swarm.alone(*LOAD, "--mongo-uri", f"{cluster.uri()}&maxPoolSize={pool}", *arguments, locustfile=locustfile)


def test_two_workers_see_stale_reads_of_secondaries(swarm: Swarm, whole: MongoCluster) -> None:
    expected = ("--expect", "read_your_writes>0,lost_writes=0,phantom_reads=0")
    pid = run(swarm, whole, "--processes", "2", "--write-concern", "1", "--read-from", "secondary", *expected)
    assert swarm.finish(pid, workers=2, lines=1500) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert "mongo    read secondary" in swarm.log(pid)
    assert "mongo    write w=1" in swarm.log(pid)
    assert "violation" in swarm.log(pid)
    assert left_behind(whole, result["run"]) == 0


def test_majority_writes_and_primary_reads_hold_every_guarantee(swarm: Swarm, whole: MongoCluster) -> None:
    # Locust writes the page only if the run ends by itself.
    page = ("-t", "6s", "--rate", "300", "--html", str(swarm.folder / "h"))
    pid = run(swarm, whole, "--write-concern", "majority", "--read-from", "primary", *page, pool=20)
    assert swarm.code(pid) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert result["verdict"] == "valid"
    assert result["options"]["write_concern"] == "majority"
    assert result["options"]["driver"]["write_concern"]["w"] == "majority"
    assert "write w=majority" in (swarm.folder / "h").read_text()


def test_killing_the_primary_causes_errors_but_loses_no_majority_write(
    swarm: Swarm, whole: MongoCluster, eventually: Callable[..., None]
) -> None:
    arguments = ("--processes", "2", "--write-concern", "majority", "--read-from", "primary", "--rate", "300")
    pid = run(swarm, whole, *arguments, "--expect", "lost_writes=0,stale_reads=0")
    swarm.await_operations(workers=2)
    primary = leading(whole)
    whole.kill(primary)
    eventually(lambda: whole.primary() not in {None, primary})
    assert swarm.finish(pid, workers=2, lines=max(swarm.lines()) + 500) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["complete"]
    assert sum(counts["fail"] + counts["unknown"] for counts in result["operations"].values())
    assert result["guarantees"]["lost_writes"]["checked"]


def test_users_of_two_databases_run_in_one_test(swarm: Swarm, whole: MongoCluster) -> None:
    pid = run(swarm, whole, "--read-from", "secondary", "MongoUser", "MemoryUser", locustfile="locustfiles/")
    assert swarm.finish(pid, workers=2) == 0
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)  # one worker, with a file for each database
    assert result["database"] == "memory,mongo"


@pytest.fixture
def user(whole: MongoCluster) -> Iterator[str]:
    """Create a user; without --auth the servers accept anonymous clients too, but check a password if there is one."""
    with pymongo.MongoClient(whole.uri()) as client:
        client.admin.command("createUser", "carol", pwd=PASSWORD, roles=["root"])
        yield "carol"
        client.admin.command("dropUser", "carol")


def test_nobody_sees_the_password_of_mongodb(swarm: Swarm, whole: MongoCluster, user: str) -> None:
    own = whole.uri().replace("://", f"://{user}:{quote(PASSWORD, safe='')}@")
    assert_keeps_secret(
        swarm, (PASSWORD, quote(PASSWORD, safe="")), env={"STALEWATCH_MONGO_URI": own}, locustfile=MONGO
    )


def test_workers_take_user_and_password_from_their_environment(swarm: Swarm, whole: MongoCluster, user: str) -> None:
    own = whole.uri().replace("://", f"://{user}:wrong@")
    pid = swarm.master(*LOAD, "--mongo-uri", whole.uri(), locustfile=MONGO)
    worker = swarm.worker(locustfile=MONGO, env={"STALEWATCH_MONGO_URI": own})
    assert swarm.code(pid) == 3
    swarm.code(worker)
    assert "refused the user or the password" in swarm.log(pid)


def left_behind(cluster: MongoCluster, run: str) -> int:
    with pymongo.MongoClient(cluster.uri()) as client:
        return client.bench.kv.count_documents({"_id": {"$regex": f"^{run}"}})
