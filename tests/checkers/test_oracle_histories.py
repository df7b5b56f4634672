"""Generated histories obey the rules of the format, and exercise every guarantee."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings

from stalewatch.history.operation import Append, Draw, Fault, Final, Operation, Read, Write
from tests.checkers.histories import (
    Truncation,
    growing_registers,
    history_text,
    multi_file_histories,
    random_growing_register,
    random_history,
    single_file_histories,
)
from tests.checkers.oracle import GUARANTEES, File, Place, duplicate_items, judge, overall, phantom_items

SESSION_KINDS = (Write, Read, Append, Draw)
SEEDS = range(2000)


def broken_rules(files: list[File]) -> Iterator[str]:
    """Yield every violation of the rules in the description of the format."""
    versions: Counter[tuple[str, int]] = Counter()
    sessions: dict[tuple[int, str], list[tuple[int, int, int]]] = {}
    for file in files:
        ends = [op.end for op in file.operations if op.end is not None]
        yield from (f"{b} after {a}" for a, b in pairwise(ends) if b < a)
        for line, op in enumerate(file.operations):
            if op.end is None and not may_never_end(op):
                yield f"{op} has no end"
            if op.end is not None and op.end < op.start:
                yield f"{op} ends before it starts"
            if isinstance(op, Write | Read) and op.version is None and op.outcome == "ok":
                yield f"{op} has no version"
            if isinstance(op, Write) and op.version is not None:
                versions[op.key, op.version] += 1
            if isinstance(op, SESSION_KINDS) and op.outcome != "unknown" and op.end is not None:
                sessions.setdefault((file.worker, op.session), []).append((op.start, op.end, line))
    for intervals in sessions.values():
        yield from (f"{b} overlaps {a}" for a, b in pairwise(sorted(intervals)) if b[0] < a[1])
    yield from (f"two writes of {version}" for version, count in versions.items() if count > 1)


def may_never_end(op: Operation) -> bool:
    return isinstance(op, Fault) or (isinstance(op, Write | Append | Draw) and op.outcome == "unknown")


@given(single_file_histories())
@settings(max_examples=200, deadline=None)
def test_single_files_obey_the_rules(files: list[File]) -> None:
    assert len(files) == 1
    assert list(broken_rules(files)) == []


@given(multi_file_histories())
@settings(max_examples=200, deadline=None)
def test_several_files_obey_the_rules(files: list[File]) -> None:
    assert len(files) > 1
    assert list(broken_rules(files)) == []


@given(growing_registers())
@settings(max_examples=200, deadline=None)
def test_write_starts_rise_with_versions_in_growing_registers(files: list[File]) -> None:
    writes = [op for op in files[0].operations if isinstance(op, Write)]
    ordered = sorted(writes, key=lambda write: (write.version, write.start))
    assert all(a.start <= b.start for a, b in pairwise(ordered))
    assert list(broken_rules(files)) == []


def test_seeded_histories_obey_the_rules_and_are_repeatable() -> None:
    for seed in SEEDS:
        assert list(broken_rules(random_history(seed))) == []
        assert list(broken_rules(random_growing_register(seed, rising=False))) == []
    assert random_history(7) == random_history(7) != random_history(8)
    assert {len(random_history(seed, files=2)) for seed in range(9)} == {2}


def features(files: list[File]) -> Iterator[str]:
    """Name the features of a history that a checker might get wrong."""
    results = judge(files)
    yield from (f"{name} {cause}" for name, result in results.items() for cause in result.causes)
    for one, other in combinations(files, 2):
        if one.worker == other.worker:
            yield "two files of a worker"
            if sessions_of(one) & sessions_of(other):
                yield "a session in two files"
    yield from ("phantom version in a final read" for at in results["phantom_reads"].violating if is_final(files, at))
    for file in files:
        yield "incomplete" if not file.complete else "complete"
        yield "no clock error known" if file.clock_error_ns is None else "clock error"
        yield from (name for op in file.operations for name in _features_of(op))
        yield from _session_ties(file)
    starts = [op.start for file in files for op in file.operations]
    if len(set(starts)) < len(starts):
        yield "equal starts"


def sessions_of(file: File) -> set[str]:
    return {op.session for op in file.operations if isinstance(op, SESSION_KINDS)}


def is_final(files: list[File], at: Place) -> bool:
    return isinstance(files[at[0]].operations[at[1]], Final)


def _features_of(op: Operation) -> Iterator[str]:
    kind = type(op).__name__.lower()
    yield f"{kind} without end" if op.end is None else f"instant {kind}" if op.end == op.start else kind
    if isinstance(op, Fault):
        return
    yield f"{op.outcome} {kind}"
    if isinstance(op, Write):
        yield "superseded" if op.superseded else "not superseded"
        yield "write without version" if op.version is None else "write with version"
    if isinstance(op, Read):
        yield "read of 0" if op.version == 0 else "read of more"
        yield "foreign read" if op.owner is not None else "own read"
    if isinstance(op, Read | Final):
        yield f"{kind} {'without siblings' if op.siblings is None else 'with siblings' if op.siblings else 'alone'}"
    if isinstance(op, Read | Write) and op.depends is not None:
        yield f"{kind} depends"


def _session_ties(file: File) -> Iterator[str]:
    """Name pairs of a session in which an instantaneous operation is at the end of another."""
    steps = [op for op in file.operations if isinstance(op, SESSION_KINDS) and op.outcome == "ok"]
    for a, b in combinations(steps, 2):
        if (a.session, a.end) == (b.session, b.end):
            lengths = (a.start == a.end, b.start == b.end)
            yield {(True, True): "two instants", (True, False): "instant first", (False, True): "last"}[lengths]


@pytest.mark.parametrize(
    "feature",
    """
    incomplete|no clock error known|equal starts|superseded|write without version|write without end|append without end
    |draw without end|fault without end|fault|read of 0|foreign read|read depends|write depends|unknown write
    |fail write|unknown read|fail append|unknown draw|unknown final|ok final|ok append|ok draw|instant write
    |stale_reads lost|read_regressions vanished|unexpected_items duplicate|unexpected_items phantom
    |two files of a worker|a session in two files|phantom version in a final read
    |instant read|read alone|read with siblings|final alone|final with siblings|two instants|instant first
    |last
    """.replace("\n    ", "").split("|"),
)
def test_every_feature_occurs_in_at_least_one_of_fifty_histories(feature: str, seen: Counter[str]) -> None:
    assert seen[feature] > len(SEEDS) / 50


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    return Counter(feature for seed in SEEDS for feature in set(features(random_history(seed))))


def test_every_guarantee_often_holds_and_is_often_violated() -> None:
    verdicts: Counter[tuple[str, str]] = Counter()
    for seed in SEEDS:
        files = random_history(seed)
        results = judge(files)
        verdicts.update((name, result.verdict) for name, result in results.items())
        verdicts["run", overall(files, results)] += 1
        verdicts["items", "duplicate"] += bool(duplicate_items(files))
        verdicts["items", "phantom"] += bool(phantom_items(files))
    expected = [(name, verdict) for name in GUARANTEES for verdict in ("holds", "violated")]
    expected += [("conflicts", "not_applicable"), ("items", "duplicate"), ("items", "phantom")]
    expected += [("run", verdict) for verdict in ("valid", "invalid", "unknown")]
    assert [which for which in expected if verdicts[which] < len(SEEDS) / 50] == []


# The text of a history file.

FILE = File(
    [
        Write(session="s1", key="k", version=3, start=1, end=2, outcome="ok"),
        Read(session="s2", key="k", version=2, start=3, end=4, outcome="ok", siblings=[3], node="b"),
        Append(session="s1", key="list", item="s1-7", start=1, end=None, outcome="unknown"),
        Fault(fault="kill", node="a", start=5, end=8),
        Final(key="k", version=3, siblings=[], start=9, end=10, outcome="ok"),
        Final(key="list", items=["s1-7"], start=9, end=10, outcome="ok"),
    ],
    worker=4,
    clock_error_ns=6,
)


def test_the_text_has_the_documented_format() -> None:
    header, *lines = history_text(FILE).splitlines()
    assert header == (
        '{"format":"stalewatch-history","version":1,"run":"r1","worker":4,"database":"mongo","horizon_s":120,'
        '"clock_error_ns":null,"closes":true,"registers":"growing","options":{}}'
    )
    assert lines == [
        '{"op":"write","session":"s1","key":"k","version":3,"start":1,"end":2,"outcome":"ok"}',
        '{"op":"read","session":"s2","key":"k","version":2,"start":3,"end":4,"outcome":"ok","siblings":[3],"node":"b"}',
        '{"op":"append","session":"s1","key":"list","item":"s1-7","start":1,"end":null,"outcome":"unknown"}',
        '{"op":"fault","fault":"kill","node":"a","start":5,"end":8}',
        '{"op":"final","key":"k","version":3,"siblings":[],"start":9,"end":10,"outcome":"ok"}',
        '{"op":"final","key":"list","items":["s1-7"],"start":9,"end":10,"outcome":"ok"}',
        '{"op":"close","clock_error_ns":6}',
    ]


def test_without_a_close_line_the_header_has_the_clock_error() -> None:
    header, *_, last = map(json.loads, history_text(FILE, closes=False).splitlines())
    assert (header["closes"], header["clock_error_ns"], last["op"]) == (False, 6, "final")


@pytest.mark.parametrize(
    ("truncation", "ending"),
    [("no close", '"ok"}\n'), ("no newline", '{"op":"close","clock_error_ns":7}'), ("half a line", '\n{"op":"wri')],
)
def test_an_incomplete_file_is_truncated_as_requested(truncation: Truncation, ending: str) -> None:
    text = history_text(File(FILE.operations, clock_error_ns=6, complete=False), truncation=truncation)
    assert text.endswith(ending)
    assert json.loads(text.splitlines()[0])["clock_error_ns"] == 6


def test_every_generated_history_can_be_written() -> None:
    for seed in range(300):
        for file in random_history(seed):
            lines = [json.loads(line) for line in history_text(file).splitlines()]
            assert len(lines) == 1 + len(file.operations) + file.complete
            assert [line["end"] for line in lines[1 : 1 + len(file.operations)]] == [op.end for op in file.operations]
