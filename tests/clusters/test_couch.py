"""Two and three leaders on this machine: up, linked in every topology, broken and mended."""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.local import home
from stalewatch.clusters.local.couch import DATABASE, USUAL_PORTS, CouchCluster
from stalewatch.clusters.local.leaders import update_sequence, url
from stalewatch.clusters.local.topologies import TOPOLOGIES, Link
from stalewatch.clusters.protocol import ClusterError, NotRunning, UnknownNode
from stalewatch.commands import cluster as command

TIMEOUT_S = 30


def put(address: str, key: str) -> None:
    requests.put(url(address, f"{DATABASE}/{key}"), json={"v": 1}, timeout=TIMEOUT_S).raise_for_status()


def has(address: str, key: str) -> bool:
    return requests.get(url(address, f"{DATABASE}/{key}"), timeout=TIMEOUT_S).ok


def test_topologies_link_leaders_as_their_names_say() -> None:
    names = ["a", "b", "c"]
    assert TOPOLOGIES["ring"](names) == {Link("a", "b"), Link("b", "c"), Link("c", "a")}
    assert TOPOLOGIES["star"](names) == {Link("a", "b"), Link("b", "a"), Link("a", "c"), Link("c", "a")}
    assert len(TOPOLOGIES["all"](names)) == 6
    two_ways = {Link("a", "b"), Link("b", "a")}
    assert all(topology(["a", "b"]) == two_ways for topology in TOPOLOGIES.values())


def test_before_the_first_start_it_has_two_leaders_on_the_usual_ports(tmp_path: Path) -> None:
    cluster = CouchCluster(tmp_path)
    assert cluster.nodes() == ["127.0.0.1:5984", "127.0.0.1:5985"]
    assert [node.state for node in cluster.status()] == ["dead", "dead"]
    assert cluster.primary() is None
    assert len(CouchCluster(tmp_path, count=3).nodes()) == 3


def test_a_node_that_is_none_of_it_is_named(tmp_path: Path) -> None:
    cluster = CouchCluster(tmp_path)
    with pytest.raises(UnknownNode, match=r"127\.0\.0\.1:1 "):
        cluster.kill("127.0.0.1:1")
    with pytest.raises(UnknownNode, match=r"127\.0\.0\.1:1 "):
        cluster.unlink("127.0.0.1:5984", "127.0.0.1:1")
    with pytest.raises(NotRunning):
        cluster.pause("127.0.0.1:5984")


@pytest.mark.server
def test_two_leaders_serve_and_send_to_each_other(leaders: CouchCluster) -> None:
    names = list(USUAL_PORTS)[:2]
    assert [(node.name, node.healthy, node.role) for node in leaders.status()] == [
        (one, True, "leader") for one in names
    ]
    assert [node.note for node in leaders.status()] == ["sends to couch2", "sends to couch1"]
    assert leaders.prove() > 0
    assert leaders.uri().split() == [url(address) for address in leaders.nodes()]


@pytest.mark.server
def test_a_killed_leader_comes_back_with_what_it_had_and_catches_up(
    leaders: CouchCluster, eventually: Callable[..., None]
) -> None:
    first, second = leaders.nodes()
    put(first, "before-the-kill")
    leaders.kill(first)
    assert [node.state for node in leaders.status()] == ["dead", "running"]
    put(second, "while-it-was-down")
    leaders.restart(first)
    eventually(lambda: has(first, "while-it-was-down") and has(second, "before-the-kill"))


@pytest.mark.server
def test_a_paused_leader_goes_on_where_it_was(leaders: CouchCluster, eventually: Callable[..., None]) -> None:
    first, second = leaders.nodes()
    leaders.pause(second)
    assert [(node.state, node.healthy) for node in leaders.status()] == [("running", True), ("paused", False)]
    put(first, "during-the-pause")
    leaders.resume(second)
    eventually(lambda: has(second, "during-the-pause"))


@pytest.mark.server
def test_starting_again_changes_nothing_and_mends_what_is_missing(leaders: CouchCluster) -> None:
    before = [node.pid for node in leaders.status()]
    leaders.start(print)
    assert [node.pid for node in leaders.status()] == before
    leaders.kill(leaders.nodes()[1])
    with pytest.raises(ClusterError, match=f"{leaders.nodes()[1]} does not answer"):
        leaders.prove()
    leaders.start(print)
    after = [node.pid for node in leaders.status()]
    assert after[0] == before[0]
    assert after[1] not in {None, before[1]}


@pytest.mark.server
def test_a_link_to_a_leader_that_was_down_is_made_anew(leaders: CouchCluster) -> None:
    """A CouchDB that has tried in vain for long may not try again for hours."""
    first, second = leaders.nodes()

    def link(holder: str, other: str) -> str:
        rows = requests.get(url(holder, "_replicator/_all_docs?include_docs=true"), timeout=TIMEOUT_S).json()["rows"]
        (rev,) = (row["doc"]["_rev"] for row in rows if f"@{other}/{DATABASE}" in str(row["doc"].get("target")))
        return str(rev)

    before = link(first, second), link(second, first)
    leaders.kill(second)
    leaders.start(print)
    assert link(first, second) != before[0]
    assert link(second, first) == before[1]  # its holder is as new as the document could be


@pytest.mark.server
def test_a_link_that_is_cut_carries_nothing_until_it_is_healed(
    leaders: CouchCluster, eventually: Callable[..., None]
) -> None:
    first, second = leaders.nodes()
    leaders.unlink(first, second)
    put(first, "cut-off")
    put(second, "not-cut-off")
    eventually(lambda: has(first, "not-cut-off"))  # the other direction goes on
    assert not has(second, "cut-off")
    leaders.relink(first, second)
    eventually(lambda: has(second, "cut-off"))


@pytest.fixture(scope="module")
def three(pouch: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assert pouch
    where = tmp_path_factory.mktemp("three")
    try:
        yield where
    finally:
        CouchCluster(where).stop(print, wipe=True)


@pytest.fixture
def away(three: Path, leaders: CouchCluster) -> Path:
    """The folder of three leaders, on ports that nobody else uses."""
    folder = CouchCluster(three).folder
    if not folder.exists():
        folder.mkdir()
        shared = home.recall(leaders._state_file)["ports"]
        home.remember(folder / "state.json", {"ports": {name: port + 1 for name, port in shared.items()}})
    return three


@pytest.mark.server
@pytest.mark.parametrize("topology", ["ring", "star", "all"])
def test_three_leaders_converge_in_every_topology_and_then_stand_still(
    away: Path, topology: str, eventually: Callable[..., None], record_property: Callable[[str, object], None]
) -> None:
    cluster = CouchCluster(away, count=3, topology=topology)
    told: list[str] = []
    cluster.start(told.append)
    assert f"({topology})" in " ".join(told)
    took = [cluster.prove() for _ in range(5)]
    record_property("convergence_s", sorted(took)[2])
    print(f"{topology}: a document is at all three after {sorted(took)[2] * 1e3:.0f} ms (median of 5)")
    quiet: list[object] = []

    def still() -> bool:
        """Two looks in a row, half a second apart, see the same: the probes' deletions have arrived."""
        quiet.append([update_sequence(node, DATABASE) for node in cluster.nodes()])
        time.sleep(0.5)
        return len(quiet) > 1 and quiet[-1] == quiet[-2]

    eventually(still)
    time.sleep(2)  # a loop, where changes go round for ever, would turn some forty times
    assert [update_sequence(node, DATABASE) for node in cluster.nodes()] == quiet[-1]


@pytest.mark.server
def test_changes_go_round_a_broken_link_where_there_is_a_way(away: Path, eventually: Callable[..., None]) -> None:
    cluster = CouchCluster(away, count=3, topology="all")
    cluster.start(print)
    first, second, _ = cluster.nodes()
    cluster.unlink(first, second)
    put(first, "by-the-detour")
    eventually(lambda: has(second, "by-the-detour"))
    cluster.relink(first, second)


@pytest.mark.server
def test_one_broken_link_parts_a_ring_until_it_is_healed(away: Path, eventually: Callable[..., None]) -> None:
    cluster = CouchCluster(away, count=3, topology="ring")
    cluster.start(print)
    first, second, third = cluster.nodes()
    cluster.unlink(first, second)
    put(first, "held-up")
    put(second, "passes")
    eventually(lambda: has(third, "passes") and has(first, "passes"))
    assert not has(second, "held-up")
    assert not has(third, "held-up")
    cluster.relink(first, second)
    eventually(lambda: has(second, "held-up") and has(third, "held-up"))


@pytest.mark.server
def test_fewer_leaders_leave_no_link_to_the_one_that_is_gone(away: Path) -> None:
    CouchCluster(away, count=3, topology="all").start(print)
    CouchCluster(away, count=2).start(print)
    cluster = CouchCluster(away)
    assert [node.note for node in cluster.status()] == ["sends to couch2", "sends to couch1"]
    assert cluster.servers["couch3"].state == "dead"


@pytest.mark.server
def test_the_command_brings_up_shows_and_ends_it(
    pouch: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    leaders: CouchCluster,
) -> None:
    assert pouch
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    # Its ports are taken by the leaders that run: it moves, and says so.
    (tmp_path / "couch").mkdir()
    home.remember(tmp_path / "couch" / "state.json", home.recall(leaders._state_file))
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)

    def do(*arguments: str) -> tuple[int, str, str]:
        code = command.run(parser.parse_args(arguments))
        return code, *capsys.readouterr()

    assert do("status", "couch")[0] == command.UNREACHABLE
    code, out, err = do("up", "couch", "--leaders", "2")
    assert (code, len(out.split())) == (0, 2)
    assert "is taken by another program, using" in err
    assert "replication works" in err
    code, out, _ = do("status", "couch")
    assert code == 0
    assert out.count("leader ") == 2
    assert do("down", "couch", "--wipe")[0] == 0
    assert not (tmp_path / "couch").exists()
