"""Faults of the simulated store by command: what they cost is what its truth says, and nothing where nobody is."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import ClientError
from stalewatch.engine.runner import Run
from stalewatch.history.operation import Append, Draw, Read, Write
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.cluster import MemoryCluster
from stalewatch.simulator.faults import HELD
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions
from tests.workloads.running import NotingJudge, recorder_of

LOAD = LoadOptions(
    users=5, operations=None, duration_s=4.0, rate=600, keys=100, workload="register,ledger,sequence", write_ratio=0.7
)

Faults = Callable[[MemoryCluster, Callable[[float], None]], None]


class Drilled:
    """A run with faults by command, given by a session of its own."""

    def __init__(self, faults: Faults, seed: int = 0, *, writes: str = "loses", **options: object) -> None:
        self.client = MemoryClient(
            MemoryOptions(**{"lag_s": 0.02, "timeout_s": 0.3, "seed": seed, **options}),  # type: ignore[arg-type] # as given
            SimulatedClock(),
        )
        self.cluster = MemoryCluster(self.client, takeover_s=0.5, writes=writes)  # type: ignore[arg-type] # as given
        recorder = recorder_of(self.client.clock)
        self.client.prepare()
        run = Run(self.client, recorder, replace(LOAD, seed=seed), "r")
        run.preload()
        self._in_turn(run, lambda: faults(self.cluster, self.client.clock.sleep))
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

    def _in_turn(self, run: Run, faults: Callable[[], None]) -> None:
        """Let the faults be one more session of the run."""
        session = run._session

        def work(name: str, number: int, begin: int) -> Callable[[], None]:
            return faults if number == LOAD.users else session(name, number, begin)

        run._session = work  # type: ignore[method-assign] # beside the others
        run._options = replace(run._options, users=LOAD.users + 1)
        run.load(lambda _state: None)

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


def by_chance(seed: int) -> Faults:
    """Any fault at any node at any time, all over before the run is."""

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


LEADERS_FAULTS = [kill_leader, pause_leader, isolate_leader, isolate_leader_from_clients_too]


@pytest.mark.parametrize("faults", LEADERS_FAULTS)
@pytest.mark.parametrize("seed", range(2))
def test_a_linearizable_store_loses_and_breaks_nothing(faults: Faults, seed: int) -> None:
    drilled = Drilled(faults, seed, topology="linearizable")
    assert drilled.violated() == {}
    assert drilled.lost == set()
    assert drilled.found.verdict() == "valid"
    assert drilled.found.verdicts["lost_writes"].checked > 100


@pytest.mark.parametrize("faults", LEADERS_FAULTS)
@pytest.mark.parametrize("seed", range(2))
def test_a_lost_leader_takes_along_what_it_alone_had(faults: Faults, seed: int) -> None:
    drilled = Drilled(faults, seed, lag_s=0.2)
    assert drilled.missing == drilled.lost != set()
    values = [(one.key, one.value) for one in drilled.given if isinstance(one, Draw) and one.outcome == "ok"]
    assert drilled.found.verdicts["unique_ids"].causes["duplicate"] == len(values) - len(set(values)) > 0
    assert drilled.found.phantom_items == drilled.found.duplicate_items == 0


@pytest.mark.parametrize("faults", LEADERS_FAULTS)
@pytest.mark.parametrize("kept", [{"write_acks": "majority"}, {"writes": "keeps"}])
def test_what_a_majority_has_or_the_successor_gets_is_not_lost(faults: Faults, kept: dict[str, str]) -> None:
    drilled = Drilled(faults, **kept)  # type: ignore[arg-type] # one of both
    assert drilled.violated().keys() <= {"read_regressions", "monotonic_reads"}  # of what was not acknowledged yet
    assert drilled.lost == set()
    assert drilled.found.verdicts["lost_writes"].checked > 100


PROMISES: dict[str, tuple[dict[str, object], set[str]]] = {
    "linearizable": ({"timeouts": 0.02}, {"stale_reads", "read_regressions", "lost_writes", "unique_ids"}),
    "leader": ({"write_acks": "majority"}, {"stale_reads", "lost_writes", "unique_ids"}),
    "quorum": ({"write_acks": "majority", "read_acks": "majority"}, {"stale_reads", "read_regressions", "lost_writes"}),
    "multi-leader": ({}, {"lost_writes"}),
}
"""What each kind of replication keeps, with which options, whatever happens to its nodes and links."""


def keeps_its_promises(topology: str, seed: int) -> None:
    options, promises = PROMISES[topology]
    drilled = Drilled(by_chance(seed), seed, topology=topology, **options)  # type: ignore[arg-type] # as given
    assert not promises & drilled.violated().keys(), (seed, drilled.violated())
    assert drilled.lost == drilled.missing == set()
    assert drilled.found.phantom_items == drilled.found.duplicate_items == 0
    for log in drilled.client.store.logs.values():  # nothing stays held once all is well
        assert all(arrival <= drilled.client.clock.now() + 10**9 for column in log.applied for arrival in column)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("topology", PROMISES)
def test_whatever_happens_each_kind_of_replication_keeps_what_it_promises(topology: str, seed: int) -> None:
    keeps_its_promises(topology, seed)


@pytest.mark.soak
@pytest.mark.parametrize("topology", PROMISES)
def test_it_does_so_a_hundred_times(topology: str) -> None:
    for seed in range(100, 200):
        keeps_its_promises(topology, seed)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_a_leader_what_is_found_is_what_it_lost(seed: int) -> None:
    drilled = Drilled(by_chance(seed), seed, lag_s=0.1)
    assert drilled.missing == drilled.lost
    assert drilled.found.verdicts["lost_writes"].checked > 50


def test_a_killed_node_refuses_and_a_frozen_one_does_not_answer() -> None:
    def faults(how: str) -> Faults:
        def put_on(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
            sleep(1)
            getattr(cluster, how)("a")
            sleep(1)
            getattr(cluster, {"kill": "restart", "pause": "resume"}[how])("a")

        return put_on

    fixed = {"topology": "multi-leader", "write_to": "a", "read_from": "a"}
    assert Drilled(faults("kill"), **fixed).outcomes() >= {"ok", "fail"}  # type: ignore[arg-type] # as given
    assert Drilled(faults("pause"), **fixed).outcomes() == {"ok", "unknown"}  # type: ignore[arg-type] # as given


def test_two_leaders_apart_number_alike_and_leave_siblings_when_they_are_joined_again() -> None:
    def apart(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
        sleep(1)
        cluster.cut("a", ["b"])
        sleep(1)
        cluster.mend("a")

    together = Drilled(lambda _cluster, _sleep: None, topology="multi-leader", lag_s=0)
    parted = Drilled(apart, topology="multi-leader", lag_s=0)
    for name in ("unique_ids", "conflicts"):
        assert together.found.verdicts[name].violated < parted.found.verdicts[name].violated
    assert parted.lost == parted.missing == set()


@pytest.mark.parametrize(("acks", "lost"), [(1, True), ("majority", False)])
def test_a_replica_without_its_disk_has_lost_what_it_alone_confirmed(acks: int | str, *, lost: bool) -> None:
    def wipe(cluster: MemoryCluster, sleep: Callable[[float], None]) -> None:
        sleep(1)
        cluster.cut("m1", ["m2", "m3"])
        sleep(0.5)
        cluster.wipe("m1")
        cluster.mend("m1")
        cluster.restart("m1")

    drilled = Drilled(wipe, topology="quorum", write_acks=acks)
    assert drilled.missing == drilled.lost
    assert bool(drilled.lost) is lost


def test_a_follower_without_its_disk_is_sent_everything_again() -> None:
    client = MemoryClient(MemoryOptions(lag="constant", lag_s=1), SimulatedClock())
    cluster = MemoryCluster(client)
    client.prepare()
    client.session("s").append("k", "s-1")
    client.clock.sleep(2)
    cluster.wipe("m2")
    assert client.store.logs["k"].applied[1] == [HELD]
    cluster.restart("m2")
    assert client.store.logs["k"].applied[1] == [client.clock.now() + 10**9]


def opened(**options: object) -> MemoryCluster:
    client = MemoryClient(MemoryOptions(**options), SimulatedClock())  # type: ignore[arg-type] # as given
    client.prepare()
    return MemoryCluster(client)


def test_nodes_say_how_they_are() -> None:
    cluster = opened()
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


def test_of_two_nodes_the_one_that_is_left_does_not_lead() -> None:
    cluster = opened(replicas=2)
    cluster.kill("m1")
    cluster._client.clock.sleep(10)
    assert cluster.primary() is None
    cluster.restart("m1")
    assert cluster.primary() == "m1"


def test_a_leader_that_is_back_in_time_goes_on() -> None:
    cluster = opened()
    for fault, undo in (("kill", "restart"), ("pause", "resume")):
        getattr(cluster, fault)("m1")
        cluster._client.clock.sleep(0.9)
        getattr(cluster, undo)("m1")
        cluster._client.clock.sleep(10)
        assert cluster.primary() == "m1"
    cluster.kill("m1")
    cluster._client.clock.sleep(1.1)
    assert cluster.primary() in {"m2", "m3"}


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ClientError, match="no node 'm4' in this store; there are m1, m2, m3"):
        opened().kill("m4")
    with pytest.raises(ClientError, match="m1 of a linearizable store cannot be wiped"):
        opened(topology="linearizable").wipe("m1")
