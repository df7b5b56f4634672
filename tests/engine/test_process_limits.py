"""Limits of the process: open files are raised if possible, and otherwise said to be ours before the run."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.engine.process_limits import SPARE_FILES, require_files
from stalewatch.simulator.options import MemoryOptions

ROOT = Path(__file__).parents[2]
USERS = 500
MONGO = MongoOptions(read_from="secondary")
NEEDED = USERS * 3 + SPARE_FILES


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((256, NEEDED), (NEEDED, NEEDED)),
        ((256, resource.RLIM_INFINITY), (NEEDED, resource.RLIM_INFINITY)),
        ((NEEDED, 10**6), None),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), None),
    ],
)
def test_the_limit_is_raised_as_far_as_needed(
    before: tuple[int, int], after: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = []
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: before)
    monkeypatch.setattr(resource, "setrlimit", lambda _kind, limits: raised.append(limits))
    require_files(DATABASES["mongo"], MONGO, USERS)
    assert raised == ([] if after is None else [after])


@pytest.mark.parametrize(
    ("name", "options", "connections"),
    [
        ("mongo", MongoOptions(), 1),
        ("mongo", MongoOptions(read_from="primary"), 1),
        ("mongo", MongoOptions(uri="mongodb://a/?replicaSet=s&readpreference=secondaryPreferred"), 3),
        ("mongo", MongoOptions(uri="mongodb://a/?readPreference=nearest", read_from="primary"), 1),
        ("mongo", MongoOptions(read_from="nearest"), 3),
        ("mongo", MongoOptions(read_from="localhost:27017"), 2),
        ("couch", CouchOptions(write_to="b", read_from="a"), 2),
        ("couch", CouchOptions(write_to="a", read_from="same"), 1),
        ("couch", CouchOptions(write_to="both", read_from="same"), 2),
    ],
)
def test_only_connections_that_are_opened_count(name: str, options: object, connections: int) -> None:
    assert DATABASES[name].connections_per_user(options) == connections


def test_a_limit_that_cannot_be_raised_is_said_to_be_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (256, NEEDED - 1))
    with pytest.raises(
        BadAddress, match=rf"{USERS} users in one process .* may open {NEEDED - 1} \(ulimit -n\).*limit of ours"
    ):
        require_files(DATABASES["mongo"], MONGO, USERS)
    require_files(DATABASES["cassandra"], CassandraClientOptions(), USERS)  # its sessions share connections
    require_files(DATABASES["memory"], MemoryOptions(), USERS)


def test_the_bench_refuses_before_it_connects() -> None:
    line = [sys.executable, "bench.py", "mongo", "--mongo-uri", "mongodb://127.0.0.1:1/", "--users", "2000"]
    limited = ["bash", "-c", 'ulimit -n 256; exec "$@"', "bench", *line]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "limit of ours, not of MongoDB" in done.stderr
