"""The oracle itself: for every guarantee the smallest history that breaks it, and the nearest one that does not."""
# ruff: noqa: ANN401 (the builders pass any field on)

from collections import Counter
from typing import Any, NamedTuple

import pytest

from history.operation import Append, Depends, Draw, Final, Operation, Read, Write
from tests.checkers.oracle import (
    GUARANTEES,
    File,
    Place,
    duplicate_items,
    judge,
    overall,
    phantom_items,
    wilson,
)


def write(version: int | None, start: int, end: int | None, **more: Any) -> Write:
    return Write(**{"session": "s1", "key": "k", "outcome": "ok", **more}, version=version, start=start, end=end)


def read(version: int | None, start: int, end: int, **more: Any) -> Read:
    return Read(**{"session": "s2", "key": "k", "outcome": "ok", **more}, version=version, start=start, end=end)


def draw(value: int, start: int, end: int, **more: Any) -> Draw:
    return Draw(**{"session": "s1", "key": "k", "outcome": "ok", **more}, value=value, start=start, end=end)


def append(item: str, start: int, end: int | None, **more: Any) -> Append:
    return Append(**{"session": "s1", "key": "k", "outcome": "ok", **more}, item=item, start=start, end=end)


def final(held: int | list[str | int] | None, start: int, end: int, **more: Any) -> Final:
    field = "items" if isinstance(held, list) else "version"
    return Final(**{"key": "k", "outcome": "ok", field: held, **more}, start=start, end=end)


def after(key: str, version: int, cause: str = "writes_follow_reads") -> Depends:
    return Depends(key=key, version=version, cause=cause)


class Twins(NamedTuple):
    """Two histories of one file, a small difference apart; the first breaks the guarantee at one place."""

    guarantee: str
    difference: str
    broken: list[Operation]
    at: int
    legal: list[Operation]
    legal_verdict: str = "holds"


ME = {"session": "s1"}

TWINS = [
    Twins(
        "stale_reads",
        "the read shows the version written before it",
        broken=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        legal=[write(1, 1, 2), read(1, 3, 4)],
    ),
    Twins(
        "stale_reads",
        "the read starts in the nanosecond in which the write ends",
        broken=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        legal=[write(1, 1, 3), read(0, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "stale_reads",
        "the write may not have been applied",
        broken=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        legal=[write(1, 1, 2, outcome="unknown"), read(0, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "stale_reads",
        "a superseded write is acknowledged, the register is at least that new",
        broken=[write(2, 1, 2, superseded=True), read(1, 3, 4)],
        at=1,
        legal=[write(2, 1, 2, superseded=True), read(3, 3, 4)],
    ),
    Twins(
        "stale_reads",
        "a sibling is not what the read shows",
        broken=[write(2, 1, 2), read(1, 3, 4, siblings=[2])],
        at=1,
        legal=[write(2, 1, 2), read(2, 3, 4, siblings=[1])],
    ),
    Twins(
        "stale_reads",
        "the read failed",
        broken=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        legal=[write(1, 1, 2), read(0, 3, 4, outcome="fail")],
        legal_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "another session wrote",
        broken=[write(1, 1, 2), read(0, 3, 4, **ME)],
        at=1,
        legal=[write(1, 1, 2), read(0, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "in its own session a write that ends as the read starts is earlier; in time it is not",
        broken=[write(1, 1, 3), read(0, 3, 4, **ME)],
        at=1,
        legal=[read(0, 2, 3, **ME), write(1, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "a write of no length at the end of the read comes after it, wherever it stands; at its start, before",
        broken=[write(1, 3, 3), read(0, 3, 5, **ME)],
        at=1,
        legal=[write(1, 5, 5), read(0, 3, 5, **ME)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "of two operations of no length at one time the order in the file decides",
        broken=[write(1, 3, 3), read(0, 3, 3, **ME)],
        at=1,
        legal=[read(0, 3, 3, **ME), write(1, 3, 3)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "monotonic_reads",
        "another session read",
        broken=[read(2, 1, 2), read(1, 3, 4)],
        at=1,
        legal=[read(2, 1, 2, **ME), read(1, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "monotonic_reads",
        "the first of two reads that touch comes first by its start, not by the order of lines",
        broken=[read(1, 3, 3), read(2, 1, 3)],
        at=0,
        legal=[read(2, 3, 3), read(1, 1, 3)],
    ),
    Twins(
        "monotonic_reads",
        "another worker's key is judged too",
        broken=[read(2, 1, 2, owner=5), read(1, 3, 4, owner=5)],
        at=1,
        legal=[read(2, 1, 2, owner=5), read(2, 3, 4, owner=5)],
    ),
    Twins(
        "read_regressions",
        "the second read starts in the nanosecond in which the first ends",
        broken=[read(2, 1, 2, **ME), read(1, 3, 4)],
        at=1,
        legal=[read(2, 1, 3, **ME), read(1, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "read_regressions",
        "time counts within a session too, not its own order",
        broken=[read(2, 1, 2), read(1, 3, 4)],
        at=1,
        legal=[read(2, 1, 3), read(1, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "consistent_prefix",
        "the second read shows what the first one's value depends on",
        broken=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        legal=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(3, 2, 3)],
    ),
    Twins(
        "consistent_prefix",
        "the reply is read after the post",
        broken=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        legal=[read(2, 1, 2), read(1, 2, 3, key="reply", depends=after("k", 3))],
        legal_verdict="no_evidence",
    ),
    Twins(
        "consistent_prefix",
        "a write of the session depends on more, but a value read does not",
        broken=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        legal=[write(1, 1, 2, key="reply", session="s2", depends=after("k", 3)), read(2, 2, 3)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "phantom_reads",
        "the version was written, if perhaps in vain",
        broken=[read(1, 1, 2)],
        at=0,
        legal=[read(1, 1, 2), write(1, 2, None, outcome="unknown")],
    ),
    Twins(
        "phantom_reads",
        "the write starts in the nanosecond in which the read ends",
        broken=[read(1, 1, 2), write(1, 3, 4)],
        at=0,
        legal=[read(1, 1, 3), write(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "the write did not fail for certain",
        broken=[write(1, 1, 2, outcome="fail"), read(1, 3, 4)],
        at=1,
        legal=[write(1, 1, 2, outcome="unknown"), read(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "nothing needs to be written for a 0",
        broken=[read(1, 1, 2)],
        at=0,
        legal=[read(0, 1, 2)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "a newer version covers the older one's loss",
        broken=[write(2, 1, 2), final(1, 3, 4)],
        at=0,
        legal=[write(2, 1, 2), final(3, 3, 4)],
    ),
    Twins(
        "lost_writes",
        "a sibling holds it",
        broken=[write(2, 1, 2), final(1, 3, 4, siblings=[])],
        at=0,
        legal=[write(2, 1, 2), final(1, 3, 4, siblings=[2])],
    ),
    Twins(
        "lost_writes",
        "the write ended after the final read had started",
        broken=[write(2, 1, 2), final(1, 3, 4)],
        at=0,
        legal=[write(2, 1, 3), final(1, 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "the last final read counts, not the first",
        broken=[write(2, 1, 2), final(2, 3, 4), final(1, 5, 6)],
        at=0,
        legal=[write(2, 1, 2), final(1, 3, 4), final(2, 5, 6)],
    ),
    Twins(
        "lost_writes",
        "of two final reads that end together the later line counts",
        broken=[write(2, 1, 2), final(2, 3, 4), final(1, 3, 4)],
        at=0,
        legal=[write(2, 1, 2), final(1, 3, 4), final(2, 3, 4)],
    ),
    Twins(
        "lost_writes",
        "a final read that is not ok proves nothing, the last ok one does",
        broken=[write(2, 1, 2), final(1, 3, 4), final(2, 5, 6, outcome="unknown")],
        at=0,
        legal=[write(2, 1, 2), final(2, 3, 4), final(1, 5, 6, outcome="unknown")],
    ),
    Twins(
        "lost_writes",
        "the item is in the list",
        broken=[append("a", 1, 2), final(["b"], 3, 4)],
        at=0,
        legal=[append("a", 1, 2), final(["b", "a"], 3, 4)],
    ),
    Twins(
        "lost_writes",
        "the append was not acknowledged",
        broken=[append("a", 1, 2), final([], 3, 4)],
        at=0,
        legal=[append("a", 1, 2, outcome="unknown"), final([], 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "the append ended after the final read had started",
        broken=[append("a", 1, 2), final([], 3, 4)],
        at=0,
        legal=[append("a", 1, 3), final([], 3, 4)],
        legal_verdict="no_evidence",
    ),
    Twins(
        "conflicts",
        "the field is there, and empty",
        broken=[read(1, 1, 2, siblings=[2])],
        at=0,
        legal=[read(1, 1, 2, siblings=[])],
    ),
    Twins(
        "conflicts",
        "the field is not there",
        broken=[final(1, 1, 2, siblings=[2])],
        at=0,
        legal=[final(1, 1, 2)],
        legal_verdict="not_applicable",
    ),
    Twins(
        "conflicts",
        "nothing was read",
        broken=[read(1, 1, 2, siblings=[2])],
        at=0,
        legal=[read(1, 1, 2, siblings=[2], outcome="unknown")],
        legal_verdict="no_evidence",
    ),
    Twins(
        "unique_ids",
        "the value differs",
        broken=[draw(7, 1, 3), draw(7, 2, 4)],
        at=1,
        legal=[draw(7, 1, 3), draw(8, 2, 4)],
    ),
    Twins(
        "unique_ids",
        "the key differs",
        broken=[draw(7, 1, 3), draw(7, 2, 3)],
        at=1,
        legal=[draw(7, 1, 3), draw(7, 2, 3, key="other")],
    ),
    Twins(
        "unique_ids",
        "the draws overlap, so either may come first",
        broken=[draw(7, 1, 2), draw(6, 3, 4)],
        at=1,
        legal=[draw(7, 1, 3), draw(6, 3, 4)],
    ),
]


def places(*at: int) -> set[Place]:
    return {(0, line) for line in at}


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: f"{twins.guarantee}: {twins.difference}")
def test_the_smallest_history_breaks_the_guarantee_and_its_twin_does_not(twins: Twins) -> None:
    broken = judge([File(twins.broken)])[twins.guarantee]
    assert (broken.verdict, broken.violating) == ("violated", places(twins.at))
    legal = judge([File(twins.legal)])[twins.guarantee]
    assert (legal.verdict, legal.violating) == (twins.legal_verdict, set())


def test_every_guarantee_has_twins() -> None:
    assert {twins.guarantee for twins in TWINS} == set(GUARANTEES)


def test_a_read_is_checked_only_with_a_floor_above_0() -> None:
    result = judge([File([read(0, 1, 2), read(3, 1, 2, key="x"), write(1, 1, 2), read(0, 3, 4)])])
    assert result["stale_reads"].checked == 1
    assert result["stale_reads"].floors == {(0, 3): 1}
    assert result["read_regressions"].checked == 0


def test_a_stale_read_is_as_old_as_the_earliest_newer_write() -> None:
    operations: list[Operation] = [
        write(1, 1, 2),
        write(2, 10, 20),
        write(3, 20, 30),
        read(1, 100, 101),
        write(4, 40, 110),
    ]
    result = judge([File(operations)])["stale_reads"]
    assert (result.checked, result.violated, result.staleness_ns) == (1, 1, [80])


def test_a_stale_read_is_a_conflict_when_a_sibling_reaches_the_floor() -> None:
    operations: list[Operation] = [
        write(2, 1, 2),
        read(1, 3, 4, siblings=[1]),
        read(1, 3, 4, siblings=[2]),
        read(0, 3, 4),
    ]
    assert judge([File(operations)])["stale_reads"].causes == Counter(lag=2, conflict=1)


def test_a_broken_prefix_has_the_cause_of_the_dependency_that_gives_the_floor() -> None:
    operations: list[Operation] = [
        read(1, 1, 2, key="b", depends=after("k", 2, "writes_follow_reads")),
        read(1, 2, 3, key="a", depends=after("k", 3, "monotonic_writes")),
        read(1, 3, 4),
    ]
    assert judge([File(operations)])["consistent_prefix"].causes == Counter(monotonic_writes=1)


def test_of_dependencies_that_give_the_same_floor_the_first_in_the_session_is_the_cause() -> None:
    operations: list[Operation] = [
        read(1, 2, 2, key="b", depends=after("k", 3, "writes_follow_reads")),
        read(1, 1, 2, key="a", depends=after("k", 3, "monotonic_writes")),
        read(1, 3, 4),
    ]
    assert judge([File(operations)])["consistent_prefix"].causes == Counter(monotonic_writes=1)


def test_a_final_read_of_version_0_loses_every_write() -> None:
    operations: list[Operation] = [write(1, 1, 2), write(2, 2, 3), final(0, 4, 5)]
    assert judge([File(operations)])["lost_writes"].violating == places(0, 1)


def test_a_draw_is_counted_once_for_both_reasons() -> None:
    operations: list[Operation] = [draw(7, 1, 2), draw(9, 1, 2), draw(7, 3, 4), draw(7, 5, 6, outcome="unknown")]
    result = judge([File(operations)])["unique_ids"]
    assert (result.checked, result.violating) == (3, places(2))


def test_one_phantom_read_raises_the_floor_of_others() -> None:
    results = judge([File([write(1, 1, 2), read(9, 3, 4), read(1, 5, 6)])])
    assert results["phantom_reads"].violating == places(1)
    assert results["read_regressions"].violating == places(2)


def test_items_that_stand_twice_and_items_never_appended_are_counted_apart() -> None:
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
def test_a_read_from_the_future_must_end_before_the_write_beyond_both_clock_errors(
    error: int | None, verdict: str
) -> None:
    reader = File([read(1, 1, 10, owner=1)], worker=2, clock_error_ns=5)
    writer = File([write(1, 20, 21)], worker=1, clock_error_ns=error)
    assert judge([reader, writer])["phantom_reads"].verdict == verdict


def test_within_a_file_clock_errors_do_not_count() -> None:
    assert judge([File([write(1, 1, 2), read(0, 3, 4)], clock_error_ns=None)])["stale_reads"].verdict == "violated"


def test_sessions_of_different_workers_differ_though_their_names_agree() -> None:
    files = [File([read(2, 1, 2)], worker=1), File([read(1, 3, 4)], worker=2)]
    results = judge(files)
    assert results["monotonic_reads"].verdict == "no_evidence"
    assert results["read_regressions"].violating == {(1, 0)}


OWNERS = {
    "no file": [],
    "an incomplete file": [File([write(2, 1, 2), write(3, 1, 2)], worker=1, complete=False)],
    "a complete file": [File([write(2, 1, 2), write(3, 1, 2)], worker=1)],
}


@pytest.mark.parametrize(
    ("owner", "judged"), [("no file", False), ("an incomplete file", False), ("a complete file", True)]
)
def test_reads_of_another_workers_key_need_its_complete_file(owner: str, *, judged: bool) -> None:
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
def test_reads_that_are_not_judged_do_not_say_whether_conflicts_could_be_seen(
    own: list[Read], foreign: list[Read], verdict: str
) -> None:
    assert judge([File([*own, *foreign], worker=2)])["conflicts"].verdict == verdict


def test_reads_that_are_not_judged_are_evidence_for_others() -> None:
    reader = File([read(3, 1, 2, owner=1)], worker=2)
    owner = File([read(2, 5, 6)], worker=1, complete=False)
    assert judge([reader, owner])["read_regressions"].violating == {(1, 0)}


def test_a_worker_owns_what_it_says_that_it_owns() -> None:
    operations: list[Operation] = [write(1, 1, 2), read(0, 3, 4, owner=1)]
    assert judge([File(operations, worker=1, complete=False)])["stale_reads"].verdict == "violated"


def test_in_an_incomplete_file_a_read_of_an_unrecorded_version_is_not_checked() -> None:
    operations: list[Operation] = [
        write(1, 1, 2, outcome="fail"),
        read(1, 3, 4),  # recorded, and failed
        read(2, 3, 4),  # perhaps written in a line that was cut
    ]
    result = judge([File(operations, complete=False)])["phantom_reads"]
    assert (result.checked, result.violating) == (1, places(1))
    result = judge([File(operations)])["phantom_reads"]
    assert (result.checked, result.violating) == (2, places(1, 2))


def test_keys_that_an_incomplete_file_read_as_anothers_are_not_its_own() -> None:
    reader = File([read(7, 1, 2, owner=1)], worker=2, complete=False)
    owner = File([write(1, 1, 2)], worker=1)
    assert judge([reader, owner])["phantom_reads"].violating == places(0)


def test_the_last_final_read_is_the_one_that_ended_last_in_whichever_file() -> None:
    early, late = File([write(2, 1, 2), final(2, 3, 4)], worker=1), File([final(1, 5, 6)], worker=2)
    assert judge([early, late])["lost_writes"].violating == {(0, 0)}
    assert judge([late, early])["lost_writes"].violating == {(1, 0)}


def test_a_write_that_cannot_be_placed_before_the_read_does_not_make_it_staler() -> None:
    reader = File([write(2, 30, 40), read(1, 100, 101)], worker=1)
    undated = File([write(3, 1, 2)], worker=2, clock_error_ns=None)
    assert judge([reader, undated])["stale_reads"].staleness_ns == [60]


# Verdicts.


def test_the_run_is_invalid_if_any_guarantee_but_conflicts_is_violated() -> None:
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


def test_a_history_of_nothing_proves_nothing() -> None:
    assert {result.verdict for result in judge([File([])]).values()} == {"no_evidence"}
    assert {result.verdict for result in judge([]).values()} == {"no_evidence"}


@pytest.mark.parametrize(
    ("violated", "checked", "interval"),
    [
        (0, 10, (0.0, 0.27753)),
        (1, 10, (0.01788, 0.40415)),
        (81, 263, (0.25525, 0.36621)),  # Newcombe 1998, table I, method 3
        (15, 148, (0.06238, 0.16052)),  # there: 0.0624, 0.1605
        (1, 29, (0.00611, 0.17176)),  # there: 0.0061, 0.1718
        (10, 10, (0.72247, 1.0)),
    ],
)
def test_the_interval_is_wilsons(violated: int, checked: int, interval: tuple[float, float]) -> None:
    assert wilson(violated, checked) == pytest.approx(interval, abs=1e-4)
