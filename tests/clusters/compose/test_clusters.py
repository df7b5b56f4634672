"""Clusters of containers: their exact command lines, and how they interpret an engine's answers."""

import http.server
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, ExecutionProfile, Session
from cassandra.cluster import Cluster as DriverCluster
from cassandra.policies import WhiteListRoundRobinPolicy

from stalewatch.clusters.compose import cluster, clusters, containers
from stalewatch.clusters.compose.clusters import CLUSTERS, CassandraCompose, CouchCompose, MongoCompose
from stalewatch.clusters.local import cassandra_members, couch_leaders
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.local.mongo_members import MemberView
from stalewatch.clusters.protocol import (
    Busy,
    Cluster,
    Disks,
    Hints,
    Links,
    NotAllowed,
    NotReady,
    NotRunning,
    ServerDied,
    UnknownNode,
)
from tests.clusters.compose.conftest import Engine

FILE = yaml.safe_load(containers.FILE.read_text())
COMPOSE = f"docker compose --file {containers.FILE} --project-name replication"


@pytest.fixture
def mongo(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> MongoCompose:
    """Members that never answer, although another replica set on this machine may use their ports."""
    monkeypatch.setattr(clusters, "member_views", lambda asked: [MemberView(address) for address in asked])
    engine.add_all("mongo", 27017)
    return MongoCompose()


@pytest.fixture
def couch(engine: Engine) -> CouchCompose:
    engine.add_all("couch", 5984)
    return CouchCompose()


@pytest.fixture
def cassandra(engine: Engine) -> CassandraCompose:
    engine.add_all("cassandra", 9042)
    return CassandraCompose()


@pytest.fixture
def no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def answered(condition: object) -> Callable[..., object]:
    return lambda *_: condition


@pytest.mark.parametrize("database", CLUSTERS)
def test_every_cluster_matches_the_compose_file_and_supports_faults(database: str, engine: Engine) -> None:
    made: Cluster = CLUSTERS[database]()
    assert isinstance(made, cluster.ComposeCluster)
    assert isinstance(made, Links)
    assert isinstance(made, Disks)
    assert made.database == database
    again = made.recipe().make()
    assert type(again) is type(made)
    for number, service in enumerate(made.services):
        defined = FILE["services"][service]
        (volume,) = (one.split(":")[1] for one in defined["volumes"] if not one.startswith("."))
        assert made.data[0] == volume
        host, outside, inside = defined["ports"][0].split(":")
        assert int(inside) == made.port
        engine.add(service, f"{host}:{outside}:{inside}")
        assert made.addresses()[service] == made.nodes()[number]
    assert set(made.one_shot) <= set(FILE["services"])


def test_members_are_identified_by_name_and_queried_at_published_ports(mongo: MongoCompose) -> None:
    assert mongo.nodes() == ["mongo1:27017", "mongo2:27017", "mongo3:27017"]
    assert mongo.primary() is None
    assert [(one.name, one.state, one.pid, one.healthy) for one in mongo.status()] == [
        ("mongo1", "running", 4_000_001, False),
        ("mongo2", "running", 4_000_002, False),
        ("mongo3", "running", 4_000_003, False),
    ]


@pytest.mark.parametrize("name", ["mongo2:27017", "mongo2"])
def test_a_dead_node_is_not_killed_again(mongo: MongoCompose, engine: Engine, name: str) -> None:
    mongo.kill(name)
    assert engine.calls() == ["docker kill id-of-mongo2"]
    mongo.kill(name)
    assert engine.calls() == []
    assert [one.state for one in mongo.status()] == ["running", "dead", "running"]
    assert mongo.status()[1].pid is None


def test_a_node_is_paused_and_resumed(mongo: MongoCompose, engine: Engine) -> None:
    mongo.pause("mongo1:27017")
    mongo.pause("mongo1:27017")
    assert [one.state for one in mongo.status()] == ["paused", "running", "running"]
    mongo.resume("mongo1:27017")
    mongo.resume("mongo1:27017")
    assert engine.calls() == ["docker pause id-of-mongo1", "docker unpause id-of-mongo1"]
    mongo.kill("mongo1:27017")
    for change in (mongo.pause, mongo.resume):
        with pytest.raises(NotRunning, match="mongo1 is not running"):
            change("mongo1:27017")


def test_a_restart_waits_until_the_node_serves(
    mongo: MongoCompose, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])
    monkeypatch.setattr(MongoCompose, "serves", lambda *_: next(answers))
    mongo.pause("mongo1:27017")
    mongo.restart("mongo1:27017")
    assert engine.calls() == [
        "docker pause id-of-mongo1",
        "docker unpause id-of-mongo1",
        "docker restart -t 60 id-of-mongo1",
    ]


def test_a_node_that_dies_at_its_start_is_reported_with_the_end_of_its_log(mongo: MongoCompose, engine: Engine) -> None:
    mongo.kill("mongo1:27017")
    engine.answer("docker restart")
    engine.answer("docker logs", stdout="WiredTiger error\nfatal assertion\n")
    with pytest.raises(ServerDied, match="mongo1 has exited: WiredTiger error / fatal assertion"):
        mongo.restart("mongo1:27017")


def test_waiting_for_a_node_times_out(mongo: MongoCompose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "READY_TIMEOUT_S", 0.0)
    with pytest.raises(NotReady, match="see docker compose logs mongo1"):
        mongo.restart("mongo1:27017")


def test_an_unknown_node_is_refused(mongo: MongoCompose) -> None:
    with pytest.raises(UnknownNode, match=r"mongo9:27017 is not a node .* mongo1:27017, mongo2:27017, mongo3:27017"):
        mongo.kill("mongo9:27017")


def test_a_container_of_compose_run_is_ignored(engine: Engine) -> None:
    engine.add("mongo1", "127.0.0.1:27017:27017")
    engine.containers[0]["Config"]["Labels"]["com.docker.compose.oneoff"] = "True"
    engine.save()
    with pytest.raises(NotRunning, match="docker compose up -d mongo1 mongo2 mongo3"):
        MongoCompose().kill("mongo1:27017")


def test_only_the_projects_containers_are_listed(mongo: MongoCompose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "mine")
    mongo.status()
    calls = Path(os.environ["STAND_IN"], "calls.jsonl").read_text().splitlines()
    label = "label=com.docker.compose.project=mine"
    assert json.loads(calls[0])["words"] == ["docker", "ps", "--all", "--quiet", "--no-trunc", "--filter", label]


def test_start_repairs_paused_and_disconnected_nodes(
    mongo: MongoCompose, engine: Engine, monkeypatch: pytest.MonkeyPatch, no_root: None
) -> None:
    del no_root
    mongo.pause("mongo1:27017")
    mongo.cut("mongo2:27017", ["mongo1:27017", "mongo3:27017"], clients=True)
    engine.calls()
    healthy = [one._replace(healthy=True) for one in mongo.status()]
    monkeypatch.setattr(MongoCompose, "status", answered(healthy))
    reported: list[str] = []
    mongo.start(reported.append)
    assert engine.calls() == [
        "docker unpause id-of-mongo1",
        "docker network connect --alias mongo2 replication_default id-of-mongo2",
        "docker compose version",
        f"{COMPOSE} up --detach mongo1 mongo2 mongo3 mongosetup",
    ]
    assert reported[0] == "mongo1: was paused, resuming it"
    mongo.ensure(reported.append)
    assert engine.calls() == []


def test_stop_deletes_data_only_with_wipe(couch: CouchCompose, engine: Engine) -> None:
    couch.stop(print)
    assert engine.calls()[1:] == [f"{COMPOSE} stop --timeout 60 couch1 couch2"]
    couch.stop(print, wipe=True)
    assert [call for call in engine.calls() if call != "docker compose version"] == [
        f"{COMPOSE} stop --timeout 60 couch1 couch2",
        f"{COMPOSE} rm --force -v couch1 couch2",
        "docker volume rm --force replication_couch1 replication_couch2",
    ]


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (MongoCompose, "/data/db -mindepth 1 -delete"),
        (CouchCompose, "/opt/couchdb/data -mindepth 1 -delete"),
        (CassandraCompose, "/var/lib/cassandra -mindepth 2 -type f -not -path */data/system* -delete"),
    ],
)
def test_wipe_kills_a_node_and_deletes_its_data(
    kind: type[cluster.ComposeCluster], arguments: str, engine: Engine
) -> None:
    made = kind()
    engine.add_all(made.database, made.port)
    service = made.services[1]
    made.wipe(made.nodes()[1])
    assert engine.calls() == [
        f"docker kill id-of-{service}",
        (
            f"docker run --rm --network none --user 0 --volumes-from id-of-{service} --entrypoint find "
            f"sha256:image-of-{service} {arguments}"
        ),
    ]
    assert made.status()[1].state == "dead"


def test_a_connection_string_requires_that_member_names_resolve(
    mongo: MongoCompose, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"mongo1": "172.18.0.2", "mongo2": "172.18.0.3"}

    def resolve(name: str) -> str:
        if name not in known:
            raise socket.gaierror
        return known[name]

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    with pytest.raises(NotReady, match=r"/etc/hosts: 172\.18\.0\.4 mongo3\. .*docker compose run --rm bench mongo"):
        mongo.uri()
    known["mongo3"] = "172.18.0.4"
    assert mongo.uri() == "mongodb://mongo1:27017,mongo2:27017,mongo3:27017/?replicaSet=rs0"
    assert mongo.client_options() == {"mongo_uri": mongo.uri()}
    known["mongo1"] = "172.18.0.9"  # as after it was recreated
    with pytest.raises(NotReady, match=r"172\.18\.0\.2 mongo1\."):
        mongo.uri()


def test_leaders_are_identified_by_published_ports(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    couch = CouchCompose()
    assert couch.nodes() == ["127.0.0.1:5984", "127.0.0.1:5985"]
    engine.add("couch1", "127.0.0.1:6984:5984")
    assert couch.nodes() == ["127.0.0.1:6984", "127.0.0.1:5985"]
    couch.kill("127.0.0.1:6984")
    assert couch.nodes()[0] == "127.0.0.1:6984"
    assert couch.uri() == "http://admin:pass@127.0.0.1:6984 http://admin:pass@127.0.0.1:5985"
    monkeypatch.setenv("COUCHDB_PASSWORD", "p@ss/word")
    assert couch.client_options()["couch_b"] == "http://admin:p%40ss%2Fword@127.0.0.1:5985"


class Up(http.server.BaseHTTPRequestHandler):
    """A server that is up."""

    def do_GET(self) -> None:  # the base class's name for it
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def served() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Up) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_port
        server.shutdown()


def test_leaders_that_answer_are_healthy(engine: Engine, served: int) -> None:
    engine.add("couch1", f"127.0.0.1:{served}:5984")
    first, second = CouchCompose().status()
    assert (first.role, first.healthy, first.state) == ("leader", True, "running")
    assert (second.role, second.healthy, second.state, second.pid) == (None, False, "dead", None)


NODETOOL = """\
Datacenter: datacenter1
=======================
Status=Up/Down
|/ State=Normal/Leaving/Joining/Moving
--  Address     Load        Tokens  Owns (effective)  Host ID                               Rack
UN  172.18.0.2  119.82 KiB  16      64.7%             6d194555-f6eb-41d0-c000-000000000001  rack1
DN  172.18.0.3  75.25 KiB   16      59.3%             6d194555-f6eb-41d0-c000-000000000002  rack1
UN  172.18.0.4  75.25 KiB   16      76.0%             6d194555-f6eb-41d0-c000-000000000003  rack1

"""


def test_ring_nodes_keep_their_addresses_while_they_are_dead(
    cassandra: CassandraCompose, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cassandra_members, "serves", lambda address: address != "127.0.0.1:9043")
    engine.answer("docker exec id-of-cassandra1 nodetool status", stdout=NODETOOL)
    assert cassandra.uri() == "172.18.0.2:9042,172.18.0.3:9042,172.18.0.4:9042"
    cassandra.kill("172.18.0.3:9042")
    again = CassandraCompose()  # as in a guardian
    assert again.client_options() == {"hosts": cassandra.uri()}
    assert [(one.address, one.state, one.role, one.healthy) for one in again.status()] == [
        ("172.18.0.2:9042", "running", "UN", True),
        ("172.18.0.3:9042", "dead", "DN", False),
        ("172.18.0.4:9042", "running", "UN", True),
    ]


def test_hints_are_turned_on_and_off_with_nodetool(cassandra: CassandraCompose, engine: Engine) -> None:
    assert isinstance(cassandra, Hints)
    for keep in (False, True, None):
        cassandra.keep_hints(cassandra.nodes()[0], keep=keep)
    assert engine.calls() == [
        f"docker exec id-of-cassandra1 nodetool {order}"
        for order in ("disablehandoff", "enablehandoff", "enablehandoff")
    ]


def test_a_ring_that_does_not_answer_is_not_healthy(
    cassandra: CassandraCompose, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cassandra_members, "serves", answered(condition=True))
    engine.answer("docker exec", stderr="nodetool: Failed to connect to '127.0.0.1:7199'", code=1)
    assert [(one.role, one.healthy) for one in cassandra.status()] == [(None, False)] * 3


def test_without_root_a_node_can_only_be_cut_off_from_everything(
    mongo: MongoCompose, engine: Engine, no_root: None
) -> None:
    del no_root
    others = ["mongo2:27017", "mongo3:27017"]
    mongo.cut("mongo1:27017", others, clients=True)
    mongo.cut("mongo1:27017", others, clients=True)
    assert engine.calls() == ["docker network disconnect replication_default id-of-mongo1"]
    for attempt in (
        lambda: mongo.cut("mongo2:27017", others),
        lambda: mongo.cut("mongo2:27017", ["mongo1:27017"], clients=True),
        lambda: mongo.slow("mongo2:27017", 0.1),
        lambda: mongo.lose("mongo2:27017", 0.1),
    ):
        with pytest.raises(NotAllowed, match="root"):
            attempt()
    assert engine.calls() == []
    mongo.mend("mongo1:27017", "slow")
    assert engine.calls() == []
    mongo.mend("mongo1:27017", "cut")
    mongo.mend("mongo1:27017")
    assert engine.calls() == ["docker network connect --alias mongo1 replication_default id-of-mongo1"]


def test_a_ring_node_is_never_disconnected_because_it_would_lose_its_address(
    cassandra: CassandraCompose, engine: Engine, no_root: None
) -> None:
    del no_root
    first, *others = cassandra.nodes()
    with pytest.raises(NotAllowed, match="root"):
        cassandra.cut(first, others, clients=True)
    assert engine.calls() == []


def test_a_dead_node_has_no_links(mongo: MongoCompose, engine: Engine) -> None:
    mongo.kill("mongo1:27017")
    engine.calls()
    with pytest.raises(NotRunning):
        mongo.lose("mongo1:27017", 0.5)
    mongo.mend("mongo1:27017")
    assert engine.calls() == []


@pytest.mark.server
def test_status_of_containers_matches_a_real_replica_set(
    whole: MongoCluster, engine: Engine, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    names = dict(zip(MongoCompose.services, whole.nodes(), strict=True))
    for service, address in names.items():
        engine.add(service, f"{address}:27017")
    monkeypatch.setattr(
        MongoCompose, "addresses", answered(names)
    )  # a local set's members know each other by these addresses
    mongo = MongoCompose()

    def seen(by: MongoCompose | MongoCluster) -> list[tuple[object, ...]]:
        return [(one.address, one.role, one.healthy, one.lag_s is None) for one in by.status()]

    eventually(lambda: all(one.healthy for one in mongo.status()) and seen(mongo) == seen(whole))
    mongo.restart(whole.nodes()[0])  # the stand-in does nothing, and the member serves
    eventually(lambda: mongo.primary() == whole.primary() is not None)
    mongo.kill(str(whole.primary()))  # according to the stand-in only
    assert mongo.primary() is None


def own_rows(session: Session) -> int:
    """Return how many of the hundred keys a node itself has; at ONE it answers alone."""
    select = session.prepare("SELECT k FROM wiped.kv WHERE k = ?")
    select.consistency_level = ConsistencyLevel.ONE
    return sum(bool(session.execute(select, [key]).one()) for key in range(100))


@contextmanager
def connected(node: str) -> Iterator[Session]:
    host, _, port = node.partition(":")
    profile = ExecutionProfile(WhiteListRoundRobinPolicy([host]), consistency_level=ConsistencyLevel.ALL)
    profiles = {EXEC_PROFILE_DEFAULT: profile}
    with DriverCluster([(host, int(port))], execution_profiles=profiles, protocol_version=5) as driver:
        yield driver.connect()


@pytest.mark.server
@pytest.mark.soak
def test_a_wiped_node_of_a_real_ring_keeps_its_identity_and_loses_its_data(
    ring: CassandraCluster, eventually: Callable[..., None]
) -> None:
    """Cassandra's data have the same layout in its image and here, so that `find` deletes the same files."""
    node = ring.nodes()[1]
    replication = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}"
    with connected(node) as session:
        session.execute(f"CREATE KEYSPACE wiped WITH replication = {replication}")
        session.execute("CREATE TABLE wiped.kv (k int PRIMARY KEY) WITH read_repair = 'NONE'")
        for key in range(100):
            session.execute("INSERT INTO wiped.kv (k) VALUES (%s)", [key])
        assert own_rows(session) == 100
    ring.kill(node)
    _, *words = CassandraCompose.data
    subprocess.run(["find", ring.servers["cassandra2"].folder / "data", *words, "-delete"], check=True)
    ring.restart(node)
    eventually(lambda: all(one.healthy for one in ring.status()))
    with connected(node) as session:
        assert own_rows(session) < 100
        session.execute("DROP KEYSPACE wiped")


def test_two_drills_cannot_use_the_same_containers(
    mongo: MongoCompose, cassandra: CassandraCompose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused = pytest.raises(Busy, match="a drill is using the Compose mongo cluster")
    with mongo.reserved(print), cassandra.reserved(print), refused, MongoCompose().reserved(print):
        pass
    with MongoCompose().reserved(print):
        pass


@pytest.mark.server
@pytest.mark.parametrize("fault", [("kill", "restart"), ("pause", "resume")])
def test_replication_with_a_leader_that_is_back_goes_on_at_once(
    engine: Engine, leaders: CouchCluster, fault: tuple[str, str]
) -> None:
    """The containers are real leaders here; their replication documents name them as Compose does."""
    compose, ends, services = CouchCompose(), leaders.nodes(), CouchCompose.services
    for service, address in zip(services, ends, strict=True):
        engine.add(service, f"{address}:5984")
    documents = []
    for holder, source, target in ((ends[0], *services), (ends[1], *services[::-1])):
        urls = {name: f"http://admin:pass@{one}:5984/bench" for name, one in (("source", source), ("target", target))}
        documents.append(couch_leaders.url(holder, f"_replicator/stalewatch-bench-{source}%3A5984-{target}%3A5984"))
        requests.put(documents[-1], json={**urls, "continuous": True}, timeout=60).raise_for_status()

    def generations() -> tuple[list[tuple[str, object]], list[str]]:
        found = [requests.get(document, timeout=60).json() for document in documents]
        return [(one["_id"], one["source"]) for one in found], [one["_rev"] for one in found]

    try:
        what, before = generations()
        for action in fault:
            getattr(compose, action)(ends[1])
        assert generations()[0] == what
        after = generations()[1]
        assert after[0] != before[0]
        assert after[1] == before[1]  # its holder is back itself, and tries at once
    finally:
        for document in documents:
            requests.delete(document, params={"rev": requests.get(document, timeout=60).json()["_rev"]}, timeout=60)
