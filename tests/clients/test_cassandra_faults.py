"""What a real ring loses, and what it does not, while its nodes die and come back; and that the verdicts say so."""

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

KEYS = 60
BUSY = LoadOptions(operations=None, duration_s=600, users=4, keys=100, write_ratio=0.5, reread=0.7)


@pytest.fixture
def name() -> str:
    return f"test{secrets.token_hex(4)}"


@pytest.fixture
def through(ring: CassandraCluster) -> Iterator[Callable[..., CassandraDatabaseClient]]:
    """Open a client whose requests all go to one node."""
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


def test_quorums_lose_and_hide_nothing_while_a_node_is_killed_and_comes_back(ring: CassandraCluster, name: str) -> None:
    drill = Drill(ring.uri(), name, BUSY, write_cl="QUORUM", read_cl="QUORUM")
    node = ring.nodes()[1]
    with drill.load():
        until(lambda: len(drill.operations) > 300)
        ring.kill(node)
        killed = len(drill.operations)
        until(lambda: len(drill.operations) > killed + 60)
        ring.restart(node)
        back = len(drill.operations)
        until(lambda: len(drill.operations) > back + 150)
    verdicts = drill.end()
    assert drill.recorder.judge.verdict() == "valid", verdicts
    assert verdicts["stale_reads"].checked > 100
    acknowledged = sum(isinstance(one, Write) and one.outcome == "ok" for one in drill.operations)
    assert verdicts["lost_writes"].checked == acknowledged > 100


def test_a_dead_node_at_all_costs_classed_errors_and_no_verdict(ring: CassandraCluster, name: str) -> None:
    drills = [
        Drill(ring.uri(), f"{name}{levels[0]}", BUSY, write_cl=levels[0], read_cl=levels[1])
        for levels in (("ONE", "ALL"), ("ALL", "ONE"))
    ]
    node = ring.nodes()[2]
    with drills[0].load(), drills[1].load():
        until(lambda: all(drill.count("ok") > 60 for drill in drills))
        ring.kill(node)
        until(lambda: all(drill.count(outcome) for drill in drills for outcome in ("fail", "unknown")))
        until(lambda: ring.status()[2].role == "DN")
        ring.restart(node)
        fine = [drill.count("ok") for drill in drills]
        until(lambda: all(drill.count("ok") > was + 60 for drill, was in zip(drills, fine, strict=True)))
    for drill in drills:
        verdicts = drill.end()
        assert not any(verdicts[one].violated for one in PROMISED), verdicts
        assert not went_back_from_acknowledged(drill, verdicts)
        for outcome, error in drill.errors():
            never_applied = error == "Unavailable" or error.startswith("NoHostAvailable:ConnectionException")
            assert outcome == ("fail" if never_applied else "unknown"), error
        assert ("fail", "Unavailable") in drill.errors()


PROMISED = ("stale_reads", "read_your_writes", "phantom_reads", "lost_writes")
"""What ONE and ALL together promise of acknowledged writes, whatever becomes of a node."""


def went_back_from_acknowledged(drill: Drill, verdicts: dict[str, Verdict]) -> list[Violation]:
    """Return the reads that went back in time from an acknowledged version.

    From one that was not acknowledged they may: a write at ALL that timed out stands on two nodes, and is seen at ONE,
    until a read asks the third, which was away.
    """
    acknowledged = {
        (one.key, one.version) for one in drill.operations if isinstance(one, Write) and one.outcome == "ok"
    }
    witnesses = [*verdicts["read_regressions"].witnesses, *verdicts["monotonic_reads"].witnesses]
    shown = [(violation, violation.operations[0]) for violation in witnesses]
    return [one for one, read in shown if isinstance(read, Read) and (read.key, read.version) in acknowledged]


def missed_by(ring: CassandraCluster, node: str, drill: Drill) -> None:
    """Write every key while that node is down."""
    ring.kill(node)
    assert {drill.write(key) for key in drill.run.keys} <= {"ok", "unknown"}


def why_no_final(drill: Drill) -> str | None:
    """Return why a final read proves nothing; before hints are written out, the dead node itself is the reason."""
    try:
        return drill.client.final(drill.run.keys[0]).error
    except NoHostAvailable as error:
        return drill.client.explain(error).error


def stale(drill: Drill, node: CassandraDatabaseClient) -> int:
    """Read every key from that node alone, and return how many were stale."""
    drill.recorder.settle()
    before = drill.recorder.judge.verdicts()["stale_reads"].violated
    for key in drill.run.keys:
        drill.read(key, node)
    drill.recorder.settle()
    return int(drill.recorder.judge.verdicts()["stale_reads"].violated - before)


def test_a_node_that_was_down_is_stale_until_its_hints_arrive(
    ring: CassandraCluster, through: Through, name: str, record_property: Callable[[str, object], None]
) -> None:
    drill = Drill(ring.uri(), name, LoadOptions(keys=KEYS), write_cl="QUORUM", read_cl="QUORUM")
    node = ring.nodes()[2]
    missed_by(ring, node, drill)
    until(lambda: why_no_final(drill) == "hints_pending")
    ring.restart(node)
    reader = through(node)
    assert stale(drill, reader) > 0
    took_s = until(lambda: stale(drill, reader) == 0)
    record_property("hints_took_s", round(took_s, 1))
    print(f"hints arrived {took_s:.1f} s after the node served")
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


def test_without_hints_it_stays_stale_until_reads_mend_it_or_a_repair_does(
    without_hints: CassandraCluster, through: Through, name: str
) -> None:
    ring = without_hints
    drill = Drill(ring.uri(), name, LoadOptions(keys=KEYS), write_cl="QUORUM", read_cl="QUORUM")
    node = ring.nodes()[2]
    missed_by(ring, node, drill)
    ring.restart(node)
    reader = through(node)
    assert stale(drill, reader) == KEYS
    half = drill.run.keys[: KEYS // 2]
    for read_repair, left in (("none", KEYS), ("blocking", KEYS - len(half))):
        quorums = through(node, read_cl="ALL", read_repair=read_repair)
        for key in half:
            drill.read(key, quorums)
        assert stale(drill, reader) == left
    ring.repair("bench")
    assert stale(drill, reader) == 0
    verdicts = drill.end()
    assert (verdicts["lost_writes"].violated, verdicts["lost_writes"].checked) == (0, KEYS)


def test_what_only_a_lost_disk_had_is_lost_and_what_a_quorum_had_is_not(
    ring: CassandraCluster, through: Through, name: str
) -> None:
    first, second, third = ring.nodes()
    drills = {level: Drill(ring.uri(), f"{name}{level}", LoadOptions(keys=KEYS), write_cl=level) for level in LEVELS}
    clients = {level: through(first, write_cl=level, timeout_s=10.0) for level in LEVELS}
    ring.kill(third)
    acknowledged = {"QUORUM": [drills["QUORUM"].write(key, clients["QUORUM"]) for key in drills["QUORUM"].run.keys]}
    ring.kill(second)
    for level in ("ONE", "ANY"):
        acknowledged[level] = [drills[level].write(key, clients[level]) for key in drills[level].run.keys]
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
    load = LoadOptions(operations=1500, users=6, keys=20, write_ratio=0.5)
    drill = Drill(ring.uri(), name, load, write_cl="QUORUM", read_cl="QUORUM", timestamps=timestamps)
    drill.run.load(lambda _: None)
    return drill.end()["lost_writes"]


def test_clocks_that_are_behind_lose_acknowledged_writes(ring: CassandraCluster, name: str) -> None:
    lost = lost_with("skewed:500", ring, name)
    assert lost.violated > 0
    write, final = lost.witnesses[0].operations
    assert isinstance(write, Write)
    assert isinstance(final, Final)
    assert (write.outcome, write.session in {"s1", "s3", "s5"}) == ("ok", True)
    assert (write.version or 0) > (final.version or 0)


def test_versions_as_clocks_lose_nothing(ring: CassandraCluster, name: str) -> None:
    lost = lost_with("version", ring, name)
    assert (lost.violated, lost.checked > 500) == (0, True)


def test_conditional_writes_are_linearizable(ring: CassandraCluster, name: str) -> None:
    load = LoadOptions(operations=600, users=4, keys=10, write_ratio=0.5)
    drill = Drill(ring.uri(), name, load, write_cl="QUORUM", read_cl="SERIAL", lwt=True)
    drill.run.load(lambda _: None)
    verdicts = drill.end()
    assert drill.recorder.judge.verdict() == "valid", verdicts
    assert verdicts["stale_reads"].checked > 100
