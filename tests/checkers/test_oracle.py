"""The oracle itself, on twins and on other small histories."""

from collections import Counter

import pytest

from stalewatch.history.operation import Operation, Read
from tests.checkers.oracle import (
    GUARANTEES,
    File,
    Place,
    duplicate_items,
    fresh_after_ns,
    freshness,
    judge,
    overall,
    phantom_items,
    wilson,
)
from tests.checkers.twins import STALE_CAUSES, TWINS, CauseTwins, Twins, after, append, draw, final, read, write


def places(*at: int) -> set[Place]:
    return {(0, line) for line in at}


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: f"{twins.guarantee}: {twins.difference}")
def test_the_smallest_history_violates_the_guarantee_and_its_twin_does_not(twins: Twins) -> None:
    violating = judge([File(twins.violating)])[twins.guarantee]
    assert (violating.verdict, violating.violating) == ("violated", places(twins.at))
    valid = judge([File(twins.valid)])[twins.guarantee]
    assert (valid.verdict, valid.violating) == (twins.valid_verdict, set())


@pytest.mark.parametrize("twins", STALE_CAUSES, ids=lambda twins: twins.difference)
def test_the_cause_of_a_stale_read_depends_on_the_final_read(twins: CauseTwins) -> None:
    for operations, cause in ((twins.history, twins.cause), (twins.other, twins.other_cause)):
        assert judge([File(operations)])["stale_reads"].causes == Counter([cause])


def test_every_guarantee_has_twins() -> None:
    assert {twins.guarantee for twins in TWINS} == set(GUARANTEES)


def test_a_read_is_checked_only_if_its_floor_is_above_0() -> None:
    result = judge([File([read(0, 1, 2), read(3, 1, 2, key="x"), write(1, 1, 2), read(0, 3, 4)])])
    assert result["stale_reads"].checked == 1
    assert result["stale_reads"].floors == {(0, 3): 1}
    assert result["read_regressions"].checked == 0


def test_staleness_is_counted_from_the_earliest_newer_write() -> None:
    operations: list[Operation] = [
        write(1, 1, 2),
        write(2, 10, 20),
        write(3, 20, 30),
        read(1, 100, 101),
        write(4, 40, 110),
    ]
    result = judge([File(operations)])["stale_reads"]
    assert (result.checked, result.violated, result.staleness_ns) == (1, 1, [80])


def test_a_stale_read_has_the_cause_conflict_if_a_sibling_reaches_the_floor() -> None:
    operations: list[Operation] = [
        write(2, 1, 2),
        read(1, 3, 4, siblings=[1]),
        read(1, 3, 4, siblings=[2]),
        read(0, 3, 4),
    ]
    assert judge([File(operations)])["stale_reads"].causes == Counter(lag=2, conflict=1)


def test_an_inconsistent_prefix_has_the_cause_of_the_dependency_that_gives_the_floor() -> None:
    operations: list[Operation] = [
        read(1, 1, 2, key="b", depends=after("k", 2, "writes_follow_reads")),
        read(1, 2, 3, key="a", depends=after("k", 3, "monotonic_writes")),
        read(1, 3, 4),
    ]
    assert judge([File(operations)])["consistent_prefix"].causes == Counter(monotonic_writes=1)


def test_if_several_dependencies_give_the_floor_the_first_in_the_session_is_the_cause() -> None:
    operations: list[Operation] = [
        read(1, 2, 2, key="b", depends=after("k", 3, "writes_follow_reads")),
        read(1, 1, 2, key="a", depends=after("k", 3, "monotonic_writes")),
        read(1, 3, 4),
    ]
    assert judge([File(operations)])["consistent_prefix"].causes == Counter(monotonic_writes=1)


def test_a_final_read_of_version_0_proves_every_write_lost() -> None:
    operations: list[Operation] = [write(1, 1, 2), write(2, 2, 3), final(0, 4, 5)]
    assert judge([File(operations)])["lost_writes"].violating == places(0, 1)


def test_a_draw_that_violates_for_two_reasons_is_counted_once() -> None:
    operations: list[Operation] = [draw(7, 1, 2), draw(9, 1, 2), draw(7, 3, 4), draw(7, 5, 6, outcome="unknown")]
    result = judge([File(operations)])["unique_ids"]
    assert (result.checked, result.violating) == (3, places(2))


def test_a_phantom_read_raises_the_floor_of_others() -> None:
    results = judge([File([write(1, 1, 2), read(9, 3, 4), read(1, 5, 6)])])
    assert results["phantom_reads"].violating == places(1)
    assert results["read_regressions"].violating == places(2)


def test_duplicate_and_phantom_items_are_counted_separately() -> None:
    operations: list[Operation] = [
        append("a", 1, 2),
        append("b", 1, 2, outcome="fail"),
        append("c", 1, None, outcome="unknown"),
        final(["gone"], 3, 4),
        final(["a", "a", "b", "c", "d", "d"], 5, 6),
    ]
    files = [File(operations)]
    assert duplicate_items(files) == {("k", "a"), ("k", "d")}
    assert phantom_items(files) == {("k", "b"), ("k", "d")}
    files[0].complete = False
    assert phantom_items(files) == {("k", "b")}
    assert judge(files)["lost_writes"].verdict == "holds"


def test_unrecorded_items_of_an_incomplete_file_are_not_judged() -> None:
    operations: list[Operation] = [append("a", 1, 2), final(["a", "b", "b"], 3, 4)]
    result = judge([File(operations, complete=False)])["unexpected_items"]
    assert (result.checked, result.violated) == (1, 0)
    result = judge([File(operations)])["unexpected_items"]
    assert (result.checked, result.violated, result.causes) == (2, 1, Counter(phantom=1))


def test_an_item_that_is_duplicate_and_phantom_counts_once() -> None:
    operations: list[Operation] = [
        append("x", 1, 2),
        append("y", 3, 4, outcome="fail"),
        final(["x", "x", "y", "z"], 5, 6),
    ]
    result = judge([File(operations)])["unexpected_items"]
    assert (result.checked, result.violated, result.causes) == (3, 3, Counter(phantom=2, duplicate=1))


def test_an_age_on_an_edge_is_in_the_bucket_that_begins_there() -> None:
    operations: list[Operation] = [write(1, 0, 0), read(1, 99_999, 100_000), read(0, 100_000, 100_001)]
    result = judge([File(operations)])["stale_reads"]
    assert freshness(result) == [(0, 100_000, 1, 0), (100_000, 200_000, 1, 1)]


def test_reads_are_fresh_after_the_smallest_edge_from_which_on_enough_are() -> None:
    reads = [read(int(age > 0), 1 + age * 1_000_000, 2 + age * 1_000_000) for age in (*range(500), 600_000)]
    result = judge([File([write(1, 0, 0), *reads])])["stale_reads"]
    assert (fresh_after_ns(result, 99), fresh_after_ns(result, 99.9)) == (100_000, None)


# Several files.


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [((0, 0), "violated"), ((4, 5), "violated"), ((5, 5), "no_evidence"), ((0, None), "no_evidence")],
)
def test_between_files_before_means_beyond_both_clock_errors(errors: tuple[int, int | None], verdict: str) -> None:
    writer = File([write(1, 1, 10)], worker=1, clock_error_ns=errors[0])
    reader = File([read(0, 20, 21, owner=1)], worker=2, clock_error_ns=errors[1])
    assert judge([writer, reader])["stale_reads"].verdict == verdict


@pytest.mark.parametrize(("error", "verdict"), [(4, "violated"), (5, "holds"), (None, "holds")])
def test_a_read_from_the_future_ends_before_its_write_beyond_both_clock_errors(error: int | None, verdict: str) -> None:
    reader = File([read(1, 1, 10, owner=1)], worker=2, clock_error_ns=5)
    writer = File([write(1, 20, 21)], worker=1, clock_error_ns=error)
    assert judge([reader, writer])["phantom_reads"].verdict == verdict


def test_within_a_file_clock_errors_do_not_matter() -> None:
    assert judge([File([write(1, 1, 2), read(0, 3, 4)], clock_error_ns=None)])["stale_reads"].verdict == "violated"


def test_sessions_of_different_workers_differ_even_if_they_share_a_name() -> None:
    files = [File([read(2, 1, 2)], worker=1), File([read(1, 3, 4)], worker=2)]
    results = judge(files)
    assert results["monotonic_reads"].verdict == "no_evidence"
    assert results["read_regressions"].violating == {(1, 0)}


@pytest.mark.parametrize(("error", "verdict"), [(0, "violated"), (1, "no_evidence"), (None, "no_evidence")])
def test_a_session_in_two_files_of_a_worker_is_ordered_by_time(error: int | None, verdict: str) -> None:
    files = [File([read(2, 1, 2)], worker=1), File([read(1, 3, 4)], worker=1, clock_error_ns=error)]
    assert judge(files)["monotonic_reads"].verdict == verdict


OWNERS = {
    "no file": [],
    "an incomplete file": [File([write(2, 1, 2), write(3, 1, 2)], worker=1, complete=False)],
    "a complete file": [File([write(2, 1, 2), write(3, 1, 2)], worker=1)],
}


@pytest.mark.parametrize(
    ("owner", "judged"), [("no file", False), ("an incomplete file", False), ("a complete file", True)]
)
def test_reads_of_another_workers_key_need_that_workers_complete_file(owner: str, *, judged: bool) -> None:
    reads = [read(3, 3, 4, owner=1, siblings=[9]), read(2, 5, 6, owner=1), read(7, 7, 8, owner=1)]
    results = judge([File(reads, worker=2), *OWNERS[owner]])
    assert results["monotonic_reads"].violating == places(1)
    assert results["stale_reads"].violating == (places(1) if judged else set())
    assert results["read_regressions"].violating == (places(1) if judged else set())
    assert results["phantom_reads"].violating == (places(2) if judged else set())
    assert results["conflicts"].violating == (places(0) if judged else set())


@pytest.mark.parametrize(
    ("own", "foreign", "verdict"),
    [
        ([], [read(1, 1, 2, owner=1)], "no_evidence"),
        ([], [read(1, 1, 2, owner=1, siblings=[])], "no_evidence"),
        ([read(1, 1, 2)], [read(1, 1, 2, owner=1, siblings=[])], "not_applicable"),
    ],
)
def test_reads_that_are_not_judged_do_not_make_conflicts_applicable(
    own: list[Read], foreign: list[Read], verdict: str
) -> None:
    assert judge([File([*own, *foreign], worker=2)])["conflicts"].verdict == verdict


def test_reads_that_are_not_judged_still_raise_floors() -> None:
    reader = File([read(3, 1, 2, owner=1)], worker=2)
    owner = File([read(2, 5, 6)], worker=1, complete=False)
    assert judge([reader, owner])["read_regressions"].violating == {(1, 0)}


def test_an_owner_that_is_the_worker_itself_has_no_effect() -> None:
    operations: list[Operation] = [write(1, 1, 2), read(0, 3, 4, owner=1)]
    assert judge([File(operations, worker=1, complete=False)])["stale_reads"].verdict == "violated"


def test_in_an_incomplete_file_a_read_of_an_unrecorded_version_is_not_checked() -> None:
    operations: list[Operation] = [
        write(1, 1, 2, outcome="fail"),
        read(1, 3, 4),  # recorded, and failed
        read(2, 3, 4),  # possibly written on a missing line
    ]
    result = judge([File(operations, complete=False)])["phantom_reads"]
    assert (result.checked, result.violating) == (1, places(1))
    result = judge([File(operations)])["phantom_reads"]
    assert (result.checked, result.violating) == (2, places(1, 2))


def test_keys_read_as_another_workers_are_not_keys_of_an_incomplete_file() -> None:
    reader = File([read(7, 1, 2, owner=1)], worker=2, complete=False)
    owner = File([write(1, 1, 2)], worker=1)
    assert judge([reader, owner])["phantom_reads"].violating == places(0)


def test_the_last_final_read_is_the_one_that_ended_last_in_any_file() -> None:
    early, late = File([write(2, 1, 2), final(2, 3, 4)], worker=1), File([final(1, 5, 6)], worker=2)
    assert judge([early, late])["lost_writes"].violating == {(0, 0)}
    assert judge([late, early])["lost_writes"].violating == {(1, 0)}


def test_a_write_that_cannot_be_placed_before_the_read_does_not_add_staleness() -> None:
    reader = File([write(2, 30, 40), read(1, 100, 101)], worker=1)
    undated = File([write(3, 1, 2)], worker=2, clock_error_ns=None)
    assert judge([reader, undated])["stale_reads"].staleness_ns == [60]


# Verdicts.


def test_a_run_is_invalid_if_any_guarantee_but_conflicts_is_violated() -> None:
    good: list[Operation] = [write(1, 1, 2), read(1, 3, 4)]
    cases: list[tuple[str, list[File]]] = [
        ("valid", [File(good)]),
        ("unknown", [File(good, complete=False)]),
        ("unknown", [File([write(1, 1, 2)])]),
        ("valid", [File([*good, read(1, 5, 6, siblings=[2])])]),
        ("unknown", [File([read(0, 5, 6, siblings=[2])])]),
        ("invalid", [File([*good, read(0, 5, 6)])]),
        ("invalid", [File([*good, read(0, 5, 6)], complete=False)]),
    ]
    assert [overall(files, judge(files)) for _, files in cases] == [verdict for verdict, _ in cases]
    assert overall([File(good)], judge([File(good)]), a_worker_died=True) == "unknown"


def test_an_empty_history_is_no_evidence() -> None:
    assert {result.verdict for result in judge([File([])]).values()} == {"no_evidence"}
    assert {result.verdict for result in judge([]).values()} == {"no_evidence"}


@pytest.mark.parametrize(
    ("violated", "checked", "interval"),
    [
        (0, 10, (0.0, 0.27753)),
        (1, 10, (0.01788, 0.40415)),
        (81, 263, (0.25525, 0.36621)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.06238, 0.16052)),  # published: 0.0624, 0.1605
        (1, 29, (0.00611, 0.17176)),  # published: 0.0061, 0.1718
        (10, 10, (0.72247, 1.0)),
    ],
)
def test_the_interval_is_the_wilson_interval(violated: int, checked: int, interval: tuple[float, float]) -> None:
    assert wilson(violated, checked) == pytest.approx(interval, abs=1e-4)
