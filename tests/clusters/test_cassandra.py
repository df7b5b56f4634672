"""The local ring with real nodes: whatever state it is in, `start` leads out of it."""

import socket
from collections.abc import Callable, Iterator

import psutil
import pytest

from stalewatch.clusters.local import cassandra_node, cql
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.management import HINTS, PROXY, STORAGE, Management, NoOrders
from stalewatch.clusters.protocol import NoMemory, PortTaken, UnknownNode

pytestmark = pytest.mark.server


def is_whole(ring: CassandraCluster) -> bool:
    return all(node.healthy and node.state == "running" and node.role == "UN" for node in ring.status())


def test_a_ring_comes_up_and_says_of_every_node_what_nodetool_says(ring: CassandraCluster) -> None:
    nodes = ring.status()
    assert is_whole(ring), nodes
    assert [node.address for node in nodes] == list(ring.nodes())
    assert ring.uri() == ",".join(ring.nodes())
    assert ring.primary() is None
    assert all("owns 33.3%" in node.note and "load " in node.note for node in nodes), nodes
    assert 500e6 < ring.memory() < 4e9


def test_nothing_listens_beyond_this_machine(ring: CassandraCluster) -> None:
    for node in ring.status():
        listening = [one for one in psutil.Process(node.pid).net_connections("tcp") if one.status == "LISTEN"]
        assert len(listening) == 3
        assert {one.laddr.ip.removeprefix("::ffff:") for one in listening} == {node.address.partition(":")[0]}


def test_a_page_in_a_browser_gives_no_orders(ring: CassandraCluster) -> None:
    requests = pytest.importorskip("requests")
    manage = ring.management(ring.nodes()[0])
    order = {"type": "read", "mbean": STORAGE, "attribute": "LiveNodes"}
    for headers in ({}, {"Origin": "http://example.org"}):
        answer = requests.post(f"http://{manage.host}:{manage.port}/jolokia/", json=order, headers=headers, timeout=5)
        assert answer.json()["status"] == 403
    assert len(manage.read(STORAGE, "LiveNodes")["LiveNodes"]) == 3


def test_a_killed_node_comes_back_with_its_data(ring: CassandraCluster, eventually: Callable[..., None]) -> None:
    node = ring.nodes()[1]
    before = ring.management(node).read(STORAGE, "LocalHostId")
    ring.kill(node)
    assert [one.healthy for one in ring.status()] == [True, False, True]
    assert not cql.reaches_all(ring.nodes()[0])
    ring.restart(node)
    eventually(lambda: is_whole(ring))
    assert ring.management(node).read(STORAGE, "LocalHostId") == before


def test_a_node_whose_disk_is_lost_is_replaced_by_an_empty_one(ring: CassandraCluster) -> None:
    node = ring.nodes()[2]
    ring.wipe(node)
    ring.start(print)
    assert is_whole(ring)
    assert len(ring.management(node).members()) == 3


def test_a_frozen_node_goes_on(ring: CassandraCluster) -> None:
    node = ring.nodes()[0]
    ring.pause(node)
    assert ring.status()[0].state == "paused"
    with pytest.raises(NoOrders, match=r"does not answer"):
        ring.management(node).read(STORAGE, "LiveNodes")
    ring.start(print)
    assert is_whole(ring)


@pytest.fixture
def without_hints(ring: CassandraCluster) -> Iterator[CassandraCluster]:
    changed = CassandraCluster(ring.home, hints=False)
    changed.start(print)
    yield changed
    CassandraCluster(ring.home, hints=True).start(print)


def test_hints_are_switched_on_a_ring_that_runs(without_hints: CassandraCluster) -> None:
    for node in without_hints.status():
        assert "keeps no hints" in node.note
        assert without_hints.management(node.address).read(PROXY, "HintedHandoffEnabled") == {
            "HintedHandoffEnabled": False
        }
    assert all("keeps no hints" in node.note for node in CassandraCluster(without_hints.home).status())


def test_a_taken_port_and_a_lack_of_memory_are_told_before_anything_starts(
    ring: CassandraCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = ring.nodes()[1]
    host, _, port = node.rpartition(":")
    ring.kill(node)
    with socket.create_server((host, int(port))), pytest.raises(PortTaken, match=f"{node}.*--wipe"):
        ring.start(print)
    with monkeypatch.context() as patched:
        patched.setattr(cassandra_node, "MEMORY_A_NODE", 1 << 50)
        with pytest.raises(NoMemory, match=r"cassandra2 need \d+ MB .* only \d+ MB"):
            ring.start(print)
    assert ring.status()[1].state == "dead"
    ring.start(print)
    assert is_whole(ring)


def test_an_order_that_a_node_refuses_says_why(ring: CassandraCluster) -> None:
    manage = ring.management(ring.nodes()[0])
    with pytest.raises(NoOrders, match=r"refused .*HintsService"):
        manage.read(HINTS, "NoSuchAttribute")
    with pytest.raises(NoOrders, match=r"127\.0\.0\.1:9 does not answer"):
        Management("127.0.0.1", 9).read(STORAGE, "LiveNodes")
    with pytest.raises(UnknownNode):
        ring.management("127.0.0.1:9")


def test_a_repair_ends(ring: CassandraCluster) -> None:
    ring.repair("system_traces")
