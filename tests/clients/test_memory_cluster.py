"""Faults of the simulated store by command: what they cost is what its truth says, and nothing where nobody is."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest

from checkers.findings import Findings
from clients.memory import MemoryClient
from clients.memory_cluster import MemoryCluster
from clients.memory_options import MemoryOptions
from clients.simulated_time import SimulatedClock
from history.operation import Append, Draw, Read, Write
from tests.workloads.running import NotingJudge, recorder_of
from workloads.options import LoadOptions
from workloads.runner import Run

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

    def outcomes(self, node: str | None = None) -> set[str]:
        loaded = (one for one in self.given if isinstance(one, Read | Write | Append | Draw))
        return {one.outcome for one in loaded if node in (None, one.node)}


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
@pytest.mark.parametrize("seed", range(3))
def test_a_linearizable_store_loses_and_breaks_nothing(faults: Faults, seed: int) -> None:
    drilled = Drilled(faults, seed, topology="linearizable")
    assert drilled.violated() == {}
    assert drilled.lost == set()
    assert drilled.found.verdict() == "valid"
    assert drilled.found.verdicts["lost_writes"].checked > 100


@pytest.mark.parametrize("seed", range(10))
def test_a_linearizable_store_breaks_nothing_whatever_happens_to_it(seed: int) -> None:
    drilled = Drilled(by_chance(seed), seed, topology="linearizable", timeouts=0.02)
    assert drilled.violated() == {}
    assert drilled.found.verdict() == "valid"


@pytest.mark.parametrize("faults", LEADERS_FAULTS)
@pytest.mark.parametrize("seed", range(3))
def test_a_lost_leader_takes_along_what_it_alone_had(faults: Faults, seed: int) -> None:
    drilled = Drilled(faults, seed, lag_s=0.2)
    assert drilled.missing == drilled.lost != set()
    values = [(one.key, one.value) for one in drilled.given if isinstance(one, Draw) and one.outcome == "ok"]
    assert drilled.found.verdicts["unique_ids"].causes["duplicate"] == len(values) - len(set(values)) > 0
    assert drilled.found.phantom_items == drilled.found.duplicate_items == 0


@pytest.mark.parametrize("faults", LEADERS_FAULTS)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kept", [{"write_acks": "majority"}, {"writes": "keeps"}])
def test_what_a_majority_has_or_the_successor_gets_is_not_lost(faults: Faults, seed: int, kept: dict[str, str]) -> None:
    drilled = Drilled(faults, seed, **kept)  # type: ignore[arg-type] # one of both
    assert drilled.violated().keys() <= {"read_regressions", "monotonic_reads"}  # of what was not acknowledged yet
    assert drilled.lost == set()
    assert drilled.found.verdicts["lost_writes"].checked > 100


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("options", [{}, {"topology": "quorum"}, {"topology": "multi-leader"}])
def test_whatever_happens_what_is_found_is_what_was_lost(seed: int, options: dict[str, object]) -> None:
    drilled = Drilled(by_chance(seed), seed, **options)  # type: ignore[arg-type] # as given
    assert drilled.missing == drilled.lost
    assert drilled.found.phantom_items == drilled.found.duplicate_items == 0
    assert drilled.found.verdicts["lost_writes"].checked > 50
    for log in drilled.client.store.logs.values():  # nothing stays held once all is well
        assert all(arrival <= drilled.client.clock.now() + 10**9 for column in log.applied for arrival in column)
