"""The local ring with real nodes: `start` repairs it from any state."""

import socket
from collections.abc import Callable, Iterator

import psutil
import pytest

from stalewatch.clusters.local import cassandra_node
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cassandra_members import (
    HINTS,
    PROXY,
    STORAGE,
    Management,
    ManagementError,
    reaches_all,
)
from stalewatch.clusters.protocol import NoMemory, PortTaken, UnknownNode

pytestmark = pytest.mark.server


def is_healthy(ring: CassandraCluster) -> bool:
    return all(node.healthy and node.state == "running" and node.role == "UN" for node in ring.status())


def test_status_shows_what_nodetool_shows(ring: CassandraCluster) -> None:
    nodes = ring.status()
    assert is_healthy(ring), nodes
    assert [node.address for node in nodes] == list(ring.nodes())
    assert ring.uri() == ",".join(ring.nodes())
    assert ring.primary() is None
    assert all("owns 33.3%" in node.note and "load " in node.note for node in nodes), nodes
    assert 500e6 < ring.memory() < 4e9


def test_nodes_listen_on_loopback_only(ring: CassandraCluster) -> None:
    for node in ring.status():
        listening = [one for one in psutil.Process(node.pid).net_connections("tcp") if one.status == "LISTEN"]
        assert len(listening) == 3
        assert {one.laddr.ip.removeprefix("::ffff:") for one in listening} == {node.address.partition(":")[0]}


def test_a_browser_cannot_use_the_management_interface(ring: CassandraCluster) -> None:
    requests = pytest.importorskip("requests")
    management = ring.management(ring.nodes()[0])
    request = {"type": "read", "mbean": STORAGE, "attribute": "LiveNodes"}
    for headers in ({}, {"Origin": "http://example.org"}):
        answer = requests.post(
            f"http://{management.host}:{management.port}/jolokia/", json=request, headers=headers, timeout=5
        )
        assert answer.json()["status"] == 403
    assert len(management.read(STORAGE, "LiveNodes")["LiveNodes"]) == 3


@pytest.mark.soak  # loads and drills do the same
def test_a_killed_node_restarts_with_its_data(ring: CassandraCluster, eventually: Callable[..., None]) -> None:
    node = ring.nodes()[1]
    before = ring.management(node).read(STORAGE, "LocalHostId")
    ring.kill(node)
    assert [one.healthy for one in ring.status()] == [True, False, True]
    assert not reaches_all(ring.nodes()[0])
    ring.restart(node)
    eventually(lambda: is_healthy(ring))
    assert ring.management(node).read(STORAGE, "LocalHostId") == before


def test_a_wiped_node_is_replaced_by_an_empty_one(ring: CassandraCluster) -> None:
    node = ring.nodes()[2]
    ring.wipe(node)
    ring.start(print)
    assert is_healthy(ring)
    assert len(ring.management(node).members()) == 3


def test_a_frozen_node_is_resumed_by_start(ring: CassandraCluster) -> None:
    node = ring.nodes()[0]
    ring.pause(node)
    assert ring.status()[0].state == "paused"
    with pytest.raises(ManagementError, match=r"does not answer"):
        ring.management(node).read(STORAGE, "LiveNodes")
    ring.start(print)
    assert is_healthy(ring)


@pytest.fixture
def without_hints(ring: CassandraCluster) -> Iterator[CassandraCluster]:
    changed = CassandraCluster(ring.home, hints=False)
    changed.start(print)
    yield changed
    CassandraCluster(ring.home, hints=True).start(print)


def test_hints_are_turned_off_at_a_running_ring(without_hints: CassandraCluster) -> None:
    for node in without_hints.status():
        assert "keeps no hints" in node.note
        assert without_hints.management(node.address).read(PROXY, "HintedHandoffEnabled") == {
            "HintedHandoffEnabled": False
        }
    assert all("keeps no hints" in node.note for node in CassandraCluster(without_hints.home).status())


def test_a_taken_port_or_a_lack_of_memory_prevents_the_start(
    ring: CassandraCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ring.nodes()[1]
    host, _, port = node.rpartition(":")
    ring.kill(node)
    with socket.create_server((host, int(port))), pytest.raises(PortTaken, match=f"{node}.*--wipe"):
        ring.start(print)
    with monkeypatch.context() as patched:
        patched.setattr(cassandra_node, "MEMORY_PER_NODE", 1 << 50)
        with pytest.raises(NoMemory, match=r"cassandra2 need \d+ MB .* only \d+ MB"):
            ring.start(print)
    assert ring.status()[1].state == "dead"
    ring.start(print)
    assert is_healthy(ring)


def test_management_errors_explain_why(ring: CassandraCluster) -> None:
    management = ring.management(ring.nodes()[0])
    with pytest.raises(ManagementError, match=r"refused .*HintsService"):
        management.read(HINTS, "NoSuchAttribute")
    with pytest.raises(ManagementError, match=r"127\.0\.0\.1:9 does not answer"):
        Management("127.0.0.1", 9).read(STORAGE, "LiveNodes")
    with pytest.raises(UnknownNode):
        ring.management("127.0.0.1:9")


def test_a_repair_completes(ring: CassandraCluster) -> None:
    ring.repair("system_traces")
