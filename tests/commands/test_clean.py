"""`stalewatch clean`: what runs left is listed, and removed only if so chosen."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pymongo
import pytest
import requests
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile

from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import url
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands.main import main

pytestmark = pytest.mark.server

LOAD = ("--ops", "100", "--users", "4", "--keys", "5", "--write-ratio", "0.7", "--keep")

Captured = pytest.CaptureFixture[str]


def check_cleaning(
    database: Sequence[str],
    workload: str,
    left: Callable[[], list[str]],
    folder: Path,
    capsys: Captured,
) -> None:
    """Leave the keys of two runs, clean up after the first, then after all; only the key `mine` stays."""
    runs = []
    for number in range(2):
        report = folder / f"{number}.json"
        assert main(["bench", *database, "--workload", workload, *LOAD, "--json", str(report)]) == 0
        runs.append(json.loads(report.read_text())["run"])
    before = left()
    capsys.readouterr()
    assert main(["clean", *database]) == 0
    shown = capsys.readouterr().out
    assert f"run {runs[0]}: " in shown
    assert f"run {runs[1]}: " in shown
    assert shown.splitlines()[-1] == "nothing was changed; to remove all of this, give --yes"
    assert left() == before
    assert main(["clean", *database, "--run", "nobody", "--yes"]) == 0
    assert capsys.readouterr().out == "nothing of run nobody was found\n"
    assert main(["clean", *database, "--run", runs[0], "--yes"]) == 0
    assert left() == [key for key in before if runs[0] not in key]
    assert main(["clean", *database, "--yes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "removed"
    assert left() == ["mine"]


def test_documents_in_mongo_are_removed(whole: MongoCluster, tmp_path: Path, capsys: Captured) -> None:
    with pymongo.MongoClient(whole.uri()) as client:
        documents = client["bench"]["left"]
        documents.insert_one({"_id": "mine"})
        database = ("mongo", "--mongo-uri", whole.uri(), "--coll", "left")
        mixed = "register,ledger,sequence"
        check_cleaning(database, mixed, lambda: sorted(documents.distinct("_id")), tmp_path, capsys)
        documents.drop()


def test_rows_in_cassandra_are_removed(ring: CassandraCluster, tmp_path: Path, capsys: Captured) -> None:
    database = ("cassandra", "--hosts", ring.uri(), "--keyspace", "bench", "--table", "left_rows")
    assert main(["clean", *database]) == 0  # there is no such table
    address, _, port = ring.nodes()[0].rpartition(":")
    everywhere = ExecutionProfile(consistency_level=ConsistencyLevel.ALL)  # one node alone may be behind
    cluster = Cluster([address], port=int(port), execution_profiles={EXEC_PROFILE_DEFAULT: everywhere})
    session = cluster.connect()

    def left() -> list[str]:
        tables = [f"bench.left_rows{suffix}" for suffix in ("", "_lists", "_counters")]
        return sorted(key for table in tables for (key,) in session.execute(f"SELECT DISTINCT k FROM {table}"))  # noqa: S608 # names of this test

    assert main(["bench", *database, "--ops", "10", "--users", "2", "--keys", "2"]) == 0
    session.execute("INSERT INTO bench.left_rows (k) VALUES ('mine')")
    check_cleaning(database, "register,ledger,sequence", left, tmp_path, capsys)
    cluster.shutdown()


def test_documents_and_replication_in_couch_are_removed(
    leaders: CouchCluster, tmp_path: Path, capsys: Captured
) -> None:
    a, b = (url(node).rstrip("/") for node in leaders.nodes())
    database = ("couch", "--couch-a", a, "--couch-b", b, "--db", "left")
    requests.put(f"{a}/left", timeout=60).raise_for_status()
    requests.put(f"{a}/left/mine", json={}, timeout=60).raise_for_status()

    def left() -> list[str]:
        at_both = [requests.get(f"{one}/left/_all_docs", timeout=60).json()["rows"] for one in (a, b)]
        jobs = [requests.get(f"{one}/_replicator/_all_docs", timeout=60).json()["rows"] for one in (a, b)]
        ours = {row["id"] for rows in jobs for row in rows if row["id"].startswith("stalewatch-left-")}
        return sorted({row["id"] for rows in at_both for row in rows} | ours)

    check_cleaning(database, "register", left, tmp_path, capsys)
