"""Verdicts on a real ring whose nodes are killed, restarted and wiped: what is lost, and what is not."""

import secrets
from collections.abc import Callable, Iterator

import pytest
from cassandra.cluster import NoHostAvailable

from stalewatch.checkers.verdict import Verdict, Violation
from stalewatch.clients.cassandra.client import CassandraDatabaseClient
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import Final, Read, Write
from stalewatch.workloads.options import LoadOptions
from tests.clients.drill import Drill, until

pytestmark = pytest.mark.server

KEYS = 30
BUSY = LoadOptions(operations=None, duration_s=600, users=4, keys=100, write_ratio=0.5, reread=0.7, rate=60)


@pytest.fixture
def name() -> str:
    return f"test{secrets.token_hex(4)}"


@pytest.fixture
def through(ring: CassandraCluster) -> Iterator[Callable[..., CassandraDatabaseClient]]:
    """Return a function that opens a client whose requests all go to one node."""
    opened: list[CassandraDatabaseClient] = []

    def open_client(node: str, **chosen: object) -> CassandraDatabaseClient:
        options = CassandraClientOptions(**{"hosts": ring.uri(), "coordinator": node, **chosen})
        opened.append(CassandraDatabaseClient(options, RealClock()))
        opened[-1].prepare()
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


Through = Callable[..., CassandraDatabaseClient]


@pytest.mark.soak  # a drill does nearly the same
def test_a_node_that_dies_and_returns_leaves_quorums_valid_and_causes_classified_errors_at_level_all(
    ring: CassandraCluster, name: str
) -> None:
    """Three loads on one ring, so that its node is killed and restarted once."""
    quorums, *some_at_all = drills = [
        Drill(ring.uri(), f"{name}{levels[0]}", BUSY, write_cl=levels[0], read_cl=levels[1])
        for levels in (("QUORUM", "QUORUM"), ("ONE", "ALL"), ("ALL", "ONE"))
    ]
    node = ring.nodes()[2]
    with drills[0].load(), drills[1].load(), drills[2].load():
        until(lambda: all(drill.count("ok") > 60 for drill in drills))
        ring.kill(node)
        killed = quorums.count("ok")
        until(lambda: all(drill.count(outcome) for drill in some_at_all for outcome in ("fail", "unknown")))
        until(lambda: quorums.count("ok") > killed + 60)
        until(lambda: ring.status()[2].role == "DN")
        ring.restart(node)
        fine = [drill.count("ok") for drill in drills]
        until(lambda: all(drill.count("ok") > was + 60 for drill, was in zip(drills, fine, strict=True)))
    assert_valid(quorums)
    for drill in some_at_all:
        verdicts = drill.end()
        assert not any(verdicts[one].violated for one in GUARANTEED), verdicts
        assert not regressed_from_acknowledged(drill, verdicts)
        for outcome, error in drill.errors():
            never_applied = error == "Unavailable" or error.startswith("NoHostAvailable:ConnectionException")
            assert outcome == ("fail" if never_applied else "unknown"), error
        assert ("fail", "Unavailable") in drill.errors()


def assert_valid(drill: Drill) -> None:
    verdicts = drill.end()
    assert drill.recorder.judge.verdict() == "valid", verdicts
    assert verdicts["stale_reads"].checked > 60
    acknowledged = sum(isinstance(one, Write) and one.outcome == "ok" for one in drill.operations)
    assert verdicts["lost_writes"].checked == acknowledged > 60


GUARANTEED = ("stale_reads", "read_your_writes", "phantom_reads", "lost_writes")
"""What ONE combined with ALL guarantees for acknowledged writes, whatever happens to a node."""


def regressed_from_acknowledged(drill: Drill, verdicts: dict[str, Verdict]) -> list[Violation]:
    """Return the violations in which a read went back in time from an acknowledged version.

    Going back from an unacknowledged version is legal: a write at ALL that timed out is on two nodes, and reads at ONE
    show it until one is served by the third node, which was down.
    """
    acknowledged = {
        (one.key, one.version) for one in drill.operations if isinstance(one, Write) and one.outcome == "ok"
    }
    witnesses = [*verdicts["read_regressions"].witnesses, *verdicts["monotonic_reads"].witnesses]
    shown = [(violation, violation.operations[0]) for violation in witnesses]
    return [one for one, read in shown if isinstance(read, Read) and (read.key, read.version) in acknowledged]


def write_without(ring: CassandraCluster, node: str, drill: Drill) -> None:
    """Kill a node, and write every key while it is down."""
    ring.kill(node)
    assert {drill.write(key) for key in drill.keys} <= {"ok", "unknown"}


def final_error(drill: Drill) -> str | None:
    """Return why a final read proves nothing; until hints are flushed, that is the dead node itself."""
    try:
        return drill.client.final(drill.keys[0]).error
    except NoHostAvailable as error:
        return drill.client.explain(error).error


def count_stale(drill: Drill, node: CassandraDatabaseClient) -> int:
    """Read every key from one node, and return how many reads were stale."""
    drill.recorder.settle()
    before = drill.recorder.judge.verdicts()["stale_reads"].violated
    for key in drill.keys:
        drill.read(key, node)
    drill.recorder.settle()
    return int(drill.recorder.judge.verdicts()["stale_reads"].violated - before)


@pytest.mark.soak  # on a full machine, no node showed hints for two minutes, once in ten runs of everything
def test_a_node_that_was_down_is_stale_until_its_hints_arrive(
    ring: CassandraCluster, through: Through, name: str, record_property: Callable[[str, object], None]
) -> None:
    drill = Drill(ring.uri(), name, LoadOptions(keys=KEYS), write_cl="QUORUM", read_cl="QUORUM")
    node = ring.nodes()[2]
    write_without(ring, node, drill)
    until(lambda: final_error(drill) == "hints_pending", found=lambda: final_error(drill))
    ring.restart(node)
    reader = through(node)
    assert count_stale(drill, reader) > 0
    took_s = until(lambda: count_stale(drill, reader) == 0)
    record_property("hints_took_s", round(took_s, 1))
    print(f"hints arrived {took_s:.1f} s after the node came up")
    verdicts = drill.end()
    assert {read.node for violation in verdicts["stale_reads"].witnesses for read in violation.operations[-1:]} == {
        node
    }
    assert (verdicts["lost_writes"].violated, verdicts["lost_writes"].checked) == (0, KEYS)


@pytest.fixture
def without_hints(ring: CassandraCluster) -> Iterator[CassandraCluster]:
    changed = CassandraCluster(ring.home, hints=False)
    changed.start(print)
    yield changed
    changed.start(print)
    CassandraCluster(ring.home, hints=True).start(print)


def test_without_hints_a_node_stays_stale_until_read_repair_or_a_repair(
    without_hints: CassandraCluster, through: Through, name: str
) -> None:
    ring = without_hints
    drill = Drill(ring.uri(), name, LoadOptions(keys=KEYS), write_cl="QUORUM", read_cl="QUORUM")
    node = ring.nodes()[2]
    write_without(ring, node, drill)
    ring.restart(node)
    reader = through(node)
    assert count_stale(drill, reader) == KEYS
    half = drill.keys[: KEYS // 2]
    for read_repair, left in (("none", KEYS), ("blocking", KEYS - len(half))):
        quorums = through(node, read_cl="ALL", read_repair=read_repair)
        for key in half:
            drill.read(key, quorums)
        assert count_stale(drill, reader) == left
    ring.repair("bench")
    assert count_stale(drill, reader) == 0
    verdicts = drill.end()
    assert (verdicts["lost_writes"].violated, verdicts["lost_writes"].checked) == (0, KEYS)


@pytest.mark.soak  # on a busy machine final reads of a minute do not always suffice for all keys
def test_losing_a_disk_loses_writes_at_one_and_any_but_not_at_quorum(
    ring: CassandraCluster, through: Through, name: str
) -> None:
    first, second, third = ring.nodes()
    drills = {level: Drill(ring.uri(), f"{name}{level}", LoadOptions(keys=KEYS), write_cl=level) for level in LEVELS}
    clients = {level: through(first, write_cl=level, timeout_s=10.0) for level in LEVELS}
    ring.kill(third)
    acknowledged = {"QUORUM": [drills["QUORUM"].write(key, clients["QUORUM"]) for key in drills["QUORUM"].keys]}
    ring.kill(second)
    for level in ("ONE", "ANY"):
        acknowledged[level] = [drills[level].write(key, clients[level]) for key in drills[level].keys]
    ring.wipe(first)
    ring.start(print)
    lost = {level: drills[level].end()["lost_writes"] for level in LEVELS}
    for level in LEVELS:
        assert lost[level].checked == acknowledged[level].count("ok") > KEYS / 2
    assert lost["QUORUM"].violated == 0
    assert lost["ONE"].violated == lost["ONE"].checked
    assert lost["ANY"].violated == lost["ANY"].checked
    assert all(violation.operations for violation in lost["ONE"].witnesses)


LEVELS = ("ANY", "ONE", "QUORUM")


def lost_with(timestamps: str, ring: CassandraCluster, name: str) -> Verdict:
    load = LoadOptions(operations=600, users=6, keys=20, write_ratio=0.5)
    drill = Drill(ring.uri(), name, load, write_cl="QUORUM", read_cl="QUORUM", timestamps=timestamps)
    drill.run.perform(lambda _: None)
    return drill.end()["lost_writes"]


def test_slow_clocks_lose_acknowledged_writes(ring: CassandraCluster, name: str) -> None:
    lost = lost_with("skewed:500", ring, name)
    assert lost.violated > 0
    write, final = lost.witnesses[0].operations
    assert isinstance(write, Write)
    assert isinstance(final, Final)
    assert (write.outcome, write.session in {"s1", "s3", "s5"}) == ("ok", True)
    assert (write.version or 0) > (final.version or 0)


def test_version_timestamps_lose_nothing(ring: CassandraCluster, name: str) -> None:
    lost = lost_with("version", ring, name)
    assert (lost.violated, lost.checked > 200) == (0, True)


def test_conditional_writes_are_linearizable(ring: CassandraCluster, name: str) -> None:
    load = LoadOptions(operations=300, users=4, keys=10, write_ratio=0.5)
    drill = Drill(ring.uri(), name, load, write_cl="QUORUM", read_cl="SERIAL", lwt=True)
    drill.run.perform(lambda _: None)
    verdicts = drill.end()
    assert drill.recorder.judge.verdict() == "valid", verdicts
    assert verdicts["stale_reads"].checked > 50
