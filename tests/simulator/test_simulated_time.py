"""Simulated time: the order of wake-ups, joining and leaving, and killed greenlets."""

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stalewatch.simulator.simulated_time import EPOCH_NS, SimulatedClock, run_sessions

PATIENCE_S = 120

Turn = tuple[int, str]


def sleeper(clock: SimulatedClock, name: str, naps_ms: list[int], turns: list[Turn]) -> Callable[[], None]:
    def body() -> None:
        turns.append((clock.now() - EPOCH_NS, name))
        for nap in naps_ms:
            clock.sleep(nap / 1000)
            turns.append((clock.now() - EPOCH_NS, name))

    return body


def turns_of(naps_ms: dict[str, list[int]]) -> list[Turn]:
    clock, turns = SimulatedClock(), list[Turn]()
    run_sessions(clock, {name: sleeper(clock, name, naps, turns) for name, naps in naps_ms.items()})
    return turns


def expected_turns(naps_ms: dict[str, list[int]]) -> list[Turn]:
    """Return the same by the definition: always the earliest wake-up, and the first name among equal ones."""
    pending = {name: (0, list(naps)) for name, naps in naps_ms.items()}
    turns = []
    while pending:
        name = min(pending, key=lambda name: (pending[name][0], name))
        wake, naps = pending.pop(name)
        turns.append((wake, name))
        if naps:
            pending[name] = (wake + naps[0] * 1_000_000, naps[1:])
    return turns


def test_time_starts_at_the_epoch_and_passes_only_during_sleep() -> None:
    clock = SimulatedClock()
    assert (clock.now(), clock.now()) == (EPOCH_NS, EPOCH_NS)
    clock.sleep(1.5)
    assert clock.now() == EPOCH_NS + 1_500_000_000


def test_a_negative_sleep_does_not_turn_time_back() -> None:
    clock = SimulatedClock()
    clock.sleep(-1)
    assert clock.now() == EPOCH_NS


@pytest.mark.parametrize("nanoseconds", [1, 999_999_999, 123_456_789_123])
def test_whole_nanoseconds_survive_the_conversion_to_seconds(nanoseconds: int) -> None:
    clock = SimulatedClock()
    clock.sleep(nanoseconds / 1e9)
    assert clock.now() - EPOCH_NS == nanoseconds


def test_sessions_run_in_the_order_of_their_wake_ups() -> None:
    assert turns_of({"a": [30], "b": [10, 10], "c": [15]}) == [
        (0, "a"),
        (0, "b"),
        (0, "c"),
        (10_000_000, "b"),
        (15_000_000, "c"),
        (20_000_000, "b"),
        (30_000_000, "a"),
    ]


def test_equal_wake_ups_are_ordered_by_name_and_not_by_who_slept_first() -> None:
    turns = turns_of({"b": [5, 15], "a": [10, 10], "c": [20]})
    assert turns[-3:] == [(20_000_000, "a"), (20_000_000, "b"), (20_000_000, "c")]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(0, 5), max_size=8), min_size=1))
def test_any_schedule_runs_in_the_defined_order(naps_ms: dict[str, list[int]]) -> None:
    assert turns_of(naps_ms) == expected_turns(naps_ms)


def test_time_does_not_pass_until_the_expected_sessions_have_joined() -> None:
    clock, early = SimulatedClock(), threading.Event()
    clock.expect(2)

    def first() -> None:
        clock.join("first")
        early.set()
        clock.leave()

    thread = threading.Thread(target=first)
    thread.start()
    assert not early.wait(0.05)
    clock.join("second")  # "first" comes first by name, so it has run when this returns
    assert early.wait(PATIENCE_S)
    clock.leave()
    thread.join(PATIENCE_S)
    assert clock.now() == EPOCH_NS


def test_expecting_no_sessions_cancels_the_wait() -> None:
    clock = SimulatedClock()
    clock.expect(2)

    def only() -> None:
        clock.join("only")
        clock.sleep(1)
        clock.leave()

    thread = threading.Thread(target=only)
    thread.start()
    clock.expect(0)
    thread.join(PATIENCE_S)
    assert clock.now() == EPOCH_NS + 1_000_000_000


def test_a_session_that_dies_does_not_block_the_others() -> None:
    clock, turns = SimulatedClock(), list[Turn]()

    def dies() -> None:
        clock.sleep(0.005)
        raise RuntimeError("died")

    with pytest.raises(RuntimeError, match="died"):
        run_sessions(clock, {"a": dies, "b": sleeper(clock, "b", [1] * 10, turns)})
    assert turns[-1] == (10_000_000, "b")


def test_a_thread_joins_once_and_under_a_unique_name() -> None:
    clock = SimulatedClock()
    clock.join("a")
    with pytest.raises(ValueError, match="'b'"):
        clock.join("b")
    errors = []

    def impostor() -> None:
        try:
            clock.join("a")
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=impostor)
    thread.start()
    thread.join(PATIENCE_S)
    assert len(errors) == 1
    clock.leave()
    clock.join("a")
    clock.leave()


def test_leaving_without_joining_does_nothing() -> None:
    clock = SimulatedClock()
    clock.leave()
    assert clock.now() == EPOCH_NS


def test_a_thread_that_has_not_joined_waits_for_the_sessions_without_delaying_them() -> None:
    clock, turns, woken = SimulatedClock(), list[Turn](), list[int]()
    clock.join("a")

    def visit() -> None:
        clock.sleep(0.015)
        woken.append(clock.now() - EPOCH_NS)

    visitor = threading.Thread(target=visit)
    visitor.start()
    while not clock._asleep:
        pass
    sleeper(clock, "a", [10, 10, 10], turns)()
    visitor.join(PATIENCE_S)
    clock.leave()
    assert [time // 1_000_000 for time, _ in turns] == [0, 10, 20, 30]
    assert woken[0] >= 15_000_000


def test_a_thread_that_has_not_joined_sleeps_on_after_the_last_session_leaves() -> None:
    clock = SimulatedClock()
    clock.join("a")
    visitor = threading.Thread(target=clock.sleep, args=(7,))
    visitor.start()
    while not clock._asleep:
        pass
    clock.leave()
    visitor.join(PATIENCE_S)
    assert clock.now() == EPOCH_NS + 7_000_000_000


KILLED_ASLEEP = """
def session(name, naps):
    clock.join(name)
    try:
        for nap in naps:
            clock.sleep(nap)
            turns.append(name)
    finally:
        clock.leave()

clock.expect(3)
a = gevent.spawn(session, "a", [1e-3] * 20)
b = gevent.spawn(session, "b", [5e-3])
c = gevent.spawn(session, "c", [2e-3] * 8)
while len(turns) < 4:
    gevent.sleep(0)
b.kill()
c.kill()
gevent.joinall([a, b, c], timeout=30, raise_error=True)
print(turns.count("a"), turns.count("b"), clock.now() - EPOCH_NS)
"""

KILLED_ON_ITS_TURN = """
def kills():
    clock.join("a")
    clock.sleep(1e-3)
    victim.kill(block=False)  # takes effect when this greenlet waits, and by then it is the victim's turn
    clock.leave()

def cleans_up():
    clock.join("b")
    try:
        clock.sleep(2e-3)
    finally:
        clock.sleep(3e-3)
        turns.append(clock.now() - EPOCH_NS)
        clock.leave()

def sleeps():
    clock.join("c")
    clock.sleep(4e-3)
    turns.append(clock.now() - EPOCH_NS)
    clock.leave()

clock.expect(3)
victim = gevent.spawn(cleans_up)
gevent.joinall([gevent.spawn(kills), victim, gevent.spawn(sleeps)], timeout=30, raise_error=True)
print(*turns)
"""


@pytest.mark.parametrize(
    ("script", "answer"),
    [(KILLED_ASLEEP, ["20", "0", "20000000"]), (KILLED_ON_ITS_TURN, ["4000000", "5000000"])],
    ids=["asleep", "on its turn"],
)
def test_killed_greenlets_do_not_block_the_others(script: str, answer: list[str]) -> None:
    pytest.importorskip("gevent")
    prelude = (
        "from gevent import monkey; monkey.patch_all(); import gevent\n"
        "from stalewatch.simulator.simulated_time import EPOCH_NS, SimulatedClock\n"
        "clock, turns = SimulatedClock(), []\n"
    )
    run = [sys.executable, "-c", prelude + script]
    assert subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout.split() == answer
