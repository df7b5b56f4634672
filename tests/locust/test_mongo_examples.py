"""The examples of users with operations of their own, on a real replica set."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import requests

from stalewatch.checkers.files import judge_files
from stalewatch.clusters.local import ports
from stalewatch.clusters.local.mongo import MongoCluster
from tests.conftest import eventually
from tests.locust.conftest import ROOT, Swarm, assert_agrees

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.server

Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server of an example, and return its address."""
    with ExitStack() as stack:

        def start(program: str, *arguments: str) -> str:
            (port,) = ports.free(1)
            command = [sys.executable, str(EXAMPLES / program), "--port", str(port), *arguments]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.terminate)
            address = f"http://127.0.0.1:{port}"
            eventually(lambda: _answers(address))
            return address

        yield start


def _answers(address: str) -> bool:
    try:
        return requests.get(f"{address}/profiles/none", timeout=10).ok
    except requests.ConnectionError:
        return False


def load(
    swarm: Swarm, example: str, *arguments: str, workers: int = 1, until: str | None = None, **options: Any
) -> dict[str, Any]:
    """Run the users of an example for a while, and until a guarantee is violated; return the result."""
    users = str(EXAMPLES / example / "users.py")
    pid = swarm.alone("--headless", "-r", "100", *arguments, locustfile=users, **options)
    swarm.await_operations(workers, lines=50)
    if until is not None:
        eventually(lambda: judge_files(sorted(swarm.histories.glob("*"))).verdicts()[until].violated)
    assert swarm.finish(pid, workers, lines=50) == 0, swarm.log(pid)  # no request failed
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers)
    return result


@pytest.fixture
def lagging(whole: MongoCluster) -> Iterator[str]:
    """The address of a member that lags by a second."""
    MongoCluster(whole.home, delay_secondary_s=1).start(print)
    yield whole.nodes()[2]
    MongoCluster(whole.home, delay_secondary_s=0).start(print)


def test_a_service_that_reads_from_a_secondary_breaks_its_promises(
    swarm: Swarm, whole: MongoCluster, lagging: str, serve: Serve
) -> None:
    address = serve("http-service/service.py", "--mongo", whole.uri(), "--read-from", lagging)
    expected = ("--expect", "read_your_writes>0,phantom_reads=0,lost_writes=0", "--processes", "2")
    until = "read_your_writes"
    result = load(swarm, "http-service", "-H", address, "-u", "10", "--keys", "50", *expected, workers=2, until=until)
    assert (result["database"], result["verdict"]) == ("own", "invalid")
    log = "\n".join(file.read_text(errors="replace") for file in swarm.folder.glob("*.log"))
    assert "PUT      /profiles/KEY" in log
    assert "write Shopper" not in log  # requests are rows already
    assert "/durable" not in log  # final reads are not counted
    assert requests.get(f"{address}/durable/{result['run']}-w0-0", timeout=10).json() == {}  # removed


def test_the_same_service_on_the_primary_keeps_them(swarm: Swarm, whole: MongoCluster, serve: Serve) -> None:
    address = serve("http-service/service.py", "--mongo", whole.uri(), "--read-from", "primary")
    result = load(swarm, "http-service", "-H", address, "-u", "10", "--keys", "20")
    assert result["verdict"] == "valid"
    assert all(result["guarantees"][name]["checked"] for name in ("read_your_writes", "stale_reads", "lost_writes"))


@pytest.mark.parametrize("token", [False, True])
def test_a_cache_is_stale_and_a_token_mends_what_a_session_sees(
    swarm: Swarm, whole: MongoCluster, serve: Serve, *, token: bool
) -> None:
    service = serve("http-service/service.py", "--mongo", whole.uri())
    proxy = serve("caching-proxy/proxy.py", "--service", service, *(("--token",) if token else ()))
    until = "stale_reads" if token else "read_your_writes"
    rows = load(swarm, "caching-proxy", "-H", proxy, "-u", "10", "--keys", "10", until=until)["guarantees"]
    assert rows["stale_reads"]["violated"]
    assert bool(rows["read_your_writes"]["violated"]) is not token
    assert not any(rows[name]["violated"] for name in ("monotonic_reads", "phantom_reads"))
    assert rows["lost_writes"]["verdict"] == "no_evidence"  # it has no final reads


def test_users_who_call_pymongo_themselves(swarm: Swarm, whole: MongoCluster) -> None:
    env = {"MONGO_URI": whole.uri()}
    few = ("-u", "8", "--keys", "10", "--processes", "2")
    result = load(swarm, "pymongo-user", *few, workers=2, until="stale_reads", env=env)
    rows = result["guarantees"]
    assert (rows["lost_writes"]["verdict"], rows["unexpected_items"]["verdict"]) == ("holds", "holds")
    assert result["workloads"] == ["ledger", "register"]


def test_two_classes_with_think_time_share_articles_that_exist(swarm: Swarm, whole: MongoCluster, serve: Serve) -> None:
    address = serve("http-service/service.py", "--mongo", whole.uri())
    result = load(swarm, "think-time", "-H", address, "-u", "20", "--processes", "2", workers=2)
    assert result["verdict"] == "valid"
    assert result["guarantees"]["stale_reads"]["checked"]
    assert requests.get(f"{address}/profiles/article-1", timeout=10).json()  # it stays


def test_every_example_has_a_readme_of_ten_lines() -> None:
    for folder in EXAMPLES.iterdir():
        if folder.name != "shapes":
            assert len((folder / "README.md").read_text(encoding="utf-8").splitlines()) <= 12, folder
