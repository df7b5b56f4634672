"""Recovery times against a brute-force version of their definition, and each rule by an example and its twin."""

from array import array
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stalewatch.drills import recovery
from stalewatch.drills.recovery import NS, WINDOW_NS, degraded, longest_gap, sustained_from
from stalewatch.recording.attempts import NEVER, Attempts

S = NS


def attempts(ok: Sequence[int], bad: Sequence[tuple[int, int]] = ()) -> list[Attempts]:
    return [
        Attempts("write", "ok", array("q", ok), array("q", ok)),
        Attempts("write", "unknown", array("q", [one[0] for one in bad]), array("q", [one[1] for one in bad])),
    ]


def seconds(*values: float) -> list[int]:
    return [round(value * S) for value in values]


def test_the_longest_gap_counts_wherever_it_lies_after_the_fault() -> None:
    # As with a primary that is cut off: it acknowledges writes for 2 s more, and then none are for 4 s.
    ok = seconds(1, 2, 3, 4, 5, 9, 10)
    assert longest_gap(ok, ok, 3 * S, 10 * S) == (5 * S, 9 * S)


def test_a_gap_before_the_fault_does_not_count() -> None:
    ok = seconds(1, 6, 7, 8, 9.5, 10)
    assert longest_gap(ok, ok, 7 * S, 10 * S) == (8 * S, round(9.5 * S))


def test_a_gap_that_contains_the_start_of_the_fault_counts() -> None:
    assert longest_gap(seconds(1, 6, 7, 8), seconds(1, 6, 7, 8), 5 * S, 8 * S) == (1 * S, 6 * S)


def test_service_that_never_recovered_has_no_recovery_time() -> None:
    # Fast successes after the fault must not look like a recovery within milliseconds.
    ok = [*seconds(1, 2, 3), *(3 * S + n * S // 100 for n in range(1, 50))]
    assert longest_gap([*ok, 6 * S], ok, 3 * S, 20 * S) is None


def test_a_run_that_ends_soon_after_a_success_did_recover() -> None:
    ok = seconds(1, 2, 7, 8)
    assert longest_gap([*ok, 9 * S], ok, 2 * S, 9 * S) == (2 * S, 7 * S)


def test_the_end_of_the_load_is_an_outage_only_if_an_attempt_failed() -> None:
    ok = seconds(1, 2, 3, 4)
    assert longest_gap(ok, ok, 2 * S, 6 * S) == (2 * S, 3 * S)
    assert longest_gap([*ok, 5 * S], ok, 2 * S, 6 * S) is None


def test_without_a_success_there_is_no_gap() -> None:
    assert longest_gap([], [], 0, S) is None
    assert longest_gap([S], [], 0, S) is None


def test_sustained_recovery_starts_with_three_good_seconds() -> None:
    ok = [n * S // 10 for n in range(101, 200)]
    bad = [11 * S + n for n in range(20)]
    ends = sorted([*ok, *bad])
    # The window that starts right after the last failure no longer contains it.
    assert sustained_from(ends, ok, ok[0], 20 * S) == bad[-1] + 1


def test_a_good_window_must_end_before_the_run_does() -> None:
    ok = [n * S // 10 for n in range(101, 120)]
    assert sustained_from(ok, ok, ok[0], ok[0] + WINDOW_NS - 1) is None
    assert sustained_from(ok, ok, ok[0], ok[0] + WINDOW_NS) == ok[0]


def test_an_empty_window_is_not_good() -> None:
    assert sustained_from([S], [S], S + 1, 20 * S) is None
    assert sustained_from([S], [S], S, 20 * S) == S


def test_one_in_a_hundred_attempts_may_fail_but_not_more() -> None:
    ok = [10 * S + n for n in range(99)]
    assert sustained_from([*ok, 11 * S], ok, 10 * S, 20 * S) == 10 * S
    assert sustained_from([*ok[1:], 11 * S], ok[1:], 10 * S, 14 * S) != 10 * S


@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=30),
    st.integers(0, 60),
    st.integers(0, 70),
)
def test_sustained_recovery_is_the_first_good_window(found: list[tuple[int, bool]], gap_end: int, run_end: int) -> None:
    window = 12
    ends = sorted(end for end, _ in found)
    ok = sorted(end for end, good in found if good)

    def good(start: int) -> bool:
        inside = [is_ok for end, is_ok in found if start <= end < start + window]
        return bool(inside) and sum(inside) * 100 >= 99 * len(inside)

    brute = next((start for start in range(gap_end, run_end - window + 1) if good(start)), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "WINDOW_NS", window)
        assert sustained_from(ends, ok, gap_end, run_end) == brute


@given(
    st.lists(st.integers(0, 50), max_size=20),
    st.lists(st.integers(0, 60), max_size=5),
    st.integers(0, 50),
    st.integers(60, 80),
)
def test_the_gap_is_the_longest_that_overlaps_the_fault(
    found: list[int], bad: list[int], fault: int, run_end: int
) -> None:
    ok = sorted(found)
    lengths = [b - a for a, b in pairwise(ok) if b > fault]
    failed_later = bool(ok) and any(end > ok[-1] for end in bad)
    gap = longest_gap(sorted([*ok, *bad]), ok, fault, run_end)
    if not lengths or (failed_later and run_end - ok[-1] > max(lengths)):
        assert gap is None
    else:
        assert gap is not None
        assert gap.length == max(lengths)
        assert gap.end > fault


def test_a_second_in_which_all_attempts_wait_and_fail_is_degraded() -> None:
    ok = seconds(0.5, 3.5)
    # In flight from 0.6 to 3.2: nothing ended in seconds 1 and 2; in second 3 one failed and one succeeded.
    assert degraded(attempts(ok, [(round(0.6 * S), round(3.2 * S))]), 0, 4 * S) == 3


def test_a_second_without_attempts_is_not_degraded() -> None:
    assert degraded(attempts(seconds(0.5, 3.5)), 0, 4 * S) == 0


def test_outcomes_within_the_gap_are_counted() -> None:
    found = recovery.recovery(attempts(seconds(1, 2, 7, 7.5, 8), [(2 * S, 4 * S), (2 * S, 6 * S)]), 2 * S, 8 * S)
    assert found.rto_s == 5
    assert found.meanwhile == {"ok": 0, "fail": 0, "unknown": 2}


@given(
    st.lists(
        st.tuples(st.integers(0, 40), st.integers(0, 20), st.sampled_from(["ok", "fail", "unknown"])), max_size=25
    ),
    st.lists(st.integers(0, 45), max_size=2),
    st.integers(0, 30),
    st.integers(30, 60),
)
def test_sustained_recovery_and_whether_it_is_known_follow_the_definition(
    found: list[tuple[int, int, str]], hung: list[int], fault: int, run_end: int
) -> None:
    window = 12
    every = [(start, start + length, outcome) for start, length, outcome in found]
    every += [(start, NEVER, "unknown") for start in hung]
    given_attempts = [
        Attempts(
            "write",
            outcome,  # type: ignore[arg-type]
            array("q", [start for start, _, one in every if one == outcome]),
            array("q", [end for _, end, one in every if one == outcome]),
        )
        for outcome in ("ok", "fail", "unknown")
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recovery, "WINDOW_NS", window)
        measured = recovery.recovery(given_attempts, fault, run_end)
    sustained, known = sustained_by_definition(every, measured.gap, (fault, run_end), window)
    assert measured.sustained_known is known
    assert (measured.sustained_rto_s is None) is (sustained is None)
    if sustained is not None:
        assert measured.sustained_rto_s == pytest.approx(sustained / NS)


def sustained_by_definition(
    every: Sequence[tuple[int, int, str]], gap: recovery.Gap | None, time: tuple[int, int], window: int
) -> tuple[int | None, bool]:
    """Return the sustained time and whether it is known, given the longest gap, from the text of the definition."""
    fault, run_end = time
    some_failed = any(outcome != "ok" and start <= run_end and end >= fault for start, end, outcome in every)
    if gap is None:
        return None, some_failed
    if not some_failed:
        return gap.end - gap.start, True
    for start in range(gap.end, run_end - window + 1):
        inside = [outcome == "ok" for _, end, outcome in every if start <= end < start + window]
        if inside and 100 * sum(inside) >= 99 * len(inside):
            return start - gap.start, True
    return None, gap.end + window <= run_end


def test_without_a_failure_there_is_nothing_to_recover_from() -> None:
    ok = seconds(1, 2, 3, 7, 7.5)
    found = recovery.recovery(attempts(ok, [(0, 1 * S)]), 2 * S, 8 * S)
    assert (found.rto_s, found.sustained_rto_s, found.sustained_known) == (4, 4, True)


def test_a_load_that_ends_before_a_whole_window_leaves_it_unknown() -> None:
    ok = [*seconds(1, 2), *(6 * S + n * S // 10 for n in range(31))]
    failed = [(2 * S, 4 * S)]
    found = recovery.recovery(attempts(ok, failed), 2 * S, 9 * S - 1)
    assert (found.rto_s, found.sustained_rto_s, found.sustained_known) == (4, None, False)
    found = recovery.recovery(attempts(ok, failed), 2 * S, 9 * S)
    assert (found.rto_s, found.sustained_rto_s, found.sustained_known) == (4, 4, True)


def test_a_load_that_goes_on_badly_never_recovers_for_good() -> None:
    ok = [*seconds(1, 2), *(6 * S + n * S // 10 for n in range(50))]
    bad = [(2 * S, 4 * S), *((6 * S, 6 * S + n * S // 2) for n in range(10))]
    found = recovery.recovery(attempts(ok, bad), 2 * S, 11 * S)
    assert (found.rto_s, found.sustained_rto_s, found.sustained_known) == (4, None, True)
