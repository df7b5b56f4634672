"""The search for linearizations, and its agreement with three guarantees if write starts rise with versions."""

import pytest
from hypothesis import given, settings

from stalewatch.history.operation import Operation, Outcome, Read, Write
from tests.checkers.histories import growing_registers, random_growing_register
from tests.checkers.linearizability import linearizable
from tests.checkers.oracle import File, judge

THREE = ("stale_reads", "read_regressions", "phantom_reads")


def w(version: int, start: int, end: int | None, outcome: Outcome = "ok", key: str = "k") -> Write:
    return Write(session="s1", key=key, version=version, start=start, end=end, outcome=outcome)


def r(version: int, start: int, end: int, key: str = "k") -> Read:
    return Read(session="s2", key=key, version=version, start=start, end=end, outcome="ok")


def three_hold(files: list[File]) -> bool:
    results = judge(files)
    return not any(results[name].violating for name in THREE)


@pytest.mark.parametrize(
    ("violating", "valid"),
    [
        ([w(1, 1, 2), r(0, 3, 4)], [w(1, 1, 3), r(0, 3, 4)]),
        ([r(1, 1, 2), w(1, 3, 4)], [r(1, 1, 3), w(1, 3, 4)]),
        ([r(1, 1, 2)], [r(0, 1, 2)]),
        ([w(1, 1, 2, "fail"), r(1, 3, 4)], [w(1, 1, 2, "unknown"), r(1, 3, 4)]),
        ([w(1, 3, None, "unknown"), r(1, 1, 2)], [w(1, 1, None, "unknown"), r(1, 8, 9)]),
        # an unknown write may take effect after its recorded end, but only once
        (
            [w(1, 1, 2, "unknown"), r(0, 3, 4), r(1, 5, 6), r(0, 7, 8)],
            [w(1, 1, 2, "unknown"), r(0, 3, 4), r(1, 5, 6)],
        ),
        # an older write that arrives late has no effect
        ([w(2, 1, 2), w(1, 3, 4), r(1, 5, 6)], [w(2, 1, 2), w(1, 3, 4), r(2, 5, 6)]),
        # two readers see a new version one after the other
        ([w(1, 1, 9), r(1, 2, 3), r(0, 4, 5)], [w(1, 1, 9), r(1, 2, 4), r(0, 4, 5)]),
        # keys are independent
        ([w(1, 1, 2, key="a"), r(0, 3, 4, key="a")], [w(1, 1, 2, key="a"), r(0, 3, 4, key="b")]),
    ],
)
def test_the_search_distinguishes_twins(violating: list[Operation], valid: list[Operation]) -> None:
    assert not linearizable(violating)
    assert linearizable(valid)


def test_without_rising_write_starts_the_three_guarantees_do_not_suffice() -> None:
    operations: list[Operation] = [w(2, 1, 2), r(1, 1, 5), w(1, 3, 7)]
    assert three_hold([File(operations)])
    assert not linearizable(operations)


def test_with_rising_write_starts_the_same_register_is_linearizable() -> None:
    operations: list[Operation] = [w(2, 3, 4), r(1, 1, 5), w(1, 3, 7)]
    assert three_hold([File(operations)])
    assert linearizable(operations)


@given(growing_registers())
@settings(max_examples=500, deadline=None)
def test_with_rising_write_starts_linearizable_means_that_the_three_guarantees_hold(files: list[File]) -> None:
    assert linearizable(files[0].operations) == three_hold(files)


@given(growing_registers(rising=False))
@settings(max_examples=300, deadline=None)
def test_a_linearizable_register_always_keeps_the_three_guarantees(files: list[File]) -> None:
    assert three_hold(files) or not linearizable(files[0].operations)


def test_search_and_guarantees_agree_on_thousands_of_seeded_registers() -> None:
    agreed = {True: 0, False: 0}
    for seed in range(5000):
        files = random_growing_register(seed, size=3 + seed % 7)
        found = linearizable(files[0].operations)
        assert found == three_hold(files), f"seed {seed}"
        agreed[found] += 1
    assert min(agreed.values()) > 500
