"""Real servers behind a proxy that turns hostile during a bench: it ends in time, with a table and no false alarm."""

import json
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest

from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clusters.local import ports
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.history.clock import RealClock
from tests.adversary.hostile import TURNS, TurningProxy
from tests.adversary.running import AT_A_TIME, MOST_BYTES, Ended, Started
from tests.conftest import eventually

pytestmark = pytest.mark.server

LOAD = ("--users", "2", "--keys", "4", "--duration", "2", "--timeout", "1", "--rate", "200")

VICTIM = """
from gevent import monkey
monkey.patch_all()
import runpy, sys, time
from pathlib import Path
from stalewatch.clients.mongodb import client
from stalewatch.engine import final_reads
sys.argv.pop(0)  # -c
folder = Path(sys.argv.pop(0))
final_reads.RECOVERY_S, client.BATCH_S = float(sys.argv.pop(0)), 3.0
read = final_reads.FinalReads.run
def announced(finals, report):
    (folder / "load has ended").touch()
    while not (folder / "go on").exists():
        time.sleep(0.02)
    read(finals, report)
final_reads.FinalReads.run = announced
sys.argv.insert(0, "bench.py")
runpy.run_path("bench.py", run_name="__main__")
"""
"""A bench that says when its load has ended and then waits, and does not wait a minute for servers to recover."""

RECOVERY_S = 3.0
AFTER_S = 60.0
"""How long after its load such a bench may take: final reads, deletion, connections; its parts add up to 15 s."""


class Case(NamedTuple):
    """When a server turns hostile, and how."""

    phase: str
    turn: str

    @property
    def name(self) -> str:
        """The name by which a proxy knows the bench."""
        return f"bench-{self.phase}-{self.turn}-".replace(" ", "-")


CASES = [*(Case("load", turn) for turn in TURNS), Case("final reads", "slow"), Case("final reads", "half-open")]


class Turned(NamedTuple):
    """A bench that has ended, and its result."""

    ended: Ended
    result: dict[str, Any]


def turned(folder: Path, case: Case, proxy: TurningProxy, mark: bytes, *address: str) -> Turned:
    """Run a bench whose server turns hostile in one phase, and stays so."""
    result, history = folder / "result.json", folder / "history.jsonl"
    files = ("--json", str(result), "--history", str(history))
    started = Started(folder, "-c", VICTIM, str(folder), str(RECOVERY_S), *address, *LOAD, *files)

    def await_load(condition: Callable[[], bool]) -> None:
        eventually(lambda: started.process.poll() is not None or condition())
        assert started.process.poll() is None, started.said()

    if case.phase == "load":
        await_load(lambda: history.exists() and history.stat().st_size > 5_000)
        proxy.turns[mark] = TURNS[case.turn]
    await_load((folder / "load has ended").exists)
    proxy.turns[mark] = TURNS[case.turn]
    (folder / "go on").touch()
    ended = started.ended()
    assert result.exists(), ended.err
    assert proxy.hostilities[mark], case
    return Turned(ended, json.loads(result.read_text()))


def run_all(run: Callable[[Case, Path], Turned], folder: Path, cases: Sequence[Case] = CASES) -> dict[Case, Turned]:
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        begun = {case: pool.submit(run, case, folder / case.name) for case in cases}
        return {case: one.result() for case, one in begun.items()}


def check(runs: Mapping[Case, Turned]) -> None:
    """Assert what holds of every such bench."""
    for case, (ended, result) in runs.items():
        assert ended.code == 0, (case, ended.err)
        assert "Traceback" not in ended.err, (case, ended.err)
        assert ended.took_s < AFTER_S, case
        assert ended.peak_bytes < MOST_BYTES, case
        assert "stale_read_rate" in ended.out, case
        assert {one: row["violated"] for one, row in result["guarantees"].items() if row["violated"]} == {}, case
        assert result["operations"]["write"]["ok"] > 0, case


@pytest.fixture(scope="module")
def mongo_proxy(mongod_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TurningProxy]:
    """A proxy before a set of one member, which knows itself by the proxy's address alone."""
    folder, port = tmp_path_factory.mktemp("mongod"), ports.free(1)[0]
    given = ("--replSet", "rs0", "--port", str(port), "--bind_ip", "127.0.0.1", "--nounixsocket")
    process = subprocess.Popen([mongod_program, "--dbpath", folder, *given, "--logpath", folder / "log"])
    try:
        with pymongo.MongoClient("127.0.0.1", port, directConnection=True) as client, TurningProxy(port) as proxy:
            client.admin.command("ping")
            client.admin.command("replSetInitiate", {"_id": "rs0", "members": [{"_id": 0, "host": proxy.node}]})
            eventually(lambda: client.admin.command("hello")["isWritablePrimary"])
            yield proxy
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_load_on_a_replica_set_that_turns_hostile_ends_in_time_without_a_false_alarm(
    mongo_proxy: TurningProxy, tmp_path: Path
) -> None:
    def run(case: Case, folder: Path) -> Turned:
        uri = f"mongodb://{mongo_proxy.node}/?replicaSet=rs0&appName={case.name}"
        return turned(folder, case, mongo_proxy, case.name.encode(), "mongo", "--mongo-uri", uri)

    runs = run_all(run, tmp_path)
    check(runs)
    for case, (ended, result) in runs.items():  # the only member: nothing could be proved in the end
        assert result["unread_keys"] > 0, case
        assert result["guarantees"]["lost_writes"]["verdict"] == "no_evidence", case
        assert f"final reads of {result['unread_keys']} key" in ended.out, (case, ended.out)
        assert "verdict: unknown" in ended.out, (case, ended.out)
        assert "keys left in the database" in ended.err, (case, ended.err)


@pytest.mark.parametrize(
    "cases", [[CASES[1], CASES[3]], pytest.param(CASES, marks=pytest.mark.soak)], ids=["some", "every"]
)
def test_a_load_on_a_cassandra_node_that_turns_hostile_ends_in_time_without_a_false_alarm(
    ring: CassandraCluster, tmp_path: Path, cases: Sequence[Case]
) -> None:
    host, _, port = next(iter(ring.nodes())).rpartition(":")
    with closing(CassandraDatabaseClient(CassandraClientOptions(hosts=ring.uri()), RealClock())) as client:
        client.prepare()  # of several benches at once, each would create the table, and one would be dropped

    def run(case: Case, folder: Path) -> Turned:
        with TurningProxy(int(port), host) as proxy:
            hosts = ("--hosts", proxy.node, "--coordinator", proxy.node)
            quorums = ("--write-cl", "QUORUM", "--read-cl", "QUORUM")  # a read at ONE may rightly be stale
            return turned(folder, case, proxy, b"", "cassandra", *hosts, *quorums)

    check(run_all(run, tmp_path, cases))
