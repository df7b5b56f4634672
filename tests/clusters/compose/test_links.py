"""Links of containers: cut and mended for real between network namespaces; delays by their command lines."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import NamedTuple

import pytest

from stalewatch.clusters.compose.clusters import MongoCompose
from stalewatch.clusters.lab import links
from stalewatch.clusters.protocol import ClusterError, MissingProgram
from tests.clusters.compose.conftest import Engine, install_stand_in

NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(which, ("ip", "nft", "nsenter"))),
    reason="creating network namespaces needs root, iproute2, nftables and util-linux",
)

LISTEN = """
import socket
server = socket.create_server(("", 27017))
print("listening", flush=True)
while True:
    server.accept()[0].close()
"""

CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 27017), timeout=0.5).close()"


class Host(NamedTuple):
    """A network namespace with one process, like a container."""

    namespace: str
    address: str
    process: subprocess.Popen[str]

    def reaches(self, other: "Host") -> bool:
        """Return whether a connection from here to there is accepted."""
        command = ["ip", "netns", "exec", self.namespace, sys.executable, "-S", "-c", CONNECT, other.address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def build(mark: str) -> Iterator[Host]:
    """Create an isolated bridge, and yield three namespaces connected to it."""
    hub = f"sw-{mark}"
    ip("netns", "add", hub)
    ip("-n", hub, "link", "add", "bridge", "type", "bridge")
    ip("-n", hub, "link", "set", "bridge", "up")
    for number in (1, 2, 3):
        name, address = f"{hub}-{number}", f"198.18.77.{number}"
        ip("netns", "add", name)
        ip("-n", hub, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", hub, "link", "set", f"port{number}", "master", "bridge", "up")
        ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            ip("-n", name, "link", "set", link, "up")
        command = ["ip", "netns", "exec", name, sys.executable, "-S", "-c", LISTEN]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield Host(name, address, process)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    mark, made = secrets.token_hex(2), list[Host]()
    try:
        made.extend(build(mark))
        yield made
    finally:
        for host in made:
            host.process.kill()
            host.process.communicate()
        for name in (f"sw-{mark}-1", f"sw-{mark}-2", f"sw-{mark}-3", f"sw-{mark}"):
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.fixture
def mongo(hosts: list[Host], engine: Engine) -> MongoCompose:
    """A cluster of two members; the third host is a client."""
    for number, host in enumerate(hosts[:2], start=1):
        engine.add(f"mongo{number}", pid=host.process.pid - number, address=host.address)
    return MongoCompose()


@NEEDS_ROOT
def test_links_are_cut_both_ways_and_mended(mongo: MongoCompose, hosts: list[Host]) -> None:
    first, second, client = hosts
    assert first.reaches(second)
    mongo.cut("mongo1:27017", ["mongo2:27017"])
    assert not first.reaches(second)
    assert not second.reaches(first)
    assert client.reaches(first)
    assert first.reaches(first)
    mongo.cut("mongo1:27017", [], clients=True)
    assert not client.reaches(first)
    mongo.mend("mongo1:27017", "slow", "lose")
    assert not client.reaches(first)
    mongo.mend("mongo1:27017", "cut")
    assert first.reaches(second)
    assert client.reaches(first)
    mongo.mend("mongo1:27017")
    assert client.reaches(first)


@NEEDS_ROOT
def test_only_clients_can_be_cut_off(mongo: MongoCompose, hosts: list[Host]) -> None:
    first, second, client = hosts
    mongo.cut("mongo1:27017", [], clients=True)
    assert first.reaches(second)
    assert second.reaches(first)
    assert not client.reaches(first)
    assert not first.reaches(client)
    mongo.mend("mongo1:27017")
    assert client.reaches(first)


@NEEDS_ROOT
def test_a_share_of_one_drops_everything_until_mended(mongo: MongoCompose, hosts: list[Host]) -> None:
    first, _, client = hosts
    mongo.lose("mongo1:27017", 1.0)
    assert not client.reaches(first)
    mongo.mend("mongo1:27017", "cut")
    assert not client.reaches(first)
    mongo.mend("mongo1:27017")
    assert client.reaches(first)


@pytest.fixture
def recorded(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> MongoCompose:
    """A cluster with a stand-in for nsenter, because this kernel may not support delays."""
    install_stand_in(Path(os.environ["STAND_IN"]), "nsenter", "nft", "tc", "ip")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    engine.add_all("mongo", 27017)
    return MongoCompose()


INTO = "nsenter --target 4000001 --net --"


def test_outgoing_and_incoming_packets_are_delayed(recorded: MongoCompose, engine: Engine) -> None:
    engine.answer(f"{INTO} ip -json link show", stdout='[{"ifname": "lo"}, {"ifname": "eth0"}]')
    recorded.slow("mongo1:27017", 0.05)
    assert engine.calls() == [
        f"{INTO} ip -json link show",
        f"{INTO} ip link add ifb-stalewatch type ifb",
        f"{INTO} ip link set ifb-stalewatch up",
        f"{INTO} tc qdisc add dev eth0 ingress",
        f"{INTO} tc filter add dev eth0 parent ffff: matchall action mirred egress redirect dev ifb-stalewatch",
        f"{INTO} tc qdisc replace dev eth0 root netem delay 50000us limit 100000",
        f"{INTO} tc qdisc replace dev ifb-stalewatch root netem delay 50000us limit 100000",
    ]


def test_a_second_delay_replaces_the_first_and_is_mended(recorded: MongoCompose, engine: Engine) -> None:
    engine.answer(f"{INTO} ip -json link show", stdout='[{"ifname": "eth0"}, {"ifname": "ifb-stalewatch"}]')
    engine.answer(f"{INTO} tc -json qdisc show", stdout='[{"kind": "netem"}, {"kind": "ingress"}]')
    recorded.slow("mongo1:27017", 0.1)
    assert engine.calls()[1:] == [
        f"{INTO} tc qdisc replace dev {device} root netem delay 100000us limit 100000"
        for device in ("eth0", "ifb-stalewatch")
    ]
    recorded.mend("mongo1:27017", "slow")
    assert engine.calls() == [
        f"{INTO} tc -json qdisc show dev eth0",
        f"{INTO} tc qdisc delete dev eth0 root",
        f"{INTO} tc qdisc delete dev eth0 ingress",
        f"{INTO} ip -json link show",
        f"{INTO} ip link delete ifb-stalewatch",
    ]


def test_a_partial_delay_is_mended_too(recorded: MongoCompose, engine: Engine) -> None:
    engine.answer(f"{INTO} ip -json link show", stdout='[{"ifname": "eth0"}]')
    engine.answer(f"{INTO} tc -json qdisc show", stdout='[{"kind": "noqueue"}]')
    engine.answer(f"{INTO} ip link add", stderr="Error: Unknown device type.\n", code=2)
    with pytest.raises(ClusterError, match=r"ip link add ifb-stalewatch type ifb: Error: Unknown device type\."):
        recorded.slow("mongo1:27017", 0.1)
    engine.calls()
    recorded.mend("mongo1:27017", "slow")
    assert not [call for call in engine.calls() if "delete" in call]


def test_cuts_and_losses_are_rules_in_separate_tables(recorded: MongoCompose, engine: Engine) -> None:
    recorded.cut("mongo1:27017", ["mongo2:27017", "mongo3:27017"], clients=True)
    (cut, others), (again, clients) = engine.scripts()
    assert cut == again == f"{INTO} nft -f -"
    assert 'in iifname != "lo" ip saddr { 172.18.0.3, 172.18.0.4 } drop' in others
    assert 'out oifname != "lo" ip daddr { 172.18.0.3, 172.18.0.4 } drop' in others
    assert 'out oifname != "lo" ip daddr != { 172.18.0.2, 172.18.0.3, 172.18.0.4 } drop' in clients
    recorded.lose("mongo1:27017", 0.125)
    ((_, script),) = engine.scripts()
    assert script.count("numgen random mod 100000 <= 12499 drop") == 2
    assert "inet stalewatch-lose" in script


def test_a_hanging_or_missing_command_is_reported(
    recorded: MongoCompose, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answer(f"{INTO} nft", after_s=30)
    monkeypatch.setattr(links, "_COMMAND_TIMEOUT_S", 0.3)
    with pytest.raises(ClusterError, match="timed out after 0 s"):
        recorded.lose("mongo1:27017", 0.5)
    monkeypatch.setattr("shutil.which", _without("nft"))
    with pytest.raises(MissingProgram, match="apt-get install nftables"):
        recorded.lose("mongo1:27017", 0.5)


def _without(name: str) -> Callable[[str], str | None]:
    return lambda program: None if program == name else f"/usr/bin/{program}"
