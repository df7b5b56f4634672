"""Faults injected into the simulated store: their measured cost equals the known truth."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import ClientError
from stalewatch.engine.process_run import ThreadedLoad
from stalewatch.history.operation import Append, Draw, Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.cluster import MemoryCluster
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.simulator.state import HELD
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import NotingJudge, recorder_of, threaded

LOAD = LoadOptions(
    users=5, operations=None, duration_s=4.0, rate=600, keys=100, workload="register,ledger,sequence", write_ratio=0.7
)

Faults = Callable[[MemoryCluster, Callable[[float], None]], None]


class FaultyRun:
    """A run with faults that an additional session injects."""

    def __init__(self, faults: Faults, seed: int = 0, *, writes: str = "loses", **options: object) -> None:
        self.client = MemoryClient(
            MemoryOptions(**{"lag_s": 0.02, "timeout_s": 0.3, "seed": seed, **options}),  # type: ignore[arg-type] # as given
            SimulatedClock(),
        )
        self.cluster = MemoryCluster(self.client, takeover_s=0.5, writes=writes)  # type: ignore[arg-type] # as given
        recorder = recorder_of(self.client.clock)
        self.client.prepare()
        run = threaded(self.client, recorder, replace(LOAD, seed=seed))
        run.run.create_keys()
        self._load(run, lambda: faults(self.cluster, self.client.clock.sleep))
        run.final_reads(lambda _state: None)
        recorder.finish()
        assert isinstance(recorder.judge, NotingJudge)
        self.given = recorder.judge.given
        self.found: Findings = recorder.judge.findings()
        self.missing = {
            (one.operations[0].key, one.operations[0].item)
            for one in recorder.found_at_the_end
            if isinstance(one.operations[0], Append)
        }

    def _load(self, run: ThreadedLoad, faults: Callable[[], None]) -> None:
        """Let the faults be one more session of the run."""
        session = run._session

        def work(name: str, number: int, begin: int) -> Callable[[], None]:
            return faults if number == LOAD.users else session(name, number, begin)

        run._session = work  # type: ignore[method-assign] # in addition to the others
        run._options = replace(run._options, users=LOAD.users + 1)
        run.perform(lambda _state: None)

    @property
    def lost(self) -> set[tuple[str, str | int | None]]:
        return {(one.key, one.item) for one in self.client.truth.lost() if one.item is not None}

    def violated(self) -> dict[str, int]:
        return {name: one.violated for name, one in self.found.verdicts.items() if one.violated}

    def outcomes(self) -> set[str]:
        return {one.outcome for one in self.given if isinstance(one, Read | Write | Append | Draw)}


def leader_of(cluster: MemoryCluster) -> str:
    leader = cluster.primary()
    assert leader is not None
    return leader


def kill_leader(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
    sleep(1)
    leader = leader_of(cluster)
    cluster.kill(leader)
    assert cluster.primary() is None
    sleep(1.5)
    if len(cluster.nodes()) > 1:
        assert leader_of(cluster) != leader
    cluster.restart(leader)


def pause_leader(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
    sleep(1)
    leader = leader_of(cluster)
    cluster.pause(leader)
    sleep(1.5)
    cluster.resume(leader)


def isolate_leader(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
    sleep(1)
    leader = leader_of(cluster)
    cluster.cut(leader, [node for node in cluster.nodes() if node != leader])
    sleep(1.5)
    cluster.mend(leader)


def isolate_leader_from_clients_too(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
    sleep(1)
    leader = leader_of(cluster)
    cluster.cut(leader, [node for node in cluster.nodes() if node != leader], clients=True)
    sleep(1.5)
    cluster.mend(leader)


def random_faults(seed: int) -> Faults:
    """Random faults at random nodes and times, all ended before the run is."""

    def faults(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
        random = Random(seed)
        nodes = list(cluster.nodes())
        for _ in range(8):
            sleep(random.random() * 0.5)
            node, others = random.choice(nodes), random.sample(nodes, random.randrange(len(nodes)))
            random.choice(
                (
                    lambda node=node: cluster.kill(node),
                    lambda node=node: cluster.pause(node),
                    lambda node=node, others=others: cluster.cut(node, others, clients=random.random() < 0.5),
                    lambda node=node: cluster.restart(node),
                    lambda node=node: cluster.resume(node),
                    lambda node=node: cluster.mend(node),
                )
            )()
        cluster.start(print)

    return faults


LEADER_FAULTS = [kill_leader, pause_leader, isolate_leader, isolate_leader_from_clients_too]


@pytest.mark.parametrize("faults", LEADER_FAULTS)
@pytest.mark.parametrize("seed", range(2))
def test_a_linearizable_store_loses_nothing_and_violates_nothing(faults: Faults, seed: int) -> None:
    run = FaultyRun(faults, seed, topology="linearizable")
    assert run.violated() == {}
    assert run.lost == set()
    assert run.found.verdict() == "valid"
    assert run.found.verdicts["lost_writes"].checked > 100


@pytest.mark.parametrize("faults", LEADER_FAULTS)
@pytest.mark.parametrize("order", ["store", "key"])
def test_a_lost_leader_loses_the_writes_that_only_it_had(faults: Faults, order: str) -> None:
    run = FaultyRun(faults, lag_s=0.2 if order == "store" else 1.0, lag_order=order)
    assert run.missing == run.lost != set()
    values = [(one.key, one.value) for one in run.given if isinstance(one, Draw) and one.outcome == "ok"]
    assert run.found.verdicts["unique_ids"].causes["duplicate"] == len(values) - len(set(values)) > 0
    assert run.found.phantom_items == run.found.duplicate_items == 0


@pytest.mark.parametrize("faults", LEADER_FAULTS)
@pytest.mark.parametrize(
    "kept", [{"write_acks": "majority"}, {"write_acks": "majority", "lag_order": "key"}, {"writes": "keeps"}]
)
def test_writes_that_a_majority_or_the_successor_has_are_not_lost(faults: Faults, kept: dict[str, str]) -> None:
    run = FaultyRun(faults, **kept)  # type: ignore[arg-type] # one or the other
    assert run.violated().keys() <= {"read_regressions", "monotonic_reads"}  # of unacknowledged writes
    assert run.lost == set()
    assert run.found.verdicts["lost_writes"].checked > 100


GUARANTEES: dict[str, tuple[dict[str, object], set[str]]] = {
    "linearizable": ({"timeouts": 0.02}, {"stale_reads", "read_regressions", "lost_writes", "unique_ids"}),
    "leader": ({"write_acks": "majority"}, {"stale_reads", "lost_writes", "unique_ids"}),
    "quorum": ({"write_acks": "majority", "read_acks": "majority"}, {"stale_reads", "read_regressions", "lost_writes"}),
    "multi-leader": ({}, {"lost_writes"}),
}
"""The guarantees that each topology keeps, with which options, whatever happens to its nodes and links."""


def assert_keeps_its_guarantees(topology: str, seed: int) -> None:
    options, guarantees = GUARANTEES[topology]
    run = FaultyRun(random_faults(seed), seed, topology=topology, **options)  # type: ignore[arg-type] # as given
    assert not guarantees & run.violated().keys(), (seed, run.violated())
    assert run.lost == run.missing == set()
    assert run.found.phantom_items == run.found.duplicate_items == 0
    for log in run.client.store.logs.values():  # nothing is held once all faults have ended
        assert all(arrival <= run.client.clock.now() + 10**9 for column in log.applied for arrival in column)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("topology", GUARANTEES)
def test_random_faults_never_break_the_guarantees_of_a_topology(topology: str, seed: int) -> None:
    assert_keeps_its_guarantees(topology, seed)


@pytest.mark.soak
@pytest.mark.parametrize("topology", GUARANTEES)
def test_a_hundred_runs_with_random_faults_never_break_the_guarantees_of_a_topology(topology: str) -> None:
    for seed in range(100, 200):
        assert_keeps_its_guarantees(topology, seed)


@pytest.mark.parametrize("seed", range(4))
def test_lost_writes_are_found_exactly_after_random_faults(seed: int) -> None:
    run = FaultyRun(random_faults(seed), seed, lag_s=0.1)
    assert run.missing == run.lost
    assert run.found.verdicts["lost_writes"].checked > 50


def test_a_killed_node_refuses_and_a_paused_one_does_not_answer() -> None:
    def faults(how: str) -> Faults:
        def inject(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
            sleep(1)
            getattr(cluster, how)("a")
            sleep(1)
            getattr(cluster, {"kill": "restart", "pause": "resume"}[how])("a")

        return inject

    fixed = {"topology": "multi-leader", "write_to": "a", "read_from": "a"}
    assert FaultyRun(faults("kill"), **fixed).outcomes() >= {"ok", "fail"}  # type: ignore[arg-type] # as given
    assert FaultyRun(faults("pause"), **fixed).outcomes() == {"ok", "unknown"}  # type: ignore[arg-type] # as given


def test_partitioned_leaders_draw_duplicate_ids_and_leave_siblings_after_the_partition() -> None:
    def partition(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
        sleep(1)
        cluster.cut("a", ["b"])
        sleep(1)
        cluster.mend("a")

    connected = FaultyRun(lambda _cluster, _sleep: None, topology="multi-leader", lag_s=0)
    partitioned = FaultyRun(partition, topology="multi-leader", lag_s=0)
    for name in ("unique_ids", "conflicts"):
        assert connected.found.verdicts[name].violated < partitioned.found.verdicts[name].violated
    assert partitioned.lost == partitioned.missing == set()


@pytest.mark.parametrize(("acks", "lost"), [(1, True), ("majority", False)])
def test_a_wiped_replica_loses_the_writes_that_only_it_acknowledged(acks: int | str, *, lost: bool) -> None:
    def wipe(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
        sleep(1)
        cluster.cut("m1", ["m2", "m3"])
        sleep(0.5)
        cluster.wipe("m1")
        cluster.mend("m1")
        cluster.restart("m1")

    run = FaultyRun(wipe, topology="quorum", write_acks=acks)
    assert run.missing == run.lost
    assert bool(run.lost) is lost


def test_a_wiped_follower_is_sent_everything_again() -> None:
    client = MemoryClient(MemoryOptions(lag="constant", lag_s=1), SimulatedClock())
    cluster = MemoryCluster(client)
    client.prepare()
    client.session("s").append("k", "s-1")
    client.clock.sleep(2)
    cluster.wipe("m2")
    assert client.store.logs["k"].applied[1] == [HELD]
    cluster.restart("m2")
    assert client.store.logs["k"].applied[1] == [client.clock.now() + 10**9]


def cluster_of(**options: object) -> MemoryCluster:
    client = MemoryClient(MemoryOptions(**options), SimulatedClock())  # type: ignore[arg-type] # as given
    client.prepare()
    return MemoryCluster(client)


def test_status_shows_the_state_and_role_of_every_node() -> None:
    cluster = cluster_of()
    assert [(node.address, node.state, node.role, node.healthy) for node in cluster.status()] == [
        ("m1", "running", "leader", True),
        ("m2", "running", "follower", True),
        ("m3", "running", "follower", True),
    ]
    cluster.kill("m1")
    cluster.pause("m2")
    cluster.cut("m3", ["m1"])
    assert [(node.state, node.role, node.healthy) for node in cluster.status()] == [
        ("dead", None, False),
        ("paused", None, False),
        ("running", "follower", False),
    ]
    assert cluster.primary() is None
    cluster.start(print)
    assert cluster.primary() == "m1"
    assert all(node.healthy for node in cluster.status())


def test_the_remaining_one_of_two_nodes_does_not_lead() -> None:
    cluster = cluster_of(replicas=2)
    cluster.kill("m1")
    cluster._clock.sleep(10)
    assert cluster.primary() is None
    cluster.restart("m1")
    assert cluster.primary() == "m1"


def test_a_leader_that_returns_before_the_takeover_still_leads() -> None:
    cluster = cluster_of()
    for fault, undo in (("kill", "restart"), ("pause", "resume")):
        getattr(cluster, fault)("m1")
        cluster._clock.sleep(0.9)
        getattr(cluster, undo)("m1")
        cluster._clock.sleep(10)
        assert cluster.primary() == "m1"
    cluster.kill("m1")
    cluster._clock.sleep(1.1)
    assert cluster.primary() in {"m2", "m3"}


def test_unsupported_commands_are_refused() -> None:
    with pytest.raises(ClientError, match="unknown node 'm4'; its nodes are m1, m2, m3"):
        cluster_of().kill("m4")
    with pytest.raises(ClientError, match="m1 of a linearizable store cannot be wiped"):
        cluster_of(topology="linearizable").wipe("m1")
