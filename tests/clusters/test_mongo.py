"""The local replica set with real servers: `start` repairs it from any state."""

import argparse
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest

from stalewatch.clusters.local import home, mongo, ports
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.local.mongo_members import run_command
from stalewatch.clusters.local_clusters import addresses
from stalewatch.clusters.protocol import ClusterError, NotRunning, PortTaken, ServerDied, UnknownNode
from stalewatch.commands import cluster as command
from tests.conftest import leading

pytestmark = pytest.mark.server

COMMAND = """
import argparse, sys
from stalewatch.commands import cluster as command
parser = argparse.ArgumentParser()
command.add_arguments(parser)
sys.exit(command.run(parser.parse_args()))
"""


def stalewatch_cluster(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words], stderr=subprocess.PIPE, text=True)


def client(cluster: MongoCluster) -> "pymongo.MongoClient[dict[str, Any]]":
    return pymongo.MongoClient(cluster.uri(), serverSelectionTimeoutMS=20_000)


def member(address: str) -> "pymongo.MongoClient[dict[str, Any]]":
    return pymongo.MongoClient(f"mongodb://{address}/", directConnection=True, readPreference="secondaryPreferred")


def is_healthy(cluster: MongoCluster) -> bool:
    nodes = cluster.status()
    return sorted(node.role or "" for node in nodes) == ["PRIMARY", "SECONDARY", "SECONDARY"] and all(
        node.healthy and node.state == "running" and node.lag_s is not None for node in nodes
    )


def assert_healthy(cluster: MongoCluster) -> None:
    assert is_healthy(cluster), cluster.status()


def pids(cluster: MongoCluster) -> list[int | None]:
    return [node.pid for node in cluster.status()]


def server_pids(folder: Path) -> list[int]:
    """Return every process with this folder in its arguments, found without the code under test."""
    return [
        process.pid
        for process in psutil.process_iter()
        if (line := _command_line(process)) and any(word.startswith(f"{folder}/") for word in line[1:])
    ]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def a_secondary(cluster: MongoCluster) -> str:
    return next(node.address for node in cluster.status() if node.role == "SECONDARY")


class OtherProgram(socketserver.TCPServer):
    """Another program that listens on a member's port."""

    allow_reuse_address = True


@pytest.fixture
def delay(whole: MongoCluster) -> Iterator[Callable[[int], None]]:
    """Set the third member's delay until the end of the test."""

    def start(seconds: int) -> None:
        MongoCluster(whole.home, delay_secondary_s=seconds).start(print)

    yield start
    start(0)


@pytest.fixture
def occupied() -> Iterator[Callable[[int], None]]:
    with ExitStack() as held:

        def occupy(port: int) -> None:
            # It closes connections: a member that tests its old address waits 30 s for a program that stays silent.
            other = held.enter_context(OtherProgram((ports.LOOPBACK, port), socketserver.BaseRequestHandler))
            threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}).start()
            held.callback(other.shutdown)

        yield occupy


def test_a_cluster_keeps_its_data_until_they_are_wiped(new_cluster: MongoCluster) -> None:
    reported: list[str] = []
    new_cluster.start(reported.append)
    assert_healthy(new_cluster)
    assert "initiating the replica set rs0" in reported
    with client(new_cluster) as connected:
        connected.test.kv.with_options(write_concern=pymongo.WriteConcern("majority")).insert_one({"_id": 1})
    new_cluster.stop(reported.append)
    assert [node.state for node in new_cluster.status()] == ["dead"] * 3
    assert server_pids(new_cluster.folder) == []
    new_cluster.start(reported.append)
    with client(new_cluster) as connected:
        assert connected.test.kv.find_one() == {"_id": 1}
    new_cluster.stop(reported.append, wipe=True)
    assert not new_cluster.folder.exists()


def test_starting_a_healthy_cluster_changes_nothing(whole: MongoCluster) -> None:
    before = pids(whole)
    reported: list[str] = []
    whole.start(reported.append)
    assert pids(whole) == before
    assert reported == []


def test_members_write_only_to_their_folder_and_listen_only_on_loopback(
    whole: MongoCluster,
) -> None:
    for pid in pids(whole):
        process = psutil.Process(pid)
        written = [file.path for file in process.open_files() if file.mode != "r"]
        assert written
        assert all(path.startswith(str(whole.folder)) for path in written)
        listening = [c.laddr.ip for c in process.net_connections("all") if c.status == psutil.CONN_LISTEN]
        assert listening == ["127.0.0.1"]
        assert process.net_connections("unix") == []


def test_a_killed_primary_is_replaced_and_rejoins(whole: MongoCluster, eventually: Callable[..., None]) -> None:
    old = leading(whole)
    whole.kill(old)
    eventually(lambda: whole.primary() not in {None, old})
    dead = next(node for node in whole.status() if node.address == old)
    assert (dead.state, dead.pid, dead.role, dead.healthy) == ("dead", None, None, False)
    whole.restart(old)
    eventually(lambda: is_healthy(whole))


def test_a_paused_primary_is_replaced_and_rejoins(whole: MongoCluster, eventually: Callable[..., None]) -> None:
    old = leading(whole)
    whole.pause(old)
    paused = next(node for node in whole.status() if node.address == old)
    assert (paused.state, paused.role, paused.healthy) == ("paused", None, False)
    eventually(lambda: whole.primary() not in {None, old})
    whole.resume(old)
    eventually(lambda: is_healthy(whole))


def test_restarting_a_running_member_keeps_its_port(whole: MongoCluster) -> None:
    node = a_secondary(whole)
    before = dict(zip(whole.nodes(), pids(whole), strict=True))
    whole.restart(node)
    after = dict(zip(whole.nodes(), pids(whole), strict=True))
    assert {address for address in before if before[address] != after[address]} == {node}


def test_start_right_after_a_restart_waits_for_the_next_heartbeats(whole: MongoCluster) -> None:
    begun = time.monotonic()
    whole.restart(a_secondary(whole))
    whole.start(print)
    assert_healthy(whole)
    assert time.monotonic() - begun > mongo._SETTLE_S  # until then the primary's view may be of the old process


def test_start_restarts_a_killed_member(whole: MongoCluster) -> None:
    pid = pids(whole)[0]
    assert pid
    os.kill(pid, signal.SIGKILL)
    whole.start(print)
    assert_healthy(whole)
    assert pids(whole)[0] != pid


def test_start_restarts_all_members_killed_at_once(whole: MongoCluster) -> None:
    for node in whole.nodes():
        whole.kill(node)
    whole.start(print)
    assert_healthy(whole)


def test_start_resumes_a_paused_member(whole: MongoCluster) -> None:
    before = pids(whole)
    whole.pause(a_secondary(whole))
    reported: list[str] = []
    whole.start(reported.append)
    assert_healthy(whole)
    assert pids(whole) == before
    assert any("was paused" in line for line in reported)


def test_a_paused_cluster_can_be_stopped(new_cluster: MongoCluster) -> None:
    new_cluster.start(print)
    for node in new_cluster.nodes():
        new_cluster.pause(node)
    new_cluster.stop(print)
    assert server_pids(new_cluster.folder) == []


def test_a_member_without_data_resynchronizes(whole: MongoCluster) -> None:
    server = whole.servers["mongo1"]
    server.kill()
    for path in sorted((server.folder / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (server.folder / "data").rmdir()
    whole.start(print)
    assert_healthy(whole)


def test_a_cluster_whose_state_files_were_deleted_is_found(whole: MongoCluster) -> None:
    for server in whole.servers.values():
        server._pid_file.unlink()
    whole._state_file.unlink()
    whole.start(print)
    assert_healthy(whole)


def test_a_process_with_a_reused_pid_is_left_alone(whole: MongoCluster) -> None:
    server = whole.servers["mongo2"]
    server.kill()
    with subprocess.Popen(["sleep", "600"]) as other:
        home.remember(server._pid_file, {"pid": other.pid, "started": time.time() - 3600})
        whole.start(print)
        assert_healthy(whole)
        whole.kill(whole.addresses()["mongo2"])
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("taken", [1, 2, pytest.param(3, marks=pytest.mark.soak)])
def test_ports_taken_by_other_programs_are_replaced(
    whole: MongoCluster, occupied: Callable[[int], None], taken: int
) -> None:
    with client(whole) as connected:
        connected.test.kv.replace_one({"_id": taken}, {"kept": True}, upsert=True)
    before = whole.nodes()
    whole.stop(print)
    for address in before[:taken]:
        occupied(int(address.rpartition(":")[2]))
    reported: list[str] = []
    whole.start(reported.append)
    assert_healthy(whole)
    assert sum("is taken by another program" in line for line in reported) == taken
    assert len(set(whole.nodes()) & set(before)) == 3 - taken
    with client(whole) as connected:
        assert connected.test.kv.find_one({"_id": taken}) == {"_id": taken, "kept": True}


def test_the_usual_ports_are_used_if_they_are_free(
    new_cluster: MongoCluster, occupied: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_cluster._state_file.unlink()
    usual = dict(zip(mongo.USUAL_PORTS, ports.free(3), strict=True))
    monkeypatch.setattr(mongo, "USUAL_PORTS", usual)
    occupied(usual["mongo2"])
    new_cluster.start(print)
    addresses = new_cluster.addresses()
    assert addresses["mongo1"] == f"127.0.0.1:{usual['mongo1']}"
    assert addresses["mongo2"] != f"127.0.0.1:{usual['mongo2']}"
    remembered = MongoCluster().addresses()
    assert remembered == addresses


def test_a_port_taken_just_before_the_start_is_replaced(
    new_cluster: MongoCluster, occupied: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (taken,) = ports.free(1)
    occupied(taken)
    choose, calls = ports.choose, []

    def first_wrong(wanted: list[int], host: str) -> list[int]:
        calls.append(wanted)
        chosen = choose(wanted, host)
        return [taken, *chosen[1:]] if len(calls) == 1 else chosen

    monkeypatch.setattr(ports, "choose", first_wrong)
    new_cluster.start(print)
    assert_healthy(new_cluster)
    assert len(calls) == 2


def test_a_port_that_stays_taken_is_reported_with_the_members_log(
    new_cluster: MongoCluster, occupied: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (taken,) = ports.free(1)
    occupied(taken)
    monkeypatch.setattr(ports, "choose", lambda wanted, _: [taken, *wanted[1:]])
    with pytest.raises(PortTaken, match=r"(?s)mongo1 exited with code \d+.*server\.log.*Address already in use"):
        new_cluster.start(print)


def test_a_server_that_dies_at_its_start_is_reported_with_its_log(new_cluster: MongoCluster) -> None:
    data = new_cluster.folder / "mongo2" / "data"
    data.mkdir(parents=True)
    (data / "WiredTiger").write_text("nonsense")
    (data / "storage.bson").write_text("nonsense")
    with pytest.raises(ServerDied, match=r"(?s)mongo2 exited with code.*last lines of .*mongo2/server.log"):
        new_cluster.start(print)


EARLY, LATE = "mongo2: starting", "initiating the replica set"


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, EARLY),
        (signal.SIGKILL, LATE),
        pytest.param(signal.SIGINT, LATE, marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, EARLY, marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, EARLY, marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, LATE, marks=pytest.mark.soak),
    ],
)
def test_an_interrupted_start_can_be_continued_or_stopped(
    new_cluster: MongoCluster, number: signal.Signals, moment: str
) -> None:
    with stalewatch_cluster("up", "mongo") as first:
        assert first.stderr
        assert any(line.startswith(moment) for line in first.stderr)
        first.send_signal(number)
        first.communicate(timeout=60)
    assert first.returncode == (130 if number == signal.SIGINT else -number)
    assert server_pids(new_cluster.folder) != []
    if moment == EARLY:
        new_cluster.start(print)
        assert_healthy(new_cluster)
    new_cluster.stop(print)
    assert server_pids(new_cluster.folder) == []


def test_two_concurrent_starts_start_one_cluster(new_cluster: MongoCluster) -> None:
    with stalewatch_cluster("up", "mongo") as first, stalewatch_cluster("up", "mongo") as second:
        errors = [first.communicate(timeout=120)[1], second.communicate(timeout=120)[1]]
    assert (first.returncode, second.returncode) == (0, 0)
    assert_healthy(new_cluster)
    assert len(server_pids(new_cluster.folder)) == 3
    assert sum("waiting for another command" in text for text in errors) == 1


def test_a_delayed_secondary_applies_writes_late_until_the_delay_is_turned_off(
    whole: MongoCluster, delay: Callable[[int], None], eventually: Callable[..., None]
) -> None:
    third = whole.addresses()["mongo3"]
    delay(2)
    assert_healthy(whole)
    assert [node.note for node in whole.status()] == ["", "", "delayed by 2 s"]
    with client(whole) as connected, member(third) as late:
        begun = time.monotonic()
        connected.test.delayed.with_options(write_concern=pymongo.WriteConcern("majority")).insert_one({"_id": "seen"})
        eventually(lambda: late.test.delayed.find_one() is not None)
        assert time.monotonic() - begun > 0.9  # optimes are whole seconds: a delay of 2 takes between 1 and 2
        config = late.admin.command("replSetGetConfig")["config"]["members"][2]
        assert (config["priority"], config["votes"], config["hidden"]) == (0, 1, False)
    whole.start(print)
    assert whole.status()[2].note == "delayed by 2 s"
    delay(0)
    assert_healthy(whole)
    assert whole.status()[2].note == ""
    with member(third) as freed:
        assert freed.admin.command("replSetGetConfig")["config"]["members"][2]["priority"] == 1


def test_a_primary_steps_down_before_it_is_delayed(
    whole: MongoCluster, delay: Callable[[int], None], eventually: Callable[..., None]
) -> None:
    third = whole.addresses()["mongo3"]

    def elected() -> bool:
        with suppress(ClusterError):  # it may not have caught up yet
            run_command(third, {"replSetStepUp": 1})
        return whole.primary() == third

    eventually(elected)
    delay(1)
    assert whole.primary() not in {None, third}


def test_a_delay_can_be_set_at_the_first_start(new_cluster: MongoCluster) -> None:
    MongoCluster(delay_secondary_s=1).start(print)
    assert_healthy(new_cluster)
    assert new_cluster.status()[2].note == "delayed by 1 s"


GREENLETS = """
from gevent import monkey
monkey.patch_all()
from stalewatch.clusters.local import mongo
from stalewatch.clusters.local_clusters import addresses
assert addresses('mongo', print).keys() == {'mongo_uri'}
cluster = mongo.MongoCluster()
old = cluster.primary()
cluster.kill(old)
cluster.restart(old)
cluster.start(print)
assert all(node.healthy for node in cluster.status())
cluster.stop(print)
assert {node.state for node in cluster.status()} == {"dead"}
"""


def test_a_cluster_works_under_gevent(new_cluster: MongoCluster) -> None:
    subprocess.run([sys.executable, "-c", GREENLETS], check=True, timeout=120)
    assert server_pids(new_cluster.folder) == []


def test_addresses_start_the_cluster_if_necessary(new_cluster: MongoCluster) -> None:
    reported: list[str] = []
    assert addresses("mongo", reported.append) == {"mongo_uri": new_cluster.uri()}
    assert reported[0].startswith("starting a 3-member replica set in ")
    assert reported[0].endswith("(stop it with: stalewatch cluster down mongo)")
    again: list[str] = []
    assert addresses("mongo", again.append) == {"mongo_uri": new_cluster.uri()}
    assert again == []


def test_up_status_and_down_from_the_command_line(
    new_cluster: MongoCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert command.run(parser.parse_args(["up", "mongo"])) == 0
    uri = capsys.readouterr().out.strip()
    assert re.fullmatch(r"mongodb://(127\.0\.0\.1:\d+,?){3}/\?replicaSet=rs0", uri)
    assert command.run(parser.parse_args(["status", "mongo"])) == 0
    assert capsys.readouterr().out.count("SECONDARY") == 2
    assert command.run(parser.parse_args(["down", "mongo", "--wipe"])) == 0
    assert command.run(parser.parse_args(["status", "mongo"])) == 3
    assert not new_cluster.folder.exists()


def test_an_unknown_node_is_refused(whole: MongoCluster) -> None:
    with pytest.raises(UnknownNode, match=f"whose nodes are {whole.nodes()[0]}"):
        whole.kill("127.0.0.1:1")


def test_a_dead_member_cannot_be_paused(whole: MongoCluster) -> None:
    node = a_secondary(whole)
    whole.kill(node)
    with pytest.raises(NotRunning, match="restart it first"):
        whole.pause(node)
