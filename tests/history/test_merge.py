"""Several files of one run are merged by end, and ordered as far as their clocks allow."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings

from stalewatch.checkers.files import judge_files
from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Operation
from stalewatch.history.reader import BadHistory, History
from tests.checkers.histories import history_text, multi_file_histories
from tests.checkers.oracle import File
from tests.history.lines import CLOSE, ENDINGS, as_operations, fault, file_of, final, header, operations_of, read, write

Lines = list[dict[str, Any]]


class Worker(NamedTuple):
    """One worker's file: its lines, the clock errors in its header and close line, and its suffix."""

    lines: Lines
    clock_error_ns: int | None = 0
    in_header: int | None = 0
    closes: bool = True
    number: int | None = None
    suffix: str = ".jsonl"


def files_of(folder: Path, *workers: Worker) -> list[Path]:
    return [
        file_of(
            folder,
            header(worker=place if worker.number is None else worker.number, clock_error_ns=worker.in_header),
            *worker.lines,
            *([{**CLOSE, "clock_error_ns": worker.clock_error_ns}] if worker.closes else []),
            name=f"{place}{worker.suffix}",
        )
        for place, worker in enumerate(workers)
    ]


def judged(folder: Path, *workers: Worker) -> Judge:
    return judge_files(files_of(folder, *workers))


def counts(judge: Judge, guarantee: str) -> tuple[int, int]:
    verdict = judge.verdicts()[guarantee]
    return verdict.checked, verdict.violated


def bad(*paths: Path) -> str:
    """Return the message that rejects the files."""
    with pytest.raises(BadHistory) as caught:
        operations_of(*paths)
    return str(caught.value)


# Order.


def test_operations_come_in_order_of_end_with_the_index_of_their_file(tmp_path: Path) -> None:
    first = [write(1, 1, 2), write(2, 3, 7), write(3, 8, 9)]
    second = [read(1, 2, 4), read(2, 6, 8), fault(3, 20)]
    third = [read(1, 2, 3)]
    paths = files_of(tmp_path, Worker(first), Worker(second, suffix=".jsonl.zst"), Worker(third, suffix=".jsonl.gz"))
    found = [((operation.start, operation.end), source) for operation, source in History(paths).operations()]
    in_order = [((1, 2), 0), ((2, 3), 2), ((2, 4), 1), ((3, 7), 0), ((6, 8), 1), ((8, 9), 0), ((3, 20), 1)]
    assert found == in_order


def test_operations_of_several_files_that_end_together_come_in_order_of_start(tmp_path: Path) -> None:
    first, second = [read(0, 1, 5), read(0, 4, 5, session="a")], [read(0, 2, 5), read(0, 5, 5, session="b")]
    paths = files_of(tmp_path, Worker(first), Worker(second))
    for order in (paths, paths[::-1]):
        assert [operation.start for operation in operations_of(*order)] == [1, 2, 4, 5]


def test_operations_that_start_and_end_together_come_in_order_of_files(tmp_path: Path) -> None:
    paths = files_of(tmp_path, Worker([read(1, 1, 5)]), Worker([read(2, 1, 5)]))
    assert [operation.version for operation in operations_of(*paths)] == [1, 2]  # type: ignore[union-attr] # reads
    assert [operation.version for operation in operations_of(*reversed(paths))] == [2, 1]  # type: ignore[union-attr]


def test_operations_of_one_file_that_end_together_keep_the_order_of_their_lines(tmp_path: Path) -> None:
    lines = [read(0, 3, 9), read(0, 1, 9, session="a")]
    other = Worker([read(0, 2, 9)])
    assert [operation.start for operation in operations_of(*files_of(tmp_path, Worker(lines)))] == [3, 1]
    assert [operation.start for operation in operations_of(*files_of(tmp_path, Worker(lines), other))] == [2, 3, 1]


def test_the_last_final_read_of_several_that_end_together_is_the_one_that_started_last(tmp_path: Path) -> None:
    early, late = [write(1, 1, 2), final(1, 3, 9)], [final(0, 4, 9)]
    for workers in ((Worker(early), Worker(late)), (Worker(late), Worker(early))):
        assert counts(judged(tmp_path, *workers), "lost_writes") == (1, 1)


def test_an_operation_that_never_ended_keeps_its_place_in_its_file(tmp_path: Path) -> None:
    first = [write(1, 90, None, outcome="unknown"), write(2, 1, 4), write(3, 0, None, outcome="unknown")]
    second = [read(0, 1, 2), read(0, 4, 5), fault(1, None)]
    paths = files_of(tmp_path, Worker(first), Worker(second))
    assert [operation.start for operation in operations_of(*paths)] == [90, 1, 1, 0, 4, 1]


def by_end(operations: list[tuple[Operation, int]]) -> list[int]:
    return [operation.end for operation, _ in operations if operation.end is not None]


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(files=multi_file_histories())
def test_merging_loses_nothing_and_ends_never_fall(files: list[File], tmp_path: Path) -> None:
    paths = []
    for index, file in enumerate(files):
        paths.append(tmp_path / f"{index}.jsonl")
        paths[-1].write_text(history_text(file))
    found = list(History(paths).operations())
    assert by_end(found) == sorted(by_end(found))
    for index, file in enumerate(files):
        alone = [operation for operation, source in found if source == index]
        assert alone == operations_of(paths[index])
        assert sorted(map(repr, alone)) == sorted(map(repr, file.operations))


# One run.


def test_files_of_another_run_are_rejected(tmp_path: Path) -> None:
    one = file_of(tmp_path, header(run="r1"), CLOSE, name="one.jsonl")
    other = file_of(tmp_path, header(run="r2", worker=1), CLOSE, name="other.jsonl")
    same = file_of(tmp_path, header(run="r1", worker=1, database="couch"), CLOSE, name="same.jsonl")
    assert bad(one, other) == f"{other}:1: belongs to run 'r2', but {one} to run 'r1'"
    assert bad(other, one, same) == f"{one}:1: belongs to run 'r1', but {other} to run 'r2'"
    assert operations_of(one, same) == []


def test_no_two_files_write_the_same_version_of_a_key(tmp_path: Path) -> None:
    twice = files_of(tmp_path, Worker([write(1, 1, 2)]), Worker([write(2, 1, 2), write(1, 3, 4)]))
    assert bad(*twice) == f"{twice[1]}:3: version 1 of key 'k' is written twice"
    lost = files_of(tmp_path, Worker([write(1, 5, 6)]), Worker([write(1, 1, None, outcome="unknown")]))
    assert "version 1 of key 'k' is written twice" in bad(*lost)
    once = files_of(tmp_path, Worker([write(1, 1, 2)]), Worker([write(2, 1, 2), write(1, 3, 4, key="other")]))
    assert len(operations_of(*once)) == 3


def test_a_copy_of_a_file_is_rejected_because_of_its_writes(tmp_path: Path) -> None:
    path, *_ = files_of(tmp_path, Worker([write(1, 1, 2)]))
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(path.read_bytes())
    assert bad(path, copy) == f"{copy}:2: version 1 of key 'k' is written twice"


def test_the_invalid_file_is_named(tmp_path: Path) -> None:
    for suffix in ENDINGS:
        good, wrong = files_of(tmp_path, Worker([read(0, 1, 2)]), Worker([read(0, 1, 2), read(0, 0, 1)], suffix=suffix))
        assert bad(good, wrong).startswith(f"{wrong}:3: ")
        assert bad(wrong, good).startswith(f"{wrong}:3: ")


def test_the_longest_horizon_is_used(tmp_path: Path) -> None:
    paths = [
        file_of(tmp_path, header(horizon_s=s, worker=place), CLOSE, name=f"{place}") for place, s in enumerate((1, 0.5))
    ]
    assert History(paths).horizon_ns == 1_000_000_000
    assert History(paths[1:]).horizon_ns == 500_000_000
    endless = file_of(tmp_path, header(horizon_s=10**400), CLOSE)
    assert History([endless]).horizon_ns > 10**18


# Clocks: a before b means a.end + e_a < b.start - e_b.

LAGGING = [write(1, 10, 20)]


def late_read(start: int) -> Lines:
    return [read(0, start, 100, owner=0)]


@pytest.mark.parametrize(
    ("start", "errors", "ordered"),
    [
        (21, (0, 0), True),
        (20, (0, 0), False),
        (26, (3, 2), True),
        (25, (3, 2), False),
        (26, (5, 0), True),
        (26, (0, 5), True),
        (25, (5, 0), False),
        (25, (0, 5), False),
        (99, (None, 0), False),
        (99, (0, None), False),
        (99, (None, None), False),
    ],
)
def test_between_files_an_end_precedes_a_start_only_beyond_both_clock_errors(
    start: int,
    errors: tuple[int | None, int | None],
    ordered: bool,  # noqa: FBT001 # a column of the table
    tmp_path: Path,
) -> None:
    judge = judged(tmp_path, Worker(LAGGING, errors[0]), Worker(late_read(start), errors[1]))
    assert counts(judge, "stale_reads") == ((1, 1) if ordered else (0, 0))
    assert judge.verdict() == ("invalid" if ordered else "unknown")


def test_within_a_file_the_clock_error_does_not_matter(tmp_path: Path) -> None:
    for error in (1000, None):
        alone = judged(tmp_path, Worker([write(1, 10, 20), read(0, 21, 22)], error))
        assert counts(alone, "stale_reads") == (1, 1)
        with_another = judged(tmp_path, Worker([write(1, 10, 20), read(0, 21, 22)], error), Worker([], 0))
        assert counts(with_another, "stale_reads") == (1, 1)


@pytest.mark.parametrize(
    ("in_header", "in_close", "closes", "counted"),
    [
        (0, 1000, True, 1000),
        (1000, 0, True, 0),
        (None, 0, True, 0),
        (0, None, True, None),
        (1000, 0, False, 1000),
        (0, 1000, False, 0),
    ],
)
def test_the_clock_error_of_the_close_line_overrides_that_of_the_header(
    in_header: int | None,
    in_close: int | None,
    closes: bool,  # noqa: FBT001 # a column of the table
    counted: int | None,
    tmp_path: Path,
) -> None:
    lagging = Worker(LAGGING, in_close, in_header, closes)
    paths = files_of(tmp_path, lagging, Worker(late_read(50)))
    assert [source.clock_error_ns for source in History(paths).sources] == [counted, 0]
    owned = judged(tmp_path, lagging, Worker([read(0, 50, 100)]))
    assert counts(owned, "stale_reads") == ((1, 1) if counted == 0 else (0, 0))


# Owners of keys.

READS = [read(1, 30, 40, owner=0), read(0, 50, 60, owner=0)]


def test_a_read_of_another_workers_key_is_judged_if_that_workers_file_is_complete(tmp_path: Path) -> None:
    judge = judged(tmp_path, Worker(LAGGING), Worker(READS))
    assert judge.verdict() == "invalid"
    assert counts(judge, "stale_reads") == (2, 1)
    assert counts(judge, "read_regressions") == (1, 1)
    assert counts(judge, "phantom_reads") == (1, 0)
    assert counts(judge, "monotonic_reads") == (1, 1)


@pytest.mark.parametrize("owner", ["incomplete", "absent", "another worker"])
def test_without_the_owners_complete_file_only_monotonic_reads_is_judged(owner: str, tmp_path: Path) -> None:
    owners = {
        "incomplete": [Worker(LAGGING, closes=False)],
        "absent": [],
        "another worker": [Worker(LAGGING, number=7)],
    }
    judge = judged(tmp_path, *owners[owner], Worker(READS, number=1))
    checked = {name: verdict.checked for name, verdict in judge.verdicts().items() if verdict.checked}
    assert checked == {"monotonic_reads": 1}
    assert judge.verdict() == "invalid"


def test_in_an_incomplete_file_a_read_of_an_unrecorded_version_is_not_checked(tmp_path: Path) -> None:
    shown = [write(1, 1, 2), read(5, 3, 4)]
    assert counts(judged(tmp_path, Worker(shown)), "phantom_reads") == (1, 1)
    incomplete = judged(tmp_path, Worker(shown, closes=False))
    assert counts(incomplete, "phantom_reads") == (0, 0)
    assert (incomplete.verdict(), counts(incomplete, "stale_reads")) == ("unknown", (1, 0))


# Sessions.


def test_sessions_of_different_workers_differ_even_if_they_share_a_name(tmp_path: Path) -> None:
    mine, theirs = [write(1, 1, 2, session="s1")], [read(0, 3, 4, session="s1")]
    assert counts(judged(tmp_path, Worker(mine), Worker(theirs)), "read_your_writes") == (0, 0)
    assert counts(judged(tmp_path, Worker([*mine, *theirs])), "read_your_writes") == (1, 1)
    assert counts(judged(tmp_path, Worker(mine, number=3), Worker(theirs, number=3)), "read_your_writes") == (1, 1)


def test_a_session_of_two_files_of_a_worker_is_one(tmp_path: Path) -> None:
    files = Worker([read(2, 1, 2)], number=4), Worker([read(1, 3, 4)], number=4)
    assert counts(judged(tmp_path, *files), "monotonic_reads") == (1, 1)


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        ((1, 4), (3, 5), "1.jsonl:2"),
        ((1, 4), (2, 4), "1.jsonl:2"),
        ((2, 3), (1, 4), "1.jsonl:2"),
        ((3, 5), (1, 4), "0.jsonl:2"),
        ((3, 3), (1, 4), "1.jsonl:2"),
    ],
)
def test_a_session_overlaps_itself_in_no_two_files_of_its_worker(
    first: tuple[int, int], second: tuple[int, int], line: str, tmp_path: Path
) -> None:
    paths = files_of(tmp_path, Worker([read(1, *first)], number=4), Worker([read(1, *second)], number=4))
    assert f"{line}: session 's2' overlaps itself" in bad(*paths)
    others = files_of(tmp_path, Worker([read(1, *first)], number=4), Worker([read(1, *second)], number=5))
    assert len(operations_of(*others)) == 2


@pytest.mark.parametrize(
    ("first", "second"), [((1, 3), (3, 5)), ((4, 4), (1, 4)), ((1, 4), (4, 4)), ((1, 1), (1, 4)), ((2, 2), (2, 2))]
)
def test_a_session_may_go_on_in_another_file_of_its_worker(
    first: tuple[int, int], second: tuple[int, int], tmp_path: Path
) -> None:
    paths = files_of(tmp_path, Worker([read(1, *first)], number=4), Worker([read(1, *second)], number=4))
    assert len(operations_of(*paths)) == 2


def test_unknown_operations_may_overlap_their_session_in_another_file(tmp_path: Path) -> None:
    unknown = read(None, 1, 4, outcome="unknown")
    paths = files_of(tmp_path, Worker([unknown], number=4), Worker([read(1, 2, 3)], number=4))
    assert len(operations_of(*paths)) == 2


def test_sessions_of_different_workers_may_overlap(tmp_path: Path) -> None:
    mine, theirs = [read(0, 1, 4)], [read(0, 2, 3)]
    assert operations_of(*files_of(tmp_path, Worker(mine), Worker(theirs))) == as_operations([*theirs, *mine])
