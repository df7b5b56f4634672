"""A leader and its followers: staleness, order of application, and what failovers lose."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import exp
from random import Random
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stalewatch.clients.protocol import Answer, Value
from stalewatch.simulator.client import MemoryClient, MemorySession
from stalewatch.simulator.options import Acks, MemoryOptions, Outage
from stalewatch.simulator.simulated_time import DISTRIBUTIONS, SimulatedClock, run_sessions
from stalewatch.simulator.store import Disconnected, MemoryStoreError, NodeDown, NoLeader
from tests.simulator.stores import opened, wilson

LAG_S = 0.05


@dataclass
class Responses:
    """The answers that the sessions of one run got."""

    items: list[int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    acknowledged: list[tuple[str, int, bool]] = field(default_factory=list)
    """Writes: key, version, and whether it was superseded."""

    reads: list[tuple[str, int, Answer, int]] = field(default_factory=list)
    errors: list[MemoryStoreError] = field(default_factory=list)


def load(client: MemoryClient, operations: int, sessions: int = 6, writing_s: float = 10.0) -> Responses:
    """Read and write three keys, append to a list and draw ids; stop writing after `writing_s`."""
    clock, seen, numbers = client.clock, Responses(), itertools.count(1)
    stop = clock.now() + round(writing_s * 1e9)
    assert isinstance(clock, SimulatedClock)

    def read(session: MemorySession, key: str) -> None:
        start = clock.now()
        seen.reads.append((key, start, session.read(key), clock.now()))

    def write(session: MemorySession, key: str) -> None:
        version = next(numbers)
        superseded = session.write(key, Value(version, "")).superseded
        seen.acknowledged.append((key, version, superseded))

    def append(session: MemorySession, _key: str) -> None:
        item = next(numbers)
        session.append("list", item)
        seen.items.append(item)

    def draw(session: MemorySession, _key: str) -> None:
        seen.ids.append(session.draw("ids").version or 0)

    def body(name: str) -> Callable[[], None]:
        session, random = client.session(name), Random(f"{name}{client.options.seed}")

        def work() -> None:
            for _ in range(operations):
                act = random.choice((read, read, write, append, draw)) if clock.now() < stop else read
                try:
                    act(session, random.choice("xyz"))
                except MemoryStoreError as error:
                    seen.errors.append(error)

        return work

    run_sessions(clock, {f"s{number}": body(f"s{number}") for number in range(sessions)})
    return seen


def missing(client: MemoryClient, seen: Responses) -> tuple[set[int | str | None], set[tuple[str, int, bool]]]:
    """Return the acknowledged items that are missing at the end, and the writes newer than what their key holds."""
    items = set(seen.items) - set(client.final("list").items or [])
    held = {key: client.final(key).version or 0 for key in "xyz"}
    return {*items}, {write for write in seen.acknowledged if write[1] > held[write[0]]}


@pytest.mark.parametrize("lag", DISTRIBUTIONS)
def test_follower_reads_are_stale_as_often_as_the_lag_predicts(lag: str) -> None:
    client = opened(
        MemoryOptions(lag=lag, lag_s=LAG_S, lag_order="key", read_from="follower", service_s=0.002, remember=True)
    )
    session, random, stale, expected, trials = client.session("s"), Random(5), 0, 0.0, 3000
    for number in range(trials):
        session.write(f"k{number}", Value(1, "s"))
        client.clock.sleep(random.expovariate(1 / LAG_S))
        start = client.clock.now()
        stale += session.read(f"k{number}").version == 0
        middle = (start + client.clock.now()) // 2
        expected += client.truth.stale_probability(f"k{number}", 1, middle)
    low, high = wilson(stale, trials)
    assert low <= expected / trials <= high
    assert 0.1 < expected / trials < 0.9


def test_a_read_a_fixed_time_after_a_write_is_stale_as_often_as_the_formula_predicts() -> None:
    client = opened(MemoryOptions(lag_s=LAG_S, lag_order="key", read_from="m2", service="constant", service_s=1e-6))
    session, trials = client.session("s"), 4000
    stale = 0
    for number in range(trials):
        session.write(f"k{number}", Value(1, "s"))
        client.clock.sleep(LAG_S / 2)
        stale += session.read(f"k{number}").version == 0
    low, high = wilson(stale, trials)
    assert low <= exp(-0.5) <= high


def staleness_under_load(lag: str) -> tuple[int, float, float, int]:
    """Return stale reads, how many the truth predicts, how many without other writes, and the number of reads."""
    client = opened(MemoryOptions(lag=lag, lag_s=LAG_S, read_from="follower", service_s=0.002, remember=True))
    session, random, stale, expected, alone, trials = client.session("s"), Random(5), 0, 0.0, 0.0, 1500
    for number in range(trials):
        for other in range(4):
            session.write(f"other{number}-{other}", Value(1, "s"))
        session.write(f"k{number}", Value(1, "s"))
        client.clock.sleep(random.expovariate(1 / LAG_S))
        start = client.clock.now()
        stale += session.read(f"k{number}").version == 0
        middle = (start + client.clock.now()) // 2
        expected += client.truth.stale_probability(f"k{number}", 1, middle)
        age_s = (middle - client.truth.applied(f"k{number}", 1)["m1"]) / 1e9
        alone += 1 - DISTRIBUTIONS[lag].cdf(LAG_S, age_s)
        client.clock.sleep(40 * LAG_S)
    return stale, expected, alone, trials


@pytest.mark.parametrize("lag", DISTRIBUTIONS)
def test_the_truth_accounts_for_writes_that_wait_for_earlier_ones(lag: str) -> None:
    stale, expected, alone, trials = staleness_under_load(lag)
    low, high = wilson(stale, trials)
    assert low <= expected / trials <= high
    waits = lag in {"uniform", "lognormal"}
    assert (alone / trials < low) is waits
    assert (alone == pytest.approx(expected)) is not waits


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["leader", "follower", "any", "m2"]))
def test_a_read_returns_what_its_node_showed_at_some_time_during_the_read(seed: int, read_from: str) -> None:
    failover = Outage(at_s=0.05, for_s=0.1, takeover_s=0.02)
    client = opened(MemoryOptions(seed=seed, read_from=read_from, remember=True, timeouts=0.05, outages=(failover,)))
    for key, start, answer, end in load(client, 40).reads:
        assert answer.node is not None
        assert answer.version is not None
        first, last = (client.truth.shown(key, answer.node, moment) for moment in (start, end))
        assert first <= answer.version <= last


@pytest.mark.parametrize("order", ["store", "key"])
def test_followers_apply_all_writes_in_the_leaders_order_if_configured(order: Literal["store", "key"]) -> None:
    client = opened(MemoryOptions(lag_order=order, remember=True))
    seen = load(client, 60)
    applied = [client.truth.applied(key, version) for key, version, superseded in seen.acknowledged if not superseded]
    applied.sort(key=lambda moments: moments["m1"])
    arrivals = [moments["m2"] for moments in applied]
    assert (arrivals == sorted(arrivals)) is (order == "store")
    assert all(moments["m1"] <= min(moments.values()) for moments in applied)


@pytest.mark.parametrize("order", ["store", "key"])
def test_followers_apply_the_writes_of_one_key_in_the_leaders_order(order: Literal["store", "key"]) -> None:
    client = opened(MemoryOptions(lag_order=order, remember=True))
    acknowledged = sorted(load(client, 60).acknowledged)
    for key in "xyz":
        versions = [version for of, version, superseded in acknowledged if of == key and not superseded]
        arrivals = [client.truth.applied(key, version)["m3"] for version in versions]
        assert arrivals == sorted(arrivals)


FAILOVER = Outage(at_s=0.1, for_s=0.2, takeover_s=0.05)
UNTIL_FAILOVER_S = 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["store", "key"]), st.sampled_from([*DISTRIBUTIONS]))
def test_a_failover_loses_exactly_what_the_truth_reports(seed: int, order: Literal["store", "key"], lag: str) -> None:
    client = opened(MemoryOptions(seed=seed, lag=lag, lag_s=LAG_S, lag_order=order, outages=(FAILOVER,)))
    seen = load(client, 300, writing_s=UNTIL_FAILOVER_S)
    items, writes = missing(client, seen)
    lost = client.truth.lost()
    assert items == {write.item for write in lost if write.item is not None}
    registers = {(write.key, write.version, write.superseded) for write in lost if write.key in "xyz"}
    assert writes == registers


def test_later_writes_hide_register_losses_but_not_list_losses() -> None:
    client = opened(MemoryOptions(lag="constant", lag_s=LAG_S, outages=(FAILOVER,)))
    seen = load(client, 600)
    items, writes = missing(client, seen)
    assert items
    assert not writes
    assert items == {write.item for write in client.truth.lost() if write.item is not None}
    assert any(write.key in "xyz" for write in client.truth.lost())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["keeps", "majority"]))
def test_nothing_is_lost_if_the_successor_catches_up_or_a_majority_acknowledged(seed: int, why: str) -> None:
    acks: Acks = "majority" if why == "majority" else 1
    failover = replace(FAILOVER, writes="keeps" if why == "keeps" else "loses")
    client = opened(MemoryOptions(seed=seed, write_acks=acks, outages=(failover,)))
    seen = load(client, 300)
    assert missing(client, seen) == (set(), set())
    assert client.truth.lost() == []
    assert len(seen.ids) == len(set(seen.ids))


def test_a_failover_that_loses_writes_repeats_ids() -> None:
    client = opened(MemoryOptions(lag="constant", lag_s=LAG_S, outages=(FAILOVER,)))
    ids = load(client, 300).ids
    assert len(ids) > len(set(ids))


def test_without_a_leader_operations_fail_and_those_under_way_are_unknown() -> None:
    client = opened(MemoryOptions(service="constant", service_s=0.01, outages=(Outage(0.005, 1, takeover_s=0.5),)))
    session, outcomes = client.session("s"), list[type]()
    for version in range(1, 100):
        try:
            outcomes.append(type(session.write("k", Value(version, "s"))))
        except MemoryStoreError as error:
            outcomes.append(type(error))
    assert outcomes[0] in {Disconnected, NoLeader}
    assert set(outcomes[1:49]) == {NoLeader}
    assert set(outcomes[51:]) == {Answer}
    assert session.write("k", Value(1000, "s")).node == "m2"


def test_an_operation_that_reached_the_leader_before_the_crash_is_unknown_and_may_have_been_applied() -> None:
    applied = []
    for seed in range(40):
        client = opened(
            MemoryOptions(seed=seed, service="constant", service_s=0.01, outages=(replace(FAILOVER, at_s=0.005),))
        )
        try:
            client.session("s").write("k", Value(1, "s"))
        except Disconnected as error:
            assert client.explain(error).outcome == "unknown"  # noqa: PT017 # one of two possible errors
            applied.append(client.final("k").version)
        except NoLeader:
            assert client.final("k").version == 0
    assert set(applied) == {0, 1}


def test_a_leader_that_returns_before_the_takeover_loses_nothing() -> None:
    client = opened(MemoryOptions(lag_s=10, outages=(Outage(at_s=0.1, for_s=0.2, takeover_s=0.5),)))
    client.session("s").write("k", Value(1, "s"))
    client.clock.sleep(0.4)
    answer = client.session("s").write("k", Value(2, "s"))
    assert (answer.node, client.truth.lost()) == ("m1", [])


def test_the_most_advanced_follower_takes_over() -> None:
    away = Outage(at_s=0, for_s=0.07, node="m2")
    client = opened(MemoryOptions(lag="constant", lag_s=0.06, outages=(away, Outage(at_s=0.1, takeover_s=0.01))))
    session = client.session("s")
    session.write("k", Value(1, "s"))
    client.clock.sleep(0.2)
    assert (client.final("k").node, client.final("k").version) == ("m3", 1)


def test_a_lost_leader_returns_as_a_follower() -> None:
    client = opened(MemoryOptions(read_from="m1", lag_s=0.001, outages=(FAILOVER,)))
    session = client.session("s")
    client.clock.sleep(0.2)
    session.write("k", Value(7, "s"))
    with pytest.raises(NodeDown, match="m1 is down"):
        session.read("k")
    client.clock.sleep(0.2)
    answer = session.read("k")
    assert (answer.version, answer.node, client.final("k").node) == (7, "m1", "m2")


def test_reads_avoid_a_follower_that_is_down_and_it_catches_up_afterwards() -> None:
    client = opened(MemoryOptions(read_from="follower", lag_s=0.001, outages=(Outage(0, 0.5, node="m2"),)))
    session = client.session("s")
    session.write("k", Value(1, "s"))
    client.clock.sleep(0.1)
    assert {session.read("k").node for _ in range(20)} == {"m3"}
    assert client.truth.shown("k", "m2", client.clock.now()) == 0
    client.clock.sleep(0.5)
    assert {session.read("k").node for _ in range(20)} == {"m2", "m3"}
    assert client.truth.shown("k", "m2", client.clock.now()) == 1


def test_the_old_leader_leads_again_if_every_follower_is_down() -> None:
    outages = (Outage(0, 9, node="m2"), Outage(0, 9, node="m3"), Outage(0.1, 2, takeover_s=0.1))
    client = opened(MemoryOptions(outages=outages))
    client.session("s").write("k", Value(1, "s"))
    client.clock.sleep(1)
    start = client.clock.now()
    answer = client.final("k")
    assert (answer.node, answer.version) == ("m1", 1)
    assert client.clock.now() - start == pytest.approx(1.1e9, rel=0.02)


def test_discarding_the_past_changes_no_answer() -> None:
    runs = []
    for remember in (False, True):
        client = opened(
            MemoryOptions(read_from="any", timeout_s=0.05, service_s=0.002, outages=(FAILOVER,), remember=remember)
        )
        seen = load(client, 700, writing_s=2)
        runs.append((seen.reads, seen.ids, seen.acknowledged, client.final("x"), client.truth.lost()))
    assert runs[0] == runs[1]


def test_a_log_keeps_only_what_reads_can_still_ask_for() -> None:
    client = opened(MemoryOptions(timeout_s=0.02))
    session = client.session("s")
    for version in range(1, 3000):
        session.write("k", Value(version, "s"))
    assert len(client.store.logs["k"].writes) < 300
