"""The metrics of servers: their reported state, and how often the primary changed."""

from datetime import UTC, datetime

from stalewatch.clients.mongodb.servers import states
from stalewatch.clients.protocol import NodeState
from stalewatch.metrics.families import Family
from stalewatch.metrics.nodes import NodeMetrics

DOWN = NodeState("a", primary=False, healthy=False, lag_s=None)


def member(node: str, primary: str) -> NodeState:
    return NodeState(node, primary=node == primary, healthy=True, lag_s=0.0)


def shown(nodes: NodeMetrics) -> dict[tuple[str, ...], float]:
    assert all(isinstance(reading.family, Family) for reading in nodes.readings())
    return {
        (reading.family.name, *reading.labels[2:]): float(reading.value)  # type: ignore[arg-type] # no histograms
        for reading in nodes.readings()
    }


def test_nothing_is_shown_before_the_first_poll() -> None:
    assert not shown(NodeMetrics("r", "mongo"))


def test_a_change_of_primary_is_counted_when_the_next_primary_is_seen() -> None:
    nodes = NodeMetrics("r", "mongo")
    for polled, changes in (
        ([member("a", "a"), member("b", "a")], 0),
        ([DOWN, member("b", "a")], 0),
        ([DOWN, member("b", "b")], 1),
        ([member("a", "b"), member("b", "b")], 1),
        ([member("a", "a"), member("b", "a")], 2),
    ):
        nodes.update(polled)
        assert shown(nodes)["primary_changes",] == changes


def test_if_no_server_answers_all_are_down_without_a_lag() -> None:
    nodes = NodeMetrics("r", "mongo")
    nodes.update([member("a", "a"), member("b", "a")])
    nodes.update([])
    found = shown(nodes)
    assert [found["node_healthy", node] for node in "ab"] == [0, 0]
    assert [found["primary", node] for node in "ab"] == [0, 0]
    assert ("replication_lag_seconds", "a") not in found
    nodes.update([DOWN, member("b", "a")])
    assert shown(nodes)["primary_changes",] == 0


def test_several_primaries_are_not_an_election() -> None:
    nodes = NodeMetrics("r", "couch")
    both = [NodeState(node, primary=True, healthy=True, lag_s=None) for node in "ab"]
    nodes.update(both)
    nodes.update(both[::-1])
    assert shown(nodes)["primary_changes",] == 0


def test_a_dead_member_of_a_replica_set_has_no_lag() -> None:
    then = datetime(2026, 1, 1, tzinfo=UTC)
    late = then.replace(microsecond=250_000)
    members = [
        {"name": "a", "stateStr": "PRIMARY", "health": 1, "lastAppliedWallTime": late, "optimeDate": then},
        {"name": "b", "stateStr": "SECONDARY", "health": 1, "lastAppliedWallTime": then, "optimeDate": then},
        {"name": "c", "stateStr": "(not reachable/healthy)", "health": 0, "optimeDate": datetime.fromtimestamp(0, UTC)},
    ]
    assert states(members) == [
        NodeState("a", primary=True, healthy=True, lag_s=0.0),
        NodeState("b", primary=False, healthy=True, lag_s=0.25),
        NodeState("c", primary=False, healthy=False, lag_s=None),
    ]
