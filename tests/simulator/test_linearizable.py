"""Stores that never show a violation, each with a twin that does."""

import itertools
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stalewatch.clients.protocol import Value
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.simulated_time import SimulatedClock, run_sessions
from stalewatch.simulator.store import MemoryStoreError

SESSIONS = 8


class Operation(NamedTuple):
    end: int
    start: int
    kind: str
    version: int
    outcome: str


def history_of(options: MemoryOptions, operations: int, keys: str = "xyz") -> dict[str, list[Operation]]:
    """Return the operations of all sessions by key, in the order of their ends."""
    clock = SimulatedClock()
    client = MemoryClient(options, clock)
    client.prepare()
    history: dict[str, list[Operation]] = {key: [] for key in keys}
    versions = {key: itertools.count(1) for key in keys}

    def body(name: str) -> Callable[[], None]:
        session, random = client.session(name), Random(name)

        def step(key: str, version: int, start: int) -> Operation:
            kind, outcome = ("write" if version else "read"), "ok"
            try:
                answer = session.write(key, Value(version, name)) if version else session.read(key)
                version = version or answer.version or 0
            except MemoryStoreError as error:
                outcome = client.explain(error).outcome
            return Operation(clock.now(), start, kind, version, outcome)

        def work() -> None:
            for _ in range(operations):
                key = random.choice(keys)
                version = next(versions[key]) if random.random() < 0.4 else 0
                history[key].append(step(key, version, clock.now()))

        return work

    run_sessions(clock, {f"s{number}": body(f"s{number}") for number in range(SESSIONS)})
    return history


def violations(history: list[Operation]) -> int:
    """Count reads that are stale, that are older than an earlier read, or whose version was not yet written."""
    starts = {op.version: op.start for op in history if op.kind == "write" and op.outcome != "fail"}
    confirmed = [op for op in history if op.outcome == "ok"]
    ends = [op.end for op in confirmed]
    floors = [0, *itertools.accumulate((op.version for op in confirmed), max)]
    return sum(
        op.version < floors[bisect_left(ends, op.start)]
        or (op.version > 0 and starts.get(op.version, op.end) >= op.end)
        for op in confirmed
        if op.kind == "read"
    )


def violations_with(options: MemoryOptions, operations: int = 150) -> int:
    return sum(violations(history) for history in history_of(options, operations).values())


OUTAGES = (Outage(at_s=0.05, for_s=0.03, takeover_s=0.01), Outage(at_s=0.12, for_s=0.03, takeover_s=0.1))
LOSSLESS_OUTAGES = tuple(replace(outage, writes="keeps") for outage in OUTAGES)

SOUND = {
    "linearizable": MemoryOptions("linearizable", outages=OUTAGES),
    "leader reads": MemoryOptions("leader", read_from="leader"),
    "lossless failover": MemoryOptions("leader", outages=LOSSLESS_OUTAGES),
    "overlapping quorums": MemoryOptions("quorum", write_acks="majority", read_acks="majority", service_s=0.005),
    "overlapping quorums with a replica down": MemoryOptions(
        "quorum", write_acks=2, read_acks=2, service_s=0.005, outages=(Outage(0.1, 0.1, node="m2"),)
    ),
    "two leaders, reads and writes at one": MemoryOptions("multi-leader", write_to="a", read_from="a"),
}

UNSOUND = {
    "follower reads": MemoryOptions("leader", read_from="follower"),
    "lossy failover": MemoryOptions("leader", lag="constant", outages=OUTAGES),
    # No acknowledged write is lost, but sessions had read from the old leader what no majority ever had.
    "failover that loses unacknowledged writes": MemoryOptions(
        "leader", write_acks="majority", outages=OUTAGES, seed=1
    ),
    "quorums without overlap": MemoryOptions("quorum", write_acks="majority", read_acks=1),
    "quorums without read repair": MemoryOptions(
        "quorum", write_acks="majority", read_acks="majority", read_repair=False, service_s=0.005
    ),
    "two leaders": MemoryOptions("multi-leader", write_to="any", read_from="any"),
}


@pytest.mark.parametrize("case", SOUND)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), timeouts=st.sampled_from([0.0, 0.1]), refusals=st.sampled_from([0.0, 0.1]))
def test_a_sound_store_shows_no_violation(case: str, seed: int, timeouts: float, refusals: float) -> None:
    options = replace(SOUND[case], seed=seed, timeouts=timeouts, refusals=refusals, timeout_s=0.05)
    assert violations_with(options) == 0


@pytest.mark.parametrize("case", UNSOUND)
def test_an_unsound_store_shows_violations(case: str) -> None:
    assert violations_with(UNSOUND[case]) > 0


@pytest.mark.parametrize("distribution", ["constant", "uniform", "lognormal"])
def test_a_linearizable_store_shows_no_violation_with_any_service_time(distribution: str) -> None:
    options = MemoryOptions("linearizable", service=distribution, timeouts=0.05, refusals=0.05, timeout_s=0.01)
    assert violations_with(options, 1000) == 0
