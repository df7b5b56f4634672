"""A replica set in a lab: faults of its links, and how the network is repaired and removed."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pymongo
import pytest

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.local.mongo_members import member_views
from stalewatch.clusters.local.process import MARKER
from stalewatch.faults.catalogue import FAULTS
from tests.conftest import leading

pytestmark = pytest.mark.server

Eventually = Callable[..., None]

SENT = 1000

COUNTER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
    receiver.bind((sys.argv[1], int(sys.argv[2])))
    print("listening", flush=True)
    receiver.settimeout(1)
    received = 0
    try:
        while receiver.recv(100):
            received += 1
    except TimeoutError:
        print(received, flush=True)
"""


def notes(cluster: MongoLab) -> dict[str, str]:
    return {node.address: node.note for node in cluster.status()}


def is_healthy(cluster: MongoLab) -> bool:
    return all(node.healthy for node in cluster.status())


def inside(cluster: MongoLab, name: str, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*cluster.network.enter(name), *words], capture_output=True, text=True, check=False)


def left_behind(cluster: MongoLab) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    links = subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout
    mark = cluster.network.outer.removeprefix("sw-")
    return [line for line in (listed + links).splitlines() if mark in line]


def environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def test_nodes_listen_only_in_the_lab_and_have_no_route_out(lab: MongoLab) -> None:
    assert is_healthy(lab), lab.status()
    assert all(address.startswith("198.1") for address in lab.nodes())
    for node in lab.status():
        listening = inside(lab, node.name, "ss", "-ltnH").stdout.splitlines()
        assert [line.split()[3] for line in listening] == [node.address]
        routes = inside(lab, node.name, "ip", "-4", "route").stdout.splitlines()
        assert [route.split()[0] for route in routes] == [str(lab.network.subnet)]
        assert "unreachable" in inside(lab, node.name, "ip", "route", "get", "192.0.2.1").stderr


def test_an_isolated_primary_is_replaced_while_clients_still_reach_it(lab: MongoLab, eventually: Eventually) -> None:
    old = leading(lab)
    fault = FAULTS["isolate"].make(lab, [old], {})
    fault.begin()
    eventually(lambda: lab.primary() not in {None, old})
    eventually(lambda: member_views([old])[0].role == "SECONDARY")  # it still answers this process
    assert notes(lab)[old].startswith("cut from mongo")
    fault.end()
    fault.end()
    eventually(lambda: is_healthy(lab))
    assert set(notes(lab).values()) == {""}


def test_a_node_isolated_from_clients_is_unreachable_and_the_majority_keeps_working(lab: MongoLab) -> None:
    node = next(one.address for one in lab.status() if one.role == "SECONDARY")
    fault = FAULTS["isolate"].make(lab, [node], {"clients": True})
    fault.begin()
    assert member_views([node])[0].role is None
    assert "cut from clients" in notes(lab)[node]
    with pymongo.MongoClient(lab.uri(), serverSelectionTimeoutMS=20_000) as client:
        # With w: majority it would wait for the other secondary, which may sync from this one.
        client.faults.kv.with_options(write_concern=pymongo.WriteConcern(1)).insert_one({"during": "a split"})
    lab.start(print)  # also mends links
    assert is_healthy(lab)


def test_an_isolated_majority_elects_a_new_primary(lab: MongoLab, eventually: Eventually) -> None:
    old = leading(lab)
    majority = [node for node in lab.nodes() if node != old]
    fault = FAULTS["isolate"].make(lab, majority, {})
    fault.begin()
    eventually(lambda: lab.primary() in majority)  # they still reach each other
    fault.end()
    eventually(lambda: is_healthy(lab))


def test_loss_drops_about_its_share(lab: MongoLab) -> None:
    node, address = lab.nodes()[0], (lab.network.host("mongo1"), 9)
    fault = FAULTS["loss"].make(lab, [node], {"share": 0.3})
    fault.begin()
    assert notes(lab)[node] == "loses 30% each way"
    with (
        subprocess.Popen(
            [*lab.network.enter("mongo1"), sys.executable, "-c", COUNTER, *map(str, address)],
            stdout=subprocess.PIPE,
            text=True,
        ) as counter,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        assert counter.stdout
        assert counter.stdout.readline() == "listening\n"
        for number in range(SENT):
            sender.sendto(b"one", address)
            if number % 20 == 0:
                time.sleep(0.005)  # otherwise the buffer of a counter that gets no CPU time overflows
        received = int(counter.stdout.readline())
    fault.end()
    assert 0.6 < received / SENT < 0.8  # seven standard deviations away


@pytest.mark.parametrize(("share", "note"), [(1.0, "loses 100% each way"), (1e-7, "loses 1e-05% each way")])
def test_a_share_can_be_everything_or_almost_nothing(lab: MongoLab, share: float, note: str) -> None:
    node = lab.nodes()[0]
    fault = FAULTS["loss"].make(lab, [node], {"share": share})
    fault.begin()
    assert notes(lab)[node] == note
    assert (member_views([node])[0].role is None) == (share == 1.0)
    fault.end()


def fastest_s(connected: "pymongo.MongoClient[dict[str, object]]") -> float:
    def once() -> float:
        begin = time.monotonic()
        connected.admin.command("ping")
        return time.monotonic() - begin

    return min(once() for _ in range(5))


def test_a_delay_applies_both_ways_to_open_connections(lab: MongoLab) -> None:
    node = leading(lab)
    fault = FAULTS["delay"].make(lab, [node], {"each_way_s": 0.05})
    with pymongo.MongoClient(f"mongodb://{node}/", directConnection=True, maxPoolSize=1) as connected:
        before = connected.admin.command("hello")["connectionId"]
        assert fastest_s(connected) < 0.1
        fault.begin()
        assert notes(lab)[node] == "50 ms each way"
        assert fastest_s(connected) >= 0.1
        fault.end()
        fault.end()
        assert fastest_s(connected) < 0.1
        assert connected.admin.command("hello")["connectionId"] == before
    assert notes(lab)[node] == ""


def test_a_delay_whose_forwarder_died_is_mended_by_the_next_start(lab: MongoLab) -> None:
    node, name = lab.nodes()[2], "mongo3"
    lab.slow(node, 0.01)
    for process in psutil.process_iter(["cmdline"]):
        if f"n-{name}" in (process.info["cmdline"] or ()) and process.environ()[MARKER].startswith(str(lab.folder)):
            process.kill()
    assert member_views([node])[0].role is None
    lab.start(print)
    assert is_healthy(lab)
    assert notes(lab)[node] == ""


def test_ensure_mends_links(lab: MongoLab) -> None:
    lab.slow(lab.nodes()[1], 0.01)
    assert is_healthy(lab)
    lab.ensure(print)
    assert set(notes(lab).values()) == {""}


def test_two_faults_of_one_node_end_independently(lab: MongoLab) -> None:
    node = lab.nodes()[0]
    loss, cut = (FAULTS[name].make(lab, [node], {}) for name in ("loss", "isolate"))
    loss.begin()
    cut.begin()
    cut.end()
    assert notes(lab)[node] == "loses 10% each way"
    loss.end()
    assert notes(lab)[node] == ""


def test_a_partly_removed_network_is_repaired_by_start_and_removed_by_stop(
    lab: MongoLab,
) -> None:
    lab.slow(lab.nodes()[0], 0.01)
    subprocess.run(["ip", "link", "delete", lab.network.outer], check=True)
    lab.start(print)
    assert is_healthy(lab)
    lab.slow(lab.nodes()[0], 0.01)
    subprocess.run(["ip", "netns", "delete", lab.network.hub], check=True)
    lab.stop(print)
    assert left_behind(lab) == []
    assert not [one for one in psutil.process_iter() if environment(one).get(MARKER, "").startswith(str(lab.folder))]
    assert [node.state for node in lab.status()] == ["dead"] * 3
    lab.stop(print)  # a second stop changes nothing
