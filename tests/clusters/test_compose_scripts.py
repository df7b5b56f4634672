"""The scripts that containers of docker-compose.yml run, on local servers."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from shutil import copy
from urllib.parse import quote

import pytest
import requests
import yaml

from stalewatch.clients.couchdb import options as couchdb_options
from stalewatch.clients.couchdb import setup as couchdb_setup
from stalewatch.clients.couchdb.administration import LeaderAdmin
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clusters.local import couch_servers, home, mongo, programs
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.couch_leaders import PASSWORD, USER, _replications, url
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import MissingProgram

FOLDER = Path(__file__).parents[2] / "replication"
SERVICES = yaml.safe_load((FOLDER / "docker-compose.yml").read_text())["services"]
SHELL = Path(__file__).parent / "mongosh"

pytestmark = pytest.mark.server


@pytest.fixture(scope="session")
def mongosh() -> list[str]:
    """The shell of MongoDB's image, from its npm package; installed once, like the PouchDB server."""
    try:
        program = couch_servers.find_node()
    except MissingProgram as error:
        pytest.skip(str(error))
    folder = home.cache() / "mongosh-2.12.0"
    if not folder.exists():
        incomplete = folder.with_name(f"{folder.name}.{os.getpid()}")
        incomplete.mkdir(parents=True)
        for name in couch_servers._LOCK:
            copy(SHELL / name, incomplete)
        couch_servers._run(
            [*couch_servers._npm(program), "ci", "--omit=optional", *couch_servers._NPM_OPTIONS], incomplete, print
        )
        incomplete.rename(folder)
    return [str(program), str(folder / "node_modules" / "mongosh" / "bin" / "mongosh.js")]


@pytest.fixture
def servers(new_cluster: MongoCluster) -> MongoCluster:
    """Three servers that do not form a replica set yet."""
    with home.writing(new_cluster.folder):
        for server in new_cluster.servers.values():
            new_cluster._launch(server, programs.find(mongo.PROGRAM))
    return new_cluster


def set_up(mongosh: list[str], cluster: MongoCluster, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the command of the service mongosetup."""
    _, *flags, script = SERVICES["mongosetup"]["entrypoint"]
    assert Path(script).name == "mongo_setup.js"
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "MEMBERS": ",".join(cluster.nodes())}
    command = [*mongosh, *flags, str(FOLDER / "mongo_setup.js")]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def is_healthy(service: str, port: str) -> bool:
    """Run a service's health check against a port of this machine."""
    kind, *command = SERVICES[service]["healthcheck"]["test"]
    assert kind == "CMD"
    inside = SERVICES[service]["ports"][0].split(":")[2]
    here = [word.replace(inside, port) for word in command]
    return subprocess.run(here, capture_output=True, check=False).returncode == 0


def test_the_replica_set_is_formed_once(
    mongosh: list[str], servers: MongoCluster, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    first = set_up(mongosh, servers, tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert sorted(one.role or "" for one in servers.status()) == ["PRIMARY", "SECONDARY", "SECONDARY"]
    again = set_up(mongosh, servers, tmp_path)
    assert again.stdout.strip() == f"rs0 is ready: {','.join(servers.nodes())}".replace(",", ", ")
    port = servers.nodes()[2].partition(":")[2]
    eventually(lambda: is_healthy("mongo3", port))
    servers.kill(servers.nodes()[2])
    assert not is_healthy("mongo3", port)


def run_couch_setup(
    cluster: CouchCluster, database: str, password: str = PASSWORD, *, names: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command of the service couchsetup, for both leaders, or for the first one under these names."""
    command, script = SERVICES["couchsetup"]["command"]
    assert command == "python"
    first = cluster.nodes()[0]
    leaders = [first.replace("127.0.0.1", name) for name in names] or cluster.nodes()
    environ = {
        "LEADERS": " ".join(f"http://{address}" for address in leaders),
        "DATABASE": database,
        "COUCHDB_USER": USER,
        "COUCHDB_PASSWORD": password,
    }
    bare = [sys.executable, "-I", "-S", str(FOLDER / Path(script).name)]  # the image has no packages
    return subprocess.run(bare, env=environ, capture_output=True, text=True, check=False)


def replications(cluster: CouchCluster, database: str) -> set[str]:
    return {
        document["_id"]
        for address in cluster.nodes()
        for document in _replications(address)
        if document["target"].endswith(f"/{database}")
    }


def test_two_leaders_are_set_up_once_and_leave_nothing_for_the_bench_to_set_up(leaders: CouchCluster) -> None:
    first, again = (run_couch_setup(leaders, "made-by-compose") for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert again.stdout == first.stdout
    assert again.stderr == ""
    standing = replications(leaders, "made-by-compose")
    assert len(standing) == 2
    a, b = (couchdb_options.leader(url(address)) for address in leaders.nodes())
    options = CouchOptions(a=a, b=b, db="made-by-compose")
    with closing(LeaderAdmin("--couch-a", a, 5.0)) as at_a, closing(LeaderAdmin("--couch-b", b, 5.0)) as at_b:
        couchdb_setup.set_up(options, [at_a, at_b])
    assert replications(leaders, "made-by-compose") == standing
    assert is_healthy("couch1", leaders.nodes()[0].partition(":")[2])


def test_a_replication_with_another_password_is_written_again(leaders: CouchCluster) -> None:
    assert run_couch_setup(leaders, "company/repassworded").returncode == 0
    a, b = leaders.nodes()
    name = quote(f"stalewatch-company/repassworded-{a}-{b}", safe="")
    document = requests.get(url(a, f"_replicator/{name}"), timeout=60).json()
    stale = {**document, "target": document["target"].replace(f":{PASSWORD}@", ":0ld@")}
    assert requests.put(url(a, f"_replicator/{name}"), json=stale, timeout=60).status_code == 201
    assert run_couch_setup(leaders, "company/repassworded").returncode == 0
    assert requests.get(url(a, f"_replicator/{name}"), timeout=60).json()["target"] == document["target"]


def test_one_server_under_two_names_is_refused(leaders: CouchCluster) -> None:
    done = run_couch_setup(leaders, "bench", names=("127.0.0.1", "localhost"))
    assert done.returncode == 1
    assert "are the same server" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_password_is_reported_at_once_and_not_shown(leaders: CouchCluster) -> None:
    done = run_couch_setup(leaders, "made-by-compose", PASSWORD[::-1])
    assert done.returncode == 1
    assert "401" in done.stderr
    assert "COUCHDB_PASSWORD" in done.stderr
    assert PASSWORD[::-1] not in done.stdout + done.stderr
