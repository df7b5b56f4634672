"""Two leaders: siblings, convergence, and outages."""

import itertools
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stalewatch.clients.protocol import Answer, Value
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock, run_sessions
from stalewatch.simulator.store import MemoryStoreError, NodeDown, TooFewReplicas
from tests.simulator.stores import opened

KEYS = "xyz"
BOTH_DOWN_IN_TURN = (Outage(0.02, 0.03, node="a"), Outage(0.04, 0.03, node="b"))


def load(client: MemoryClient, operations: int = 60) -> tuple[dict[str, list[int]], list[Answer]]:
    """Return the acknowledged versions by key, without superseded ones, and the answers to reads."""
    clock, versions = client.clock, itertools.count(1)
    acknowledged: dict[str, list[int]] = defaultdict(list)
    reads: list[Answer] = []
    assert isinstance(clock, SimulatedClock)

    def body(name: str) -> Callable[[], None]:
        session, random = client.session(name), Random(name)

        def step(key: str) -> None:
            if random.random() < 0.5:
                reads.append(session.read(key))
                return
            version = next(versions)
            if not session.write(key, Value(version, name)).superseded:
                acknowledged[key].append(version)

        def work() -> None:
            for _ in range(operations):
                with suppress(MemoryStoreError):
                    step(random.choice(KEYS))

        return work

    run_sessions(clock, {f"s{number}": body(f"s{number}") for number in range(6)})
    return acknowledged, reads


def test_concurrent_writes_leave_siblings_and_both_leaders_agree_on_the_winner() -> None:
    client = opened(MemoryOptions(topology="multi-leader", lag="constant", lag_s=1))
    session = client.session("s")
    written_at = {session.write("k", Value(version, "s")).node for version in range(1, 9)}
    assert written_at == {"a", "b"}
    final = client.final("k")
    now = client.clock.now()
    assert final.siblings
    assert {final.version, *final.siblings} >= {8}
    for leader in ("a", "b"):
        assert client.truth.shown("k", leader, now) == final.version
        assert client.truth.siblings("k", leader, now) == final.siblings


def test_a_write_based_on_the_latest_version_leaves_no_sibling() -> None:
    client = opened(MemoryOptions(topology="multi-leader", lag_s=0))
    session = client.session("s")
    for version in range(1, 20):
        session.write("k", Value(version, "s"))
        answer = session.read("k")
        assert (answer.version, answer.siblings) == (version, [])


def test_the_winner_is_not_always_the_newest_version() -> None:
    client = opened(MemoryOptions(topology="multi-leader", lag_s=0.01))
    load(client)
    finals = [client.final(key) for key in KEYS]
    assert any(sibling > (final.version or 0) for final in finals for sibling in final.siblings or [])


@pytest.mark.parametrize("location", ["home", "a"])
def test_keys_with_one_leader_each_have_no_conflicts(location: str) -> None:
    client = opened(MemoryOptions(topology="multi-leader", write_to=location, read_from=location, lag_s=0.01))
    acknowledged, reads = load(client)
    assert {read.siblings == [] for read in reads} == {True}
    assert all(client.final(key).version == max(acknowledged[key]) for key in KEYS)
    if location == "home":
        session = client.session("s")
        assert {session.read(f"key-{number}").node for number in range(20)} == {"a", "b"}


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0001, 0.001, 0.02]), st.sampled_from([(), BOTH_DOWN_IN_TURN]))
def test_leaders_converge_to_leaves_that_include_the_newest_acknowledged_version(
    seed: int, lag_s: float, outages: tuple[Outage, ...]
) -> None:
    client = opened(MemoryOptions(topology="multi-leader", seed=seed, lag_s=lag_s, timeouts=0.02, outages=outages))
    acknowledged, _ = load(client)
    client.clock.sleep(10)
    for key in KEYS:
        final, now = client.final(key), client.clock.now()
        leaves = {final.version, *(final.siblings or [])}
        assert max(acknowledged[key]) <= max(leaf or 0 for leaf in leaves)
        assert len(leaves) == 1 + len(final.siblings or [])
        for leader in ("a", "b"):
            assert client.truth.shown(key, leader, now) == final.version
            assert client.truth.siblings(key, leader, now) == final.siblings


def test_a_write_never_replaces_a_newer_version() -> None:
    client = opened(MemoryOptions(topology="multi-leader", write_to="a", read_from="a"))
    session = client.session("s")
    assert [session.write("k", Value(version, "s")).superseded for version in (2, 1, 2, 3)] == [
        False,
        True,
        True,
        False,
    ]
    assert session.read("k").version == 3


def test_a_leader_that_is_down_refuses_and_both_catch_up_when_it_returns() -> None:
    client = opened(
        MemoryOptions(topology="multi-leader", write_to="a", read_from="b", lag_s=1, outages=(Outage(1, 5, node="b"),))
    )
    session = client.session("s")
    for version in range(1, 50):
        session.write(f"k{version}", Value(version, "s"))
    client.clock.sleep(2)
    with pytest.raises(NodeDown):
        session.read("k1")
    assert client.final("k49").version == 49
    assert {session.read(f"k{version}").version for version in range(1, 50)} == set(range(1, 50))


def test_leaders_that_can_no_longer_agree_have_no_final_read() -> None:
    client = opened(MemoryOptions(topology="multi-leader", write_to="a", outages=(Outage(0, float("inf"), node="b"),)))
    client.session("s").write("k", Value(1, "s"))
    with pytest.raises(TooFewReplicas):
        client.final("k")


def test_discarding_the_past_changes_no_answer() -> None:
    runs = []
    for remember in (False, True):
        client = opened(MemoryOptions(topology="multi-leader", timeout_s=0.02, lag_s=0.005, remember=remember))
        runs.append((load(client, 300), [client.final(key) for key in KEYS]))
    assert runs[0] == runs[1]
