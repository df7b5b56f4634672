"""Histories to judge: generated ones, small and full of ties, and the file text of any of them.

One generator serves both hypothesis (which draws every choice, and so can shrink) and plain seeds (for bulk runs). It
makes files that keep the rules of the format: lines in order of end, sessions sequential aside from unknown
operations, one write per key and version. Reads mostly show versions near the truth, so that most guarantees are
broken in some histories and hold in others.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Literal, Protocol, TypeVar

from hypothesis import strategies as st

from history.operation import Append, Depends, Draw, Fault, Final, Operation, Outcome, Read, Write
from tests.checkers.oracle import File

T = TypeVar("T")
SessionOp = Write | Read | Append | Draw
DEFAULT_SIZE = 20

# Lists to pick from; a value is as likely as it is frequent, and hypothesis shrinks towards the first.
GAPS = (0, 0, 0, 1, 1, 2, 3)
LENGTHS = (1, 0, 0, 1, 2, 3, 6)
OUTCOMES: tuple[Outcome, ...] = ("ok",) * 14 + ("unknown",) * 4 + ("fail",) * 2
FINAL_OUTCOMES: tuple[Outcome, ...] = ("ok",) * 7 + ("unknown",) * 2 + ("fail",)
CAUSES = ("monotonic_writes", "writes_follow_reads")
CLOCK_ERRORS = (0, 0, 1, 2, 4, None)
ABSENT_WORKER = 9


class Choices(Protocol):
    """Where a generated history takes its choices from."""

    def number(self, low: int, high: int) -> int: ...


class Seeded:
    """Choices from a seed."""

    def __init__(self, seed: int) -> None:
        self.number = Random(seed).randint


class Drawn:
    """Choices drawn by hypothesis."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def number(self, low: int, high: int) -> int:
        return self._draw(_integers(low, high))


@cache
def _integers(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def pick(choices: Choices, options: Sequence[T]) -> T:
    return options[choices.number(0, len(options) - 1)]


def chance(choices: Choices, percent: int) -> bool:
    return choices.number(0, 99) >= 100 - percent


def some(choices: Choices, options: Sequence[T], percent: int) -> list[T]:
    return [option for option in options if chance(choices, percent)]


def shuffled(choices: Choices, things: Sequence[T]) -> list[T]:
    left = list(things)
    return [left.pop(choices.number(0, len(left) - 1)) for _ in things]


@dataclass
class Plan:
    """What a whole history is like, chosen before its operations."""

    sessions: int
    keys: int
    lists: bool
    counters: bool
    shared: bool  # do workers use the same keys
    rising: bool  # do write starts rise with versions
    siblings: int  # percent of reads that have the field
    depends: int  # percent of reads and writes that have the field
    foreign: int  # percent of reads that go to another worker's key
    owners: list[int]  # whose keys those are

    @classmethod
    def choose(cls, choices: Choices, workers: Sequence[int]) -> "Plan":
        alone = len(workers) == 1
        return cls(
            sessions=choices.number(1, 3),
            keys=pick(choices, (1, 1, 1, 2, 2, 3)),
            lists=chance(choices, 35),
            counters=chance(choices, 35),
            shared=not alone and chance(choices, 25),
            rising=chance(choices, 70),
            siblings=pick(choices, (0, 0, 30, 80)),
            depends=pick(choices, (0, 20, 60)),
            foreign=pick(choices, (0, 0, 0, 25) if alone else (0, 25, 50)),
            owners=[*workers, ABSENT_WORKER],
        )

    def key(self, worker: int, number: int) -> str:
        return f"k{number}" if self.shared else f"w{worker}-k{number}"

    def list_key(self, worker: int) -> str:
        return "list" if self.shared else f"w{worker}-list"

    def counter_key(self, worker: int) -> str:
        return "seq" if self.shared else f"w{worker}-seq"


@dataclass
class Draft:
    """A file in the making: operations in no order yet, versions not yet filled in."""

    worker: int
    operations: list[SessionOp] = field(default_factory=list)
    others: list[Final | Fault] = field(default_factory=list)


def generate(choices: Choices, *, files: int, size: int) -> list[File]:
    """Return a history of up to `size` operations of sessions in all, and finals and faults besides."""
    workers = list(range(files)) if chance(choices, 60) else [2 * n + 3 for n in reversed(range(files))]
    plan = Plan.choose(choices, workers)
    drafts = [Draft(worker) for worker in workers]
    most = max(1, size // files)
    for draft in drafts:
        count = max(choices.number(1, most), choices.number(1, most))  # rather long, but free to shrink
        draft.operations = _session_operations(choices, plan, draft.worker, count)
    _number_writes(choices, plan, drafts)
    _fill_reads(choices, plan, drafts)
    _value_draws(choices, drafts)
    _add_finals(choices, plan, drafts)
    for draft in drafts:
        if chance(choices, 15):
            draft.others.append(_fault(choices))
    return [_file(choices, draft, cut_percent=15 if files == 1 else 25) for draft in drafts]


def _session_operations(choices: Choices, plan: Plan, worker: int, count: int) -> list[SessionOp]:
    """Let sessions act one operation after the other; only unknown operations go on while the next one starts."""
    free = [choices.number(0, 3) for _ in range(plan.sessions)]
    operations = []
    for number in range(count):
        session = choices.number(0, plan.sessions - 1)
        start = free[session] + pick(choices, GAPS)
        operation = _blank(choices, plan, worker, number)
        operation.session, operation.start = f"s{session}", start
        operation.outcome = pick(choices, OUTCOMES)
        operation.end = start + pick(choices, LENGTHS)
        free[session] = start if operation.outcome == "unknown" and chance(choices, 60) else operation.end
        if operation.outcome == "unknown" and not isinstance(operation, Read) and chance(choices, 40):
            operation.end = None
        operations.append(operation)
    return operations


def _blank(choices: Choices, plan: Plan, worker: int, number: int) -> SessionOp:
    """Return an operation whose session, times and outcome are still to be filled in."""
    kinds = "wwwwrrrrrr" + "aaa" * plan.lists + "ddd" * plan.counters
    kind, key = pick(choices, kinds), plan.key(worker, choices.number(0, plan.keys - 1))
    if kind == "a":
        item = number if chance(choices, 20) else f"i{worker}-{number}"
        return Append(session="", key=plan.list_key(worker), item=item, start=0, end=0, outcome="ok")
    if kind == "d":
        return Draw(session="", key=plan.counter_key(worker), start=0, end=0, outcome="ok")
    if kind == "w":
        return Write(session="", key=key, start=0, end=0, outcome="ok")
    read = Read(session="", key=key, start=0, end=0, outcome="ok")
    if chance(choices, plan.foreign):
        read.owner = pick(choices, plan.owners)
        read.key = plan.key(read.owner, choices.number(0, plan.keys - 1))
    return read


def _all(kind: type[T], drafts: Sequence[Draft]) -> list[T]:
    return [op for draft in drafts for op in (*draft.operations, *draft.others) if isinstance(op, kind)]


def _by_key(writes: Sequence[Write]) -> dict[str, list[Write]]:
    keys = sorted({write.key for write in writes})
    return {key: [write for write in writes if write.key == key] for key in keys}


def _number_writes(choices: Choices, plan: Plan, drafts: Sequence[Draft]) -> None:
    """Give versions in order of start (by and large, where they need not rise), with a gap here and there."""
    for writes in _by_key(_all(Write, drafts)).values():
        ordered = sorted(shuffled(choices, writes), key=lambda write: write.start)
        if not plan.rising and chance(choices, 70):
            ordered = shuffled(choices, ordered)
        version = 0
        for write in ordered:
            version += pick(choices, (1, 1, 1, 2))
            write.version = version
            write.superseded = write.outcome == "ok" and chance(choices, 8)
    for write in _all(Write, drafts):
        if write.outcome != "ok" and chance(choices, 12):
            write.version = None


def _versions(writes: Sequence[Write]) -> list[int]:
    return [write.version for write in writes if write.version is not None]


def _near_truth(choices: Choices, writes: Sequence[Write], start: int, end: int) -> int:
    """Return a version that a look from `start` to `end` may well show, or one that it never should."""
    acknowledged = _versions(
        [w for w in writes if w.outcome == "ok" and w.end is not None and w.end < start],
    )
    begun = _versions([w for w in writes if w.outcome != "fail" and w.start <= end])
    floor, ceiling = max(acknowledged, default=0), max(begun, default=0)
    any_version = [*_versions(writes), 0]
    return pick(
        choices,
        (
            *((floor, ceiling) * 4),
            pick(choices, (*acknowledged, floor)),
            pick(choices, (*begun, ceiling)),
            pick(choices, any_version),
            pick(choices, (0, max(0, floor - 1), ceiling + 1, max(any_version) + 1)),
        ),
    )


def _fill_reads(choices: Choices, plan: Plan, drafts: Sequence[Draft]) -> None:
    """Say what reads showed, and what values depend on."""
    written = _by_key(_all(Write, drafts))

    def look(key: str, start: int, end: int) -> int:
        return _near_truth(choices, written.get(key, []), start, end)

    for draft in drafts:
        for operation in draft.operations:
            if isinstance(operation, Write | Read) and chance(choices, plan.depends):
                end = operation.start if operation.end is None else operation.end
                key = plan.key(draft.worker, choices.number(0, plan.keys - 1))
                version = look(key, operation.start, end) or 1
                operation.depends = Depends(key=key, version=version, cause=pick(choices, CAUSES))
            if isinstance(operation, Read) and (operation.outcome == "ok" or chance(choices, 30)):
                operation.version = look(operation.key, operation.start, operation.end)
                if chance(choices, plan.siblings):
                    beside = [*_versions(written.get(operation.key, [])), operation.version + 1]
                    operation.siblings = some(choices, beside, pick(choices, (0, 20, 50)))


def _value_draws(choices: Choices, drafts: Sequence[Draft]) -> None:
    """Let a counter rise with the starts of its draws, aside from draws that repeat or fall back."""
    last: dict[str, int] = {}
    for draw in sorted(shuffled(choices, _all(Draw, drafts)), key=lambda draw: draw.start):
        value = last.get(draw.key, choices.number(3, 6)) + pick(choices, (1, 1, 1, 1, 2, 0, -1, -2))
        last[draw.key] = max(value, last.get(draw.key, value))
        if draw.outcome == "ok" or chance(choices, 30):
            draw.value = value


def _add_finals(choices: Choices, plan: Plan, drafts: Sequence[Draft]) -> None:
    """Add none, one or more final reads a key, around the time of the last operations."""
    written, appends = _by_key(_all(Write, drafts)), _all(Append, drafts)
    latest = max(op.start for draft in drafts for op in draft.operations)
    for draft in drafts:
        keys = {plan.key(draft.worker, number) for number in range(plan.keys)}
        for key in sorted(keys) * choices.number(0, 2):
            final = _final(choices, key, latest)
            if final.outcome == "ok" or chance(choices, 30):
                final.version = _near_truth(choices, written.get(key, []), final.start, final.end)
                if chance(choices, plan.siblings):
                    final.siblings = some(choices, _versions(written.get(key, [])), 30)
            draft.others.append(final)
        key = plan.list_key(draft.worker)
        for _ in range(choices.number(0, 2) if plan.lists else 0):
            final = _final(choices, key, latest)
            if final.outcome == "ok" or chance(choices, 30):
                final.items = _items(choices, [a.item for a in appends if a.key == key and a.item is not None])
            draft.others.append(final)


def _final(choices: Choices, key: str, latest: int) -> Final:
    start = max(0, latest + pick(choices, (6, 1, 0, 2, 3, 6, -1, -3)))
    return Final(key=key, start=start, end=start + pick(choices, LENGTHS), outcome=pick(choices, FINAL_OUTCOMES))


def _items(choices: Choices, appended: Sequence[str | int]) -> list[str | int]:
    items = some(choices, appended, pick(choices, (80, 80, 50)))
    strange = [*(items[:1] if chance(choices, 20) else []), *(["stray"] if chance(choices, 15) else [])]
    return [*items, *strange]


def _fault(choices: Choices) -> Fault:
    start = choices.number(0, 12)
    end = None if chance(choices, 25) else start + choices.number(0, 9)
    return Fault(fault="kill", node="a", start=start, end=end)


def _file(choices: Choices, draft: Draft, *, cut_percent: int) -> File:
    """Order the lines by end, ties in any order and never-ended ones anywhere; an incomplete file lacks its last."""
    lines: list[Operation] = shuffled(choices, [*draft.operations, *draft.others])
    ended = sorted((op for op in lines if op.end is not None), key=lambda op: op.end or 0)
    for endless in (op for op in lines if op.end is None):
        ended.insert(choices.number(0, len(ended)), endless)
    complete = not chance(choices, cut_percent)
    if not complete:
        ended = ended[: len(ended) - choices.number(0, min(5, len(ended)))]
    return File(ended, worker=draft.worker, clock_error_ns=pick(choices, CLOCK_ERRORS), complete=complete)


def generate_growing_register(choices: Choices, *, size: int, rising: bool) -> list[File]:
    """Return up to `size` writes and reads of one key, each in its own session."""
    draft, start = Draft(worker=0), choices.number(0, 3)
    writes = choices.number(1, max(1, size // 2))
    for number in range(size):
        is_write = number < writes
        start = start + pick(choices, (1, 0, 1, 2, 4)) if is_write else choices.number(0, start + 3)
        outcome = pick(choices, OUTCOMES)
        end = start + pick(choices, LENGTHS)
        kind = Write if is_write else Read
        draft.operations.append(kind(session=f"s{number}", key="k", start=start, end=end, outcome=outcome))
    _number_register(choices, _all(Write, [draft]), rising=rising)
    for read in _all(Read, [draft]):
        if read.outcome == "ok":
            read.version = _near_truth(choices, _all(Write, [draft]), read.start, read.end)
    return [replace(_file(choices, draft, cut_percent=0), clock_error_ns=0)]


def _number_register(choices: Choices, writes: list[Write], *, rising: bool) -> None:
    for version, write in enumerate(writes if rising else shuffled(choices, writes), start=1):
        write.version = version
        if write.outcome == "unknown" and chance(choices, 40):
            write.end = None


def random_history(seed: int, size: int = DEFAULT_SIZE, *, files: int | None = None) -> list[File]:
    """Return the history of this seed; of one to three files, one in half of all cases, where `files` is None."""
    choices = Seeded(seed)
    return generate(choices, files=files or pick(choices, (1, 1, 1, 2, 2, 3)), size=size)


def random_growing_register(seed: int, size: int = 8, *, rising: bool = True) -> list[File]:
    return generate_growing_register(Seeded(seed), size=size, rising=rising)


Strategy = st.SearchStrategy[list[File]]


def _strategy(make: Callable[[Choices], list[File]]) -> Strategy:
    @st.composite
    def history(draw: st.DrawFn) -> list[File]:
        return make(Drawn(draw))

    return history()


def single_file_histories(max_size: int = DEFAULT_SIZE) -> Strategy:
    return _strategy(lambda choices: generate(choices, files=1, size=max_size))


def multi_file_histories(max_size: int = DEFAULT_SIZE, max_files: int = 3) -> Strategy:
    """Return histories of two files or more; workers differ."""
    return _strategy(lambda choices: generate(choices, files=choices.number(2, max_files), size=max_size))


def growing_registers(max_size: int = 8, *, rising: bool = True) -> Strategy:
    """Return one file of one key whose write starts rise with the versions (may be equal), unless not `rising`."""
    return _strategy(
        lambda choices: generate_growing_register(choices, size=choices.number(2, max_size), rising=rising)
    )


# The text of a file.

Cut = Literal["no close", "no newline", "half a line"]
"""How a file is incomplete: its close line is missing, lacks its newline, or another line was cut in the middle."""


def history_text(
    file: File,
    *,
    run: str = "r1",
    database: str = "mongo",
    closes: bool = True,
    header_clock_error_ns: int | None = None,
    cut: Cut = "no close",
) -> str:
    """Return the file as JSON lines.

    Without a close line that counts (an incomplete file, or not `closes`) the header's clock error holds, so the
    header says the file's own; with one the header says `header_clock_error_ns` and the close line overrules it.
    """
    overruled = file.complete and closes
    header = {
        "format": "stalewatch-history",
        "version": 1,
        "run": run,
        "worker": file.worker,
        "database": database,
        "horizon_s": file.horizon_s,
        "clock_error_ns": header_clock_error_ns if overruled else file.clock_error_ns,
        "closes": closes,
        "options": {},
    }
    lines = "".join(_line(record) for record in (header, *map(operation_fields, file.operations)))
    close = _line({"op": "close", "clock_error_ns": file.clock_error_ns})
    return lines + (close if overruled else "" if file.complete else _cut_tail(cut, closes=closes))


def _cut_tail(cut: Cut, *, closes: bool) -> str:
    if cut == "no close":
        assert closes, "a file that promises no close line and ends with a whole line is complete"
        return ""
    # Were it used, the line without its newline would give the file another clock error.
    return {"no newline": _line({"op": "close", "clock_error_ns": 7}).rstrip("\n"), "half a line": '{"op":"wri'}[cut]


def _line(record: dict[str, object]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def operation_fields(operation: Operation) -> dict[str, object]:
    """Return an operation as in a history line: fields that say nothing are absent, but a missing end is null."""
    values = {name: getattr(operation, name) for name in type(operation).__annotations__}
    values["depends"] = _depends_fields(values.get("depends"))
    absent = [name for name, value in values.items() if value is None and name != "end"]
    if not values.get("superseded"):
        absent.append("superseded")
    said = {name: value for name, value in values.items() if name not in absent}
    return {"op": type(operation).__name__.lower(), **said}


def _depends_fields(depends: Depends | None) -> dict[str, object] | None:
    if depends is None:
        return None
    said = {"key": depends.key, "version": depends.version, "cause": depends.cause}
    return {name: value for name, value in said.items() if value is not None}
