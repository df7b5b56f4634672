"""Overwriting registers: the write that arrives last wins, so a version whose write is unknown may come back late."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import permutations
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from stalewatch.checkers.files import judge_files
from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.history.operation import Final, Operation, Outcome, Read, Write
from stalewatch.history.reader import BadHistory, History, Source
from stalewatch.history.rules import InvalidRecord, WriteTurns
from tests.checkers import oracle
from tests.checkers.histories import history_text, random_history
from tests.checkers.linearizability import linearizable
from tests.checkers.twins import ME, after, final, read, write

UNKNOWN = {"outcome": "unknown"}


def judged(operations: Iterable[Operation], *, overwriting: bool = True) -> Judge:
    judge = Judge(JudgeContext((Source(overwriting=overwriting),)))
    for operation in operations:
        judge.observe(operation)
    judge.finish()
    return judge


def counts(judge: Judge) -> dict[str, tuple[int, int]]:
    return {name: (one.checked, one.violated) for name, one in judge.verdicts().items() if one.checked}


class Twins(NamedTuple):
    """Two histories that differ in the outcome of one write; only in the first a guarantee is violated."""

    guarantee: str
    illegal: list[Operation]
    legal: list[Operation]


def twins(guarantee: str, *following: Operation, first: tuple[int, int] = (1, 2)) -> Twins:
    """Return what follows a write of version 1 that was acknowledged, and one that may take effect later."""
    return Twins(guarantee, [write(1, *first), *following], [write(1, *first, **UNKNOWN), *following])


TWINS = [
    twins("stale_reads", write(2, 3, 4), read(1, 5, 6)),
    twins("read_your_writes", write(2, 3, 4), read(1, 5, 6, **ME)),
    twins("monotonic_reads", write(2, 3, 4), read(2, 5, 6), read(1, 7, 8)),
    twins("read_regressions", write(2, 3, None, **UNKNOWN), read(2, 5, 6), read(1, 7, 8, session="s3")),
    twins("read_regressions", write(2, 3, 4), read(2, 5, 6), final(1, 7, 8)),
    twins("lost_writes", write(2, 3, 4), final(1, 7, 8)),
    twins(
        "consistent_prefix",
        write(2, 3, 4),
        read(0, 5, 6, key="effect", depends=after("k", 2)),
        read(1, 7, 8),
    ),
]


@pytest.mark.parametrize("pair", TWINS, ids=lambda pair: pair.guarantee)
def test_a_version_whose_write_may_come_late_violates_no_floor(pair: Twins, tmp_path: Path) -> None:
    for operations, violated in ((pair.illegal, 1), (pair.legal, 0)):
        file = oracle.File(operations, overwriting=True)
        live, path = judged(operations), tmp_path / "h.jsonl"
        path.write_text(history_text(file))
        assert live.verdicts()[pair.guarantee].violated == violated
        assert counts(judge_files([path])) == counts(live)
        expected = {name: (one.checked, one.violated) for name, one in oracle.judge([file]).items() if one.checked}
        assert counts(live) == expected
    growing = judged(pair.legal, overwriting=False).verdicts()
    assert any(one.violated for one in growing.values())


def test_among_acknowledged_versions_the_store_has_no_excuse() -> None:
    writes: list[Operation] = [write(1, 1, 2), write(2, 3, 4, **UNKNOWN), write(3, 5, 6)]
    assert counts(judged([*writes, read(2, 7, 8)])) == {"phantom_reads": (1, 0)}
    assert counts(judged([*writes, read(1, 7, 8)])) == {"phantom_reads": (1, 0), "stale_reads": (1, 1)}
    assert counts(judged([*writes, read(0, 7, 8)])) == {"stale_reads": (1, 1)}


def test_a_version_whose_write_is_under_way_is_not_judged_but_is_a_floor() -> None:
    operations = [write(1, 1, 2), read(2, 4, 5), read(1, 6, 7), write(2, 3, 9)]
    assert counts(judged(operations)) == {
        "stale_reads": (1, 0),
        "monotonic_reads": (1, 1),
        "read_regressions": (1, 1),
        "phantom_reads": (2, 0),
    }


def test_phantom_reads_are_judged_as_ever() -> None:
    assert judged([write(1, 1, 2, outcome="fail"), read(1, 3, 4)]).verdicts()["phantom_reads"].violated == 1
    assert judged([read(1, 3, 4), final(2, 5, 6)]).verdicts()["phantom_reads"].violated == 2


# Writes wait for each other.


@pytest.mark.parametrize(
    ("invalid", "valid"),
    [
        ([write(1, 1, 5), write(2, 4, 6)], [write(1, 1, 5), write(2, 5, 6)]),
        ([write(2, 1, 2), write(1, 3, 4)], [write(1, 1, 2), write(2, 3, 4)]),
        ([write(1, 1, 5, **UNKNOWN), write(2, 4, 6)], [write(1, 1, None, **UNKNOWN), write(2, 4, 6)]),
        ([write(2, 4, None, **UNKNOWN), write(1, 1, 5)], [write(2, 5, None, **UNKNOWN), write(1, 1, 5)]),
        ([write(1, 1, 5), write(2, 4, None, **UNKNOWN)], [write(1, 1, 5), write(2, 5, None, **UNKNOWN)]),
        (
            [write(1, 1, 5), write(3, 6, 7), write(2, 4, None, **UNKNOWN)],
            [write(1, 1, 5), write(3, 6, 7), write(2, 5, None, **UNKNOWN)],
        ),
        ([write(2, 5, 5), write(1, 3, 5), write(3, 4, 6)], [write(2, 5, 5), write(1, 3, 5), write(3, 5, 6)]),
        ([write(1, 1, 4), write(3, 5, 5), write(2, 2, 5)], [write(1, 1, 4), write(3, 5, 5), write(2, 4, 5)]),
        ([write(1, 1, 5, outcome="fail"), write(2, 4, 6)], [write(1, 1, 5, outcome="fail"), write(2, 4, 6, key="x")]),
    ],
)
def test_writes_of_an_overwriting_register_wait_for_each_other(
    invalid: list[Operation], valid: list[Operation], tmp_path: Path
) -> None:
    path = tmp_path / "h.jsonl"
    for number, operation in enumerate((*invalid, *valid)):
        operation.session = f"s{number}"  # type: ignore[union-attr] # writes
    path.write_text(history_text(oracle.File(valid, overwriting=True)))
    assert len(list(History([path]).operations())) == len(valid)
    path.write_text(history_text(oracle.File(invalid)))
    assert len(list(History([path]).operations())) == len(invalid)
    path.write_text(history_text(oracle.File(invalid, overwriting=True)))
    with pytest.raises(BadHistory, match=rf"{path}:{len(invalid) + 1}: the write of version \d of key 'k' overlaps"):
        list(History([path]).operations())


def waits(writes: Sequence[Write]) -> bool:
    """Return whether every write starts no earlier than all that ended of lower versions, taken literally."""
    return all(
        low.end is None or high.start >= low.end
        for low, high in permutations(writes, 2)
        if (low.version or 0) < (high.version or 0)
    )


def test_whether_writes_wait_does_not_depend_on_the_order_of_lines() -> None:
    random, agreed = Random(1), Counter[bool]()
    for _ in range(10_000):
        spans = [(start, start + random.choice((0, 0, 1, 2))) for start in (random.randint(0, 6) for _ in range(4))]
        spans.sort(key=lambda span: span[0] + random.choice((0, 0, 0, 2)))
        versions = random.sample(range(1, 9), 4) if random.random() < 0.1 else (1, 2, 4, 7)
        writes = [
            write(version, start, None if random.random() < 0.2 else end, **UNKNOWN)
            for version, (start, end) in zip(versions, spans, strict=True)
        ]
        lines = sorted((one for one in writes if one.end is not None), key=lambda one: (one.end, random.random()))
        for one in writes:
            if one.end is None:
                lines.insert(random.randint(0, len(lines)), one)
        turns, accepted = WriteTurns(), True
        try:
            for line in lines:
                turns.check(line, line.version or 0)
        except InvalidRecord:
            accepted = False
        agreed[accepted] += accepted == waits(writes)
        assert accepted == waits(writes), lines
    assert min(agreed[True], agreed[False]) > 500


@pytest.mark.parametrize(("errors", "start", "refused"), [((0, 0), 4, True), ((0, 0), 5, False), ((1, 0), 4, False)])
@pytest.mark.parametrize("later", [0, 1])
def test_writes_wait_for_those_in_other_files_as_far_as_clocks_prove(
    errors: tuple[int, int], start: int, later: int, tmp_path: Path, *, refused: bool
) -> None:
    writes = [[write(1, 1, 5)], [write(2, start, 6)]]
    paths = []
    for index, error in enumerate(errors):
        file = oracle.File(writes[index ^ later], worker=index, clock_error_ns=error, overwriting=True)
        paths.append(tmp_path / f"{index}.jsonl")
        paths[-1].write_text(history_text(file))
    if refused:
        with pytest.raises(BadHistory, match=r"jsonl:2: the write of version \d"):
            list(History(paths).operations())
    else:
        assert len(list(History(paths).operations())) == 2


def test_files_of_growing_and_overwriting_registers_are_judged_each_by_its_own_kind(tmp_path: Path) -> None:
    operations = [write(1, 1, 2, **UNKNOWN), write(2, 3, 4), read(1, 5, 6)]
    for overwriting, path in ((True, tmp_path / "0"), (False, tmp_path / "1")):
        text = history_text(oracle.File(operations, worker=int(overwriting), overwriting=overwriting))
        path.write_text(text.replace('"key":"k"', f'"key":"k{int(overwriting)}"'))
    stale = judge_files([tmp_path / "0", tmp_path / "1"]).verdicts()["stale_reads"]
    assert (stale.checked, stale.violated) == (1, 1)


# A store that overwrites.


class _Effect(NamedTuple):
    at: float
    version: int


def overwriting_store(seed: int, size: int, bug: float = 0.0) -> list[Operation]:
    """Return a history of a linearizable register that unknown writes reach late; a bug shows overwritten versions.

    One writer, some readers. Every operation has a moment between its start and its end, an unknown write at any later
    time, or never.
    """
    random = Random(seed)
    writes: list[Write] = []
    effects = [_Effect(0, 0)]
    own: list[tuple[int, int]] = []
    now = 1
    for version in range(1, size + 1):
        start, length = now + random.randint(0, 6), random.randint(0, 8)
        outcome: Outcome = random.choices(("ok", "unknown", "fail"), (6, 3, 1))[0]
        end = None if outcome == "unknown" and random.random() < 0.5 else start + length
        writes.append(write(version, start, end, outcome=outcome))
        now = start if end is None else end
        if end is not None and random.random() < 0.3:  # the writer reads, too
            own.append((now + 1, now + 3))
            now += 4
        if outcome == "ok":
            effects.append(_Effect(start + random.random() * length, version))
        elif outcome == "unknown" and random.random() < 0.8:
            effects.append(_Effect(start + random.expovariate(1 / 30), version))
    effects.sort()
    own_reads = [_read(random, effects, start, end, "s1") for start, end in own]
    reads = [*own_reads, *_reads(random, effects, writes, now + 60, bug)]
    return sorted([*writes, *reads], key=lambda one: (now if one.end is None else one.end, one.start))


def _read(random: Random, effects: Sequence[_Effect], start: int, end: int, session: str) -> Read:
    moment = random.uniform(start, end)
    return read(max(one for one in effects if one.at <= moment).version, start, end, session=session)


def _reads(
    random: Random, effects: Sequence[_Effect], writes: Sequence[Write], until: int, bug: float
) -> Iterator[Read | Final]:
    acknowledged = [one for one in writes if one.outcome == "ok"]
    for session in ("r1", "r2", "r3"):
        now = 1
        while now < until:
            start, end = now + random.randint(1, 4), now + random.randint(5, 9)
            seen = _read(random, effects, start, end, session)
            old = [one.version for one in acknowledged if one.end is not None and one.end < start - 1][:-2]
            if old and random.random() < bug:
                seen.version = random.choice(old)
            yield seen
            now = end + 1
    last = max(effects, key=lambda one: one.at)
    yield final(last.version, int(max(until, last.at)) + 20, int(max(until, last.at)) + 21)


def test_a_correct_overwriting_store_is_never_accused() -> None:
    accused_as_growing = checked = 0
    for seed in range(200):
        history = overwriting_store(seed, 30)
        verdicts = judged(history).verdicts()
        assert not [name for name, one in verdicts.items() if one.violated], seed
        checked += sum(one.checked for one in verdicts.values())
        accused_as_growing += judged(history, overwriting=False).verdict() == "invalid"
    assert accused_as_growing > 150
    assert checked > 25_000


def test_an_overwriting_store_that_shows_overwritten_values_is_found() -> None:
    assert all(judged(overwriting_store(seed, 30, bug=0.05)).verdict() == "invalid" for seed in range(50))


def small_history(seed: int) -> list[Operation]:
    """Return some writes that wait for each other, and reads of any version."""
    random = Random(seed)
    operations: list[Operation] = []
    now = 0
    writes = random.randint(1, 4)
    for version in range(1, writes + 1):
        start = now + random.randint(0, 2)
        outcome: Outcome = random.choice(("ok", "ok", "unknown"))
        end = None if outcome == "unknown" and random.random() < 0.5 else start + random.randint(0, 3)
        operations.append(write(version, start, end, outcome=outcome, session=f"w{version}"))
        now = start if end is None else end
    for number in range(random.randint(1, 5)):
        start = random.randint(0, now + 4)
        operations.append(read(random.randint(0, writes), start, start + random.randint(0, 3), session=f"r{number}"))
    return sorted(operations, key=lambda one: (99 if one.end is None else one.end, one.start))


def test_whoever_is_accused_is_not_linearizable() -> None:
    found: Counter[tuple[bool, bool]] = Counter()
    for seed in range(3000):
        history = small_history(seed)
        accused = judged(history).verdict() == "invalid"
        legal = linearizable(history, overwriting=True)
        found[accused, legal] += 1
        assert not (accused and legal), seed
    assert min(found[True, False], found[False, True]) > 500


def test_generated_histories_of_overwriting_registers_have_reads_that_are_not_judged() -> None:
    late: Counter[int] = Counter()
    for seed in range(600):
        files = random_history(seed)
        history = oracle.History(files)
        late[len(files)] += any(history.may_be_late(at) for at in (*history.reads, *history.finals))
    assert min(late[1], late[2], late[3]) > 10
