"""The effect of each fault on real servers, and that nothing is left after it ends."""

from collections.abc import Callable

import pymongo
import pytest

from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cassandra_members import PROXY
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import NotRunning, State, Unable, UnknownNode
from stalewatch.faults.catalogue import FAULTS, BadParameter, PlannedFault
from tests.conftest import leading

Eventually = Callable[..., None]


def state(cluster: MongoCluster, node: str) -> State:
    return next(one.state for one in cluster.status() if one.address == node)


def secondaries(cluster: MongoCluster) -> list[str]:
    return [one.address for one in cluster.status() if one.role == "SECONDARY"]


def end_twice(fault: PlannedFault) -> None:
    fault.end()
    fault.end()


@pytest.mark.server
@pytest.mark.parametrize(("name", "during"), [("kill", "dead"), ("pause", "paused")])
def test_killed_or_paused_members_come_back(whole: MongoCluster, name: str, during: State) -> None:
    nodes = secondaries(whole)
    fault = FAULTS[name].make(whole, nodes, {})
    fault.begin()
    assert [state(whole, node) for node in nodes] == [during] * 2
    end_twice(fault)
    assert [state(whole, node) for node in nodes] == ["running"] * 2


@pytest.mark.server
def test_a_rolling_restart_gives_members_new_processes(whole: MongoCluster) -> None:
    nodes, before = secondaries(whole), {node.address: node.pid for node in whole.status()}
    fault = FAULTS["restart"].make(whole, nodes, {})
    fault.begin()
    after = {node.address: node.pid for node in whole.status()}
    assert {node for node in before if after[node] not in {None, before[node]}} == set(nodes)
    end_twice(fault)
    assert {node.address: node.pid for node in whole.status()} == after


@pytest.mark.server
def test_a_wiped_member_restarts_empty_and_is_filled_by_the_others(whole: MongoCluster, eventually: Eventually) -> None:
    with pymongo.MongoClient(whole.uri()) as client:
        everywhere = client.faults.kv.with_options(write_concern=pymongo.WriteConcern(3, wtimeout=60_000))
        everywhere.insert_one({"_id": "kept"})
    node = next(one for one in whole.status() if one.role == "SECONDARY")
    fault = FAULTS["wipe"].make(whole, [node.address], {})
    fault.begin()
    assert state(whole, node.address) == "dead"
    assert not (whole.servers[node.name].folder / "data").exists()
    end_twice(fault)
    with pymongo.MongoClient(f"mongodb://{node.address}/", directConnection=True, readPreference="secondary") as member:
        eventually(lambda: member.faults.kv.find_one() == {"_id": "kept"})


@pytest.mark.server
def test_a_secondary_can_lag_and_a_primary_cannot(whole: MongoCluster) -> None:
    node = secondaries(whole)[0]
    fault = FAULTS["lag"].make(whole, [node], {"behind_s": "2"})
    fault.begin()
    notes = {one.address: one.note for one in whole.status()}
    assert notes == {one: "delayed by 2 s" if one == node else "" for one in whole.nodes()}
    end_twice(fault)
    assert {one.note for one in whole.status()} == {""}
    with pytest.raises(Unable, match="is the primary, and only a secondary can lag"):
        FAULTS["lag"].make(whole, [leading(whole)], {}).begin()


@pytest.mark.server
def test_a_stalled_secondary_answers_old_values_until_it_goes_on(whole: MongoCluster, eventually: Eventually) -> None:
    node, other = secondaries(whole)
    fault = FAULTS["stall"].make(whole, [node], {})
    with (
        pymongo.MongoClient(f"mongodb://{other}/", directConnection=True) as another,
        pymongo.MongoClient(whole.uri()) as client,
        pymongo.MongoClient(f"mongodb://{node}/", directConnection=True, readPreference="secondary") as member,
    ):
        everywhere = client.faults.stalled.with_options(write_concern=pymongo.WriteConcern(3, wtimeout=60_000))
        everywhere.replace_one({"_id": 1}, {"v": 1}, upsert=True)
        # By default the other secondary might replicate from this one; then no majority would have the next write.
        another.admin.command("replSetSyncFrom", node)
        eventually(lambda: another.admin.command("replSetGetStatus")["syncSourceHost"] == leading(whole))
        fault.begin()
        client.faults.stalled.with_options(write_concern=pymongo.WriteConcern("majority")).update_one(
            {"_id": 1}, {"$set": {"v": 2}}
        )
        found = member.faults.stalled.find_one({"_id": 1})
        assert found == {"_id": 1, "v": 1}
        end_twice(fault)
        eventually(lambda: member.faults.stalled.find_one({"_id": 1}) == {"_id": 1, "v": 2})
    with pytest.raises(Unable, match="is the primary, and only a secondary can be stalled"):
        FAULTS["stall"].make(whole, [leading(whole)], {}).begin()


@pytest.mark.server
def test_hints_of_cassandra_are_turned_off_and_then_restored(ring: CassandraCluster) -> None:
    def kept() -> list[bool]:
        return [ring.management(node).read(PROXY, "HintedHandoffEnabled")["HintedHandoffEnabled"] for node in nodes]

    nodes = ring.nodes()
    fault = FAULTS["hints"].make(ring, nodes[:2], {})
    fault.begin()
    assert kept() == [False, False, True]
    end_twice(fault)
    assert kept() == [True] * 3


@pytest.mark.server
@pytest.mark.parametrize(("way", "left"), [("out", ["", "sends to couch1"]), ("both", ["", ""])])
def test_replication_links_are_removed_and_restored(leaders: CouchCluster, way: str, left: list[str]) -> None:
    before = [one.note for one in leaders.status()]
    fault = FAULTS["link"].make(leaders, leaders.nodes()[:1], {"way": way})
    fault.begin()
    assert [one.note for one in leaders.status()] == left
    end_twice(fault)
    assert [one.note for one in leaders.status()] == before
    leaders.prove()


@pytest.mark.server
def test_a_wiped_leader_restarts_empty_with_its_links(leaders: CouchCluster) -> None:
    fault = FAULTS["wipe"].make(leaders, leaders.nodes()[1:], {})
    fault.begin()
    end_twice(fault)
    leaders.prove()


@pytest.mark.server
def test_a_fault_that_fails_at_one_node_begins_at_the_others_and_is_undone(whole: MongoCluster) -> None:
    dead, alive = whole.nodes()[:2]
    whole.kill(dead)
    fault = FAULTS["pause"].make(whole, [dead, alive], {})
    with pytest.raises(NotRunning, match="restart it first"):
        fault.begin()
    assert state(whole, alive) == "paused"
    end_twice(fault)
    assert (state(whole, dead), state(whole, alive)) == ("dead", "running")


@pytest.mark.parametrize(
    ("cluster", "name", "message"),
    [
        (MongoCluster(), "hints", r"stores no hints: use a ring \(cassandra\)"),
        (MongoCluster(), "link", r"has no replication links to remove: use CouchDB leaders \(couch\)"),
        (CassandraCluster(), "lag", r"has no followers that can be made to lag: use a replica set \(mongo\)"),
    ],
)
def test_a_fault_that_a_database_does_not_support_is_refused(cluster: LocalCluster, name: str, message: str) -> None:
    with pytest.raises(Unable, match=f"this {cluster.database} cluster {message}"):
        FAULTS[name].make(cluster, cluster.nodes()[:1], {})


@pytest.mark.parametrize("name", ["isolate", "delay", "loss"])
def test_link_faults_are_refused_on_loopback(name: str) -> None:
    cluster = MongoCluster()
    with pytest.raises(Unable, match=r"cannot break links: start it with --lab \(needs root\)"):
        FAULTS[name].make(cluster, cluster.nodes()[:1], {})


def test_an_unknown_node_or_parameter_is_refused() -> None:
    cluster = MongoCluster()
    with pytest.raises(UnknownNode, match=r"127\.0\.0\.1:1: not a node of the mongo cluster"):
        FAULTS["kill"].make(cluster, ["127.0.0.1:1"], {})
    with pytest.raises(BadParameter, match="no parameter hard: this fault has none"):
        FAULTS["kill"].make(cluster, cluster.nodes(), {"hard": True})


@pytest.mark.parametrize("given", ["0", "1.1", "much", "nan"])
def test_an_invalid_value_is_refused(given: str) -> None:
    with pytest.raises(BadParameter, match=f"share={given}: expected a number above 0, up to 1"):
        FAULTS["loss"].parameters["share"].read("share", given)


def test_values_are_parsed_from_text() -> None:
    assert FAULTS["isolate"].parameters["clients"].read("clients", "yes") is True
    assert FAULTS["delay"].parameters["each_way_s"].read("each_way_s", "0.2") == 0.2


def test_every_fault_has_the_name_of_its_row() -> None:
    for name, spec in FAULTS.items():
        assert PlannedFault(spec, MongoCluster(), [], {}).name == name
