"""Two and three local leaders: started, linked in every topology, broken and repaired."""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from stalewatch.clusters.local import couch_leaders, home
from stalewatch.clusters.local.couch import DATABASE, USUAL_PORTS, CouchCluster
from stalewatch.clusters.local.couch_leaders import TOPOLOGIES, ReplicationLink, url
from stalewatch.clusters.protocol import ClusterError, NotRunning, UnknownNode
from stalewatch.commands import cluster as command

TIMEOUT_S = 30


def put(address: str, key: str) -> None:
    requests.put(url(address, f"{DATABASE}/{key}"), json={"v": 1}, timeout=TIMEOUT_S).raise_for_status()


def has(address: str, key: str) -> bool:
    return requests.get(url(address, f"{DATABASE}/{key}"), timeout=TIMEOUT_S).ok


def update_sequence(address: str) -> object:
    """Return the database's sequence number, which changes with every change."""
    return requests.get(url(address, DATABASE), timeout=TIMEOUT_S).json()["update_seq"]


def links(*ends: str) -> set[ReplicationLink]:
    return {ReplicationLink(*pair) for pair in ends}


def test_topologies_have_the_expected_links() -> None:
    names = ["a", "b", "c"]
    assert TOPOLOGIES["ring"](names) == links("ab", "bc", "ca")
    assert TOPOLOGIES["star"](names) == links("ab", "ba", "ac", "ca")
    assert len(TOPOLOGIES["all"](names)) == 6
    assert all(topology(["a", "b"]) == links("ab", "ba") for topology in TOPOLOGIES.values())


def test_a_new_cluster_has_two_leaders_on_the_usual_ports(tmp_path: Path) -> None:
    cluster = CouchCluster(tmp_path)
    assert cluster.nodes() == ["127.0.0.1:5984", "127.0.0.1:5985"]
    assert [node.state for node in cluster.status()] == ["dead", "dead"]
    assert cluster.primary() is None
    assert len(CouchCluster(tmp_path, count=3).nodes()) == 3


def test_an_unknown_node_is_refused(tmp_path: Path) -> None:
    cluster = CouchCluster(tmp_path)
    with pytest.raises(UnknownNode, match=r"127\.0\.0\.1:1 "):
        cluster.kill("127.0.0.1:1")
    with pytest.raises(UnknownNode, match=r"127\.0\.0\.1:1 "):
        cluster.unlink("127.0.0.1:5984", "127.0.0.1:1")
    with pytest.raises(NotRunning):
        cluster.pause("127.0.0.1:5984")


@pytest.mark.server
def test_two_leaders_serve_and_replicate_to_each_other(leaders: CouchCluster) -> None:
    names = list(USUAL_PORTS)[:2]
    assert [(node.name, node.healthy, node.role) for node in leaders.status()] == [
        (one, True, "leader") for one in names
    ]
    assert [node.note for node in leaders.status()] == ["sends to couch2", "sends to couch1"]
    assert leaders.prove() > 0
    assert leaders.uri().split() == [url(address) for address in leaders.nodes()]


@pytest.mark.server
def test_a_killed_leader_restarts_with_its_data_and_catches_up(
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
def test_a_resumed_leader_catches_up(leaders: CouchCluster, eventually: Callable[..., None]) -> None:
    first, second = leaders.nodes()
    leaders.pause(second)
    assert [(node.state, node.healthy) for node in leaders.status()] == [("running", True), ("paused", False)]
    put(first, "during-the-pause")
    leaders.resume(second)
    eventually(lambda: has(second, "during-the-pause"))


@pytest.mark.server
def test_start_restarts_only_dead_leaders(leaders: CouchCluster) -> None:
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
def test_a_link_to_a_leader_that_was_down_is_recreated(leaders: CouchCluster) -> None:
    """A CouchDB whose attempts have failed for long may not try again for hours."""
    first, second = leaders.nodes()

    def link(holder: str, other: str) -> str:
        rows = requests.get(url(holder, "_replicator/_all_docs?include_docs=true"), timeout=TIMEOUT_S).json()["rows"]
        (rev,) = (row["doc"]["_rev"] for row in rows if f"@{other}/{DATABASE}" in str(row["doc"].get("target")))
        return str(rev)

    for bring_back in (lambda: leaders.start(print), lambda: leaders.restart(second)):
        before = link(first, second), link(second, first)
        leaders.kill(second)
        bring_back()
        assert link(first, second) != before[0]
        assert link(second, first) == before[1]  # its holder has just been started, and tries at once


def test_replication_of_every_database_of_ours_goes_on_with_a_leader_that_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def document(name: str, source: str, target: str) -> dict[str, object]:
        ends = {"source": url(source, "orders"), "target": url(target, "orders"), "continuous": True}
        return {"_id": name, "_rev": "1-a", "_replication_state": "error", **ends}

    held = {
        "h:1": [document("stalewatch-to-back", "h:1", "h:2"), document("theirs", "h:1", "h:2")],
        "h:2": [document("stalewatch-from-back", "h:2", "h:1")],
    }
    held["h:1"] += [document("stalewatch-to-dead", "h:1", "h:3"), document("stalewatch-crashing", "h:1", "h:2")]
    asked: list[tuple[str, str, object]] = []

    def answer(method: str, address: str, path: str, body: object = None, **_: object) -> dict[str, object]:
        if method != "GET":
            asked.append((method, f"{address}/{path}", body))
        if "_all_docs" in path:
            return {"rows": [{"doc": one} for one in held[address]]}
        return {"state": "crashing"} if "crashing" in path else {"error": "not_found"}

    monkeypatch.setattr(couch_leaders, "_request", answer)
    monkeypatch.setattr(couch_leaders, "serving", lambda _: {"h:1", "h:2"})
    couch_leaders.renew_links({"a": "h:1", "b": "h:2", "c": "h:3"}, ["b"])
    ends = {"source": url("h:1", "orders"), "target": url("h:2", "orders"), "continuous": True}
    assert asked == [
        (method, f"h:1/_replicator/{name}{rev}", body)
        for name in ("stalewatch-to-back", "stalewatch-crashing")
        for method, rev, body in (("DELETE", "?rev=1-a", None), ("PUT", "", ends))
    ]


def test_a_link_whose_job_is_broken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the database was deleted: CouchDB backs off, and its scheduler says so."""
    ends = {"source": url("h:1", DATABASE), "target": url("h:2", DATABASE), "_id": "stalewatch-bench-a-b"}
    answers: dict[str, dict[str, object]] = {
        "_all_docs": {"rows": [{"doc": ends}]},
        "_scheduler": {"state": "crashing", "info": {"error": "db_not_found"}},
    }

    def answer(_method: str, address: str, path: str, *_: object, **__: object) -> dict[str, object]:
        known = answers if address == "h:1" else {"_all_docs": {}}
        return next((said for part, said in known.items() if part in path), {})

    monkeypatch.setattr("stalewatch.clusters.local.couch_leaders._request", answer)
    addresses = {"a": "h:1", "b": "h:2"}
    assert couch_leaders.broken_links(addresses, DATABASE) == links("ab")
    answers["_scheduler"] = {"state": "running"}
    assert couch_leaders.broken_links(addresses, DATABASE) == set()
    answers["_scheduler"] = {"error": "not_found"}  # PouchDB's answer
    assert couch_leaders.broken_links(addresses, DATABASE) == set()


@pytest.mark.server
def test_an_unlinked_direction_replicates_nothing_until_relinked(
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
    """The folder of three leaders, on ports of their own."""
    folder = CouchCluster(three).folder
    if not folder.exists():
        folder.mkdir()
        shared = home.recall(leaders._state_file)["ports"]
        home.remember(folder / "state.json", {"ports": {name: port + 1 for name, port in shared.items()}})
    return three


@pytest.mark.server
@pytest.mark.parametrize("topology", ["ring", "star", pytest.param("all", marks=pytest.mark.soak)])
def test_three_leaders_converge_in_every_topology_and_then_stay_quiet(
    away: Path, topology: str, eventually: Callable[..., None], record_property: Callable[[str, object], None]
) -> None:
    cluster = CouchCluster(away, count=3, topology=topology)
    reported: list[str] = []
    cluster.start(reported.append)
    assert f"({topology})" in " ".join(reported)
    seconds = [cluster.prove() for _ in range(5)]
    record_property("convergence_s", sorted(seconds)[2])
    print(f"{topology}: a document reaches all three after {sorted(seconds)[2] * 1e3:.0f} ms (median of 5)")
    quiet: list[object] = []

    def is_quiet() -> bool:
        """Return whether two sequences half a second apart are equal: the probes' deletions have arrived."""
        quiet.append([update_sequence(node) for node in cluster.nodes()])
        time.sleep(0.5)
        return len(quiet) > 1 and quiet[-1] == quiet[-2]

    eventually(is_quiet)
    time.sleep(2)  # in a loop, changes would go around some forty times
    assert [update_sequence(node) for node in cluster.nodes()] == quiet[-1]


@pytest.mark.server
def test_changes_take_a_detour_around_a_broken_link(away: Path, eventually: Callable[..., None]) -> None:
    cluster = CouchCluster(away, count=3, topology="all")
    cluster.start(print)
    first, second, _ = cluster.nodes()
    cluster.unlink(first, second)
    put(first, "by-the-detour")
    eventually(lambda: has(second, "by-the-detour"))
    cluster.relink(first, second)


@pytest.mark.server
def test_one_broken_link_partitions_a_ring(away: Path, eventually: Callable[..., None]) -> None:
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
def test_removing_a_leader_removes_its_links(away: Path) -> None:
    CouchCluster(away, count=3, topology="all").start(print)
    CouchCluster(away, count=2).start(print)
    cluster = CouchCluster(away)
    assert [node.note for node in cluster.status()] == ["sends to couch2", "sends to couch1"]
    assert cluster.servers["couch3"].state == "dead"


@pytest.mark.server
def test_up_status_and_down_from_the_command_line(
    pouch: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    leaders: CouchCluster,
) -> None:
    assert pouch
    monkeypatch.setenv(home.VARIABLE, str(tmp_path))
    # Its ports are taken by the running leaders: it reports that it moves to others.
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
