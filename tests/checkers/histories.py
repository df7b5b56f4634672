"""Generated histories, small and full of ties, and their text as history files.

One generator serves both hypothesis and plain seeds (for bulk runs). Its files obey the rules of the format: lines in
order of end, sessions sequential except for unknown operations, one write per key and version. Most reads show versions
near the truth, so that most guarantees are violated in some histories and hold in others.

Every operation takes its choices from bytes of its own. So hypothesis can remove or simplify one without changing the
others, and shrinks a history of twenty operations to the two or three that matter.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Literal, TypeVar

from hypothesis import strategies as st

from stalewatch.history.operation import Append, Depends, Draw, Fault, Final, Operation, Outcome, Read, Write, replace
from tests.checkers.oracle import File

T = TypeVar("T")
SessionOp = Write | Read | Append | Draw
Op = TypeVar("Op", bound=Operation)
Kind = TypeVar("Kind", Write, Read, Append, Draw)

DEFAULT_SIZE = 20
MAX_EXTRAS = 8

# Options to pick from, each as likely as it is frequent; hypothesis shrinks towards the first.
GAPS = (0, 0, 0, 1, 1, 2, 3)
LENGTHS = (1, 0, 0, 1, 2, 3, 6)
OUTCOMES: tuple[Outcome, ...] = ("ok",) * 14 + ("unknown",) * 4 + ("fail",) * 2
FINAL_OUTCOMES: tuple[Outcome, ...] = ("ok",) * 7 + ("unknown",) * 2 + ("fail",)
CAUSES = ("monotonic_writes", "writes_follow_reads")
CLOCK_ERRORS = (0, 0, 1, 2, 4, None)
ABSENT_WORKER = 9


class Choices:
    """Choices derived from bytes, one byte each; when none is left, the first option."""

    def __init__(self, rolls: bytes) -> None:
        self._rolls = iter(rolls)

    def number(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + next(self._rolls, 0) * (high - low + 1) // 256

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def picks(self, options: Sequence[T], most: int) -> list[T]:
        """Return up to `most` of the options; an option may be repeated."""
        return [self.pick(options) for _ in range(self.number(0, most))] if options else []

    def chance(self, percent: int) -> bool:
        return self.number(0, 99) >= 100 - percent


BYTES = 32
"""Enough for the choices of one operation, or of a plan."""


@dataclass(frozen=True)
class Rolls:
    """The randomness of a history: its plan, each operation of a session, each final read or fault."""

    plan: bytes
    steps: Sequence[bytes]
    extras: Sequence[bytes] = ()


@dataclass
class Plan:
    """The properties of a whole history."""

    sessions: int
    keys: int
    lists: bool
    counters: bool
    shared: bool  # whether workers use the same keys
    rising: bool  # whether write starts rise with versions
    siblings: int  # percentage of reads that have the field
    depends: int  # percentage of reads and writes that have the field
    foreign: int  # percentage of reads of another worker's key
    workers: list[int]
    clock_errors_ns: list[int | None]
    missing: list[int | None]  # how many lines are missing at the end of each file; None: it is complete
    overwriting: bool  # whether writes of a key wait for each other, and an old one that arrives late wins

    @classmethod
    def choose(cls, choices: Choices, files: int) -> "Plan":
        alone = files == 1
        return cls(
            sessions=choices.number(1, 3),
            keys=choices.pick((1, 1, 1, 2, 2, 3)),
            lists=choices.chance(35),
            counters=choices.chance(35),
            shared=not alone and choices.chance(25),
            rising=not choices.chance(30),
            siblings=choices.pick((0, 0, 30, 80)),
            depends=choices.pick((0, 20, 60)),
            foreign=choices.pick((0, 0, 0, 25) if alone else (0, 25, 50)),
            workers=cls._workers(choices, files),
            clock_errors_ns=[choices.pick(CLOCK_ERRORS) for _ in range(files)],
            missing=[choices.number(0, 5) if choices.chance(15 if alone else 25) else None for _ in range(files)],
            overwriting=choices.chance(35),
        )

    @staticmethod
    def _workers(choices: Choices, files: int) -> list[int]:
        """Return the worker of each file: all different, or the first two files are of one worker."""
        workers = [2 * n + 3 for n in reversed(range(files))] if choices.chance(40) else list(range(files))
        return [workers[0], *workers[:-1]] if files > 1 and choices.chance(40) else workers

    def key(self, worker: int, number: int) -> str:
        return f"k{number}" if self.shared else f"w{worker}-k{number}"

    def list_key(self, worker: int) -> str:
        return "list" if self.shared else f"w{worker}-list"

    def counter_key(self, worker: int) -> str:
        return "seq" if self.shared else f"w{worker}-seq"


@dataclass
class Step(Generic[Op]):
    """An operation under construction, the index of its file, and the source of its remaining choices."""

    op: Op
    file: int
    choices: Choices
    turn: int = 0  # the order of steps that start together


def generate(rolls: Rolls, files: int) -> list[File]:
    """Return the history that these rolls determine."""
    plan = Plan.choose(Choices(rolls.plan), files)
    steps = _steps(plan, rolls.steps)
    _add_versions(plan, _of(Write, steps))
    _add_values(_of(Draw, steps))
    written = Written([step.op for step in _of(Write, steps)])
    for step in steps:
        _add_dependency(plan, step, written)
    for read in _of(Read, steps):
        _add_version_shown(plan, read, written)
    extras = [_final_or_fault(plan, Choices(extra), steps, written) for extra in rolls.extras]
    everything: list[Step[SessionOp] | Step[Operation]] = [*steps, *extras]
    return [_file(plan, index, [step for step in everything if step.file == index]) for index in range(files)]


def _of(kind: type[Kind], steps: Sequence[Step[SessionOp]]) -> list[Step[Kind]]:
    return [Step(step.op, step.file, step.choices, step.turn) for step in steps if isinstance(step.op, kind)]


def _steps(plan: Plan, rolls: Sequence[bytes]) -> list[Step[SessionOp]]:
    """Return the operations of the sessions, sequential except that the next one may start during an unknown one.

    A session is a worker's, in whichever of its files it does something.
    """
    free: dict[tuple[int, str], int] = {}
    turn: dict[str, int] = {}
    steps = []
    for number, roll in enumerate(rolls):
        choices = Choices(roll)
        file, session = choices.number(0, len(plan.workers) - 1), f"s{choices.number(0, plan.sessions - 1)}"
        op = _blank(plan, choices, plan.workers[file], number)
        op.session = session
        worker = plan.workers[file]
        op.start = free.get((worker, session), 0) + choices.pick(GAPS)
        waits = plan.overwriting and isinstance(op, Write)
        if waits:
            op.start = max(op.start, turn.get(op.key, 0))
        op.end = op.start + choices.pick(LENGTHS)
        op.outcome = choices.pick(OUTCOMES)
        free[worker, session] = op.end
        if op.outcome == "unknown":
            free[worker, session] = op.start if choices.chance(60) else op.end
            if not isinstance(op, Read) and choices.chance(40):
                op.end = None
        if waits:
            turn[op.key] = op.start if op.end is None else op.end
        steps.append(Step(op, file, choices, turn=choices.number(0, 255)))
    return steps


def _blank(plan: Plan, choices: Choices, worker: int, number: int) -> SessionOp:
    """Return an operation without session, times and outcome."""
    kind = choices.pick("wwwwrrrrrr" + "aaa" * plan.lists + "ddd" * plan.counters)
    key = plan.key(worker, choices.number(0, plan.keys - 1))
    if kind == "a":
        item = number if choices.chance(20) else f"i{worker}-{number}"
        return Append(session="", key=plan.list_key(worker), item=item, start=0, end=0, outcome="ok")
    if kind == "d":
        return Draw(session="", key=plan.counter_key(worker), start=0, end=0, outcome="ok")
    if kind == "w":
        return Write(session="", key=key, start=0, end=0, outcome="ok")
    read = Read(session="", key=key, start=0, end=0, outcome="ok")
    if choices.chance(plan.foreign):
        read.owner = choices.pick((*plan.workers, ABSENT_WORKER))
        read.key = plan.key(read.owner, choices.number(0, plan.keys - 1))
    return read


def _add_versions(plan: Plan, writes: Sequence[Step[Write]]) -> None:
    """Number the writes in order of start, or in any order if starts need not rise, with a gap here and there."""
    last: dict[str, int] = {}
    in_order = sorted(writes, key=lambda step: (step.op.start if plan.rising else 0, step.turn))
    for step in writes if plan.overwriting else in_order:
        write = step.op
        version = last[write.key] = last.get(write.key, 0) + step.choices.pick((1, 1, 1, 2))
        write.version = None if write.outcome != "ok" and step.choices.chance(12) else version
        write.superseded = write.outcome == "ok" and step.choices.chance(8)


def _add_values(draws: Sequence[Step[Draw]]) -> None:
    """Raise a counter with the starts of its draws, except for draws that repeat a value or fall back."""
    last: dict[str, int] = {}
    for step in sorted(draws, key=lambda step: (step.op.start, step.turn)):
        value = last.get(step.op.key, 3) + step.choices.pick((1, 1, 1, 1, 2, 0, -1, -2))
        last[step.op.key] = max(value, last.get(step.op.key, value))
        if step.op.outcome == "ok" or step.choices.chance(30):
            step.op.value = value


class Written:
    """All writes of a history, from which the versions of reads are chosen."""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes

    def versions(self, key: str, holds: Callable[[Write], bool] = lambda _write: True) -> list[int]:
        return [w.version for w in self._writes if w.key == key and w.version is not None and holds(w)]

    def near_truth(self, choices: Choices, key: str, start: int, end: int) -> int:
        """Return a version that a read from `start` to `end` is likely to show, or one that it never should."""
        acknowledged = self.versions(key, lambda w: w.outcome == "ok" and w.end is not None and w.end < start)
        started = self.versions(key, lambda w: w.outcome != "fail" and w.start <= end)
        floor, ceiling = max(acknowledged, default=0), max(started, default=0)
        odd = [0, max(0, floor - 1), ceiling + 1, max(self.versions(key), default=0) + 1]
        likely = ([floor], [ceiling]) * 4
        return choices.pick(
            choices.pick((*likely, [floor, *acknowledged], [ceiling, *started], self.versions(key), odd)) or odd
        )


def _add_dependency(plan: Plan, step: Step[SessionOp], written: Written) -> None:
    op, choices = step.op, step.choices
    if isinstance(op, Write | Read) and choices.chance(plan.depends):
        key = plan.key(plan.workers[step.file], choices.number(0, plan.keys - 1))
        version = written.near_truth(choices, key, op.start, op.start if op.end is None else op.end)
        op.depends = Depends(key=key, version=version or 1, cause=choices.pick(CAUSES))


def _add_version_shown(plan: Plan, step: Step[Read], written: Written) -> None:
    read, choices = step.op, step.choices
    if read.outcome == "ok" or choices.chance(30):
        read.version = written.near_truth(choices, read.key, read.start, read.end)
        if choices.chance(plan.siblings):
            read.siblings = choices.picks([*written.versions(read.key), read.version + 1], choices.pick((0, 0, 3)))


def _final_or_fault(
    plan: Plan, choices: Choices, steps: Sequence[Step[SessionOp]], written: Written
) -> Step[Operation]:
    """Return a final read of a register or a list around the time of the last operations, or a fault."""
    file = choices.number(0, len(plan.workers) - 1)
    worker, latest = plan.workers[file], max((step.op.start for step in steps), default=0)
    kind = choices.pick("rrrrr" + "lll" * plan.lists + "f")
    start = max(0, latest + choices.pick((6, 1, 0, 2, 3, 6, -1, -3)))
    end = start + choices.pick(LENGTHS)
    if kind == "f":
        fault = Fault(fault="kill", node="a", start=start, end=None if choices.chance(25) else end)
        return Step(fault, file, choices)
    key = plan.list_key(worker) if kind == "l" else plan.key(worker, choices.number(0, plan.keys - 1))
    final = Final(key=key, start=start, end=end, outcome=choices.pick(FINAL_OUTCOMES))
    if final.outcome == "ok" or choices.chance(30):
        if kind == "l":
            final.items = _items(choices, [step.op for step in _of(Append, steps) if step.op.key == key])
        else:
            version = written.near_truth(choices, key, start, end)
            final.version = choices.number(0, version) if choices.chance(25) else version  # what is newer was lost
            if choices.chance(plan.siblings):
                final.siblings = choices.picks(written.versions(key), choices.pick((0, 0, 2)))
    return Step(final, file, choices)


def _items(choices: Choices, appends: Sequence[Append]) -> list[str | int]:
    with_failed = choices.chance(15)
    appended = [a.item for a in appends if a.item is not None and (a.outcome != "fail" or with_failed)]
    missing = choices.picks(appended, 2)
    twice = appended[:1] if choices.chance(40) else []
    return [*(item for item in appended if item not in missing), *twice, *(["stray"] if choices.chance(25) else [])]


def _file(plan: Plan, index: int, steps: Sequence[Step[SessionOp] | Step[Operation]]) -> File:
    lines, missing = _in_order_of_end(steps), plan.missing[index]
    return File(
        lines[: max(0, len(lines) - (missing or 0))],
        worker=plan.workers[index],
        clock_error_ns=plan.clock_errors_ns[index],
        complete=missing is None,
        overwriting=plan.overwriting,
    )


def _in_order_of_end(steps: Sequence[Step[SessionOp] | Step[Operation]]) -> list[Operation]:
    """Return the operations in file order: ties in any order, those that never ended anywhere."""
    ended = [(step.op.end, step.choices.number(0, 255), step.op) for step in steps if step.op.end is not None]
    lines: list[Operation] = [op for *_, op in sorted(ended, key=lambda entry: entry[:2])]
    for step in steps:
        if step.op.end is None:
            lines.insert(step.choices.number(0, len(lines)), step.op)
    return lines


def generate_growing_register(rolls: Sequence[bytes], *, rising: bool) -> list[File]:
    """Return a file of writes and reads of one key, each in a session of its own."""
    steps: list[Step[SessionOp]] = []
    start = 0
    for number, choices in enumerate(map(Choices, rolls)):
        kind = choices.pick((Write, Read))
        op = kind(session=f"s{number}", key="k", start=start, end=0, outcome=choices.pick(OUTCOMES))
        if isinstance(op, Write):
            op.start = start = start + choices.pick((1, 0, 1, 2, 4))
        else:
            op.start = max(0, start + choices.number(-3, 5))
        op.end = op.start + choices.pick(LENGTHS)
        steps.append(Step(op, 0, choices, turn=choices.number(0, 255)))
    _add_register_versions(_of(Write, steps), rising=rising)
    written = Written([step.op for step in _of(Write, steps)])
    for read in _of(Read, steps):
        if read.op.outcome == "ok":
            read.op.version = written.near_truth(read.choices, "k", read.op.start, read.op.end)
    return [File(_in_order_of_end(steps))]


def _add_register_versions(writes: Sequence[Step[Write]], *, rising: bool) -> None:
    ordered = sorted(writes, key=lambda step: (step.op.start if rising else 0, step.turn))
    for version, step in enumerate(ordered, start=1):
        step.op.version = version
        if step.op.outcome == "unknown" and step.choices.chance(40):
            step.op.end = None


# Histories from a seed.


def random_history(seed: int, size: int = DEFAULT_SIZE, *, files: int | None = None) -> list[File]:
    """Return the history of this seed: up to `size` operations of sessions, and up to 8 final reads and faults.

    If `files` is None it has one to three files, and only one in half of all cases.
    """
    random = Random(seed)
    files = files or random.choice((1, 1, 1, 2, 2, 3))
    steps, extras = max(random.randint(1, size), random.randint(1, size)), random.randint(0, MAX_EXTRAS)
    return generate(Rolls(random.randbytes(BYTES), _random_rolls(random, steps), _random_rolls(random, extras)), files)


def scaled(files: Sequence[File], scale: int) -> list[File]:
    """Return the history with all times and clock errors multiplied, and a horizon that is still beyond its end."""

    def stretched(op: Operation) -> Operation:
        return replace(op, start=op.start * scale, end=None if op.end is None else op.end * scale)

    return [
        dataclasses.replace(
            file,
            operations=[stretched(op) for op in file.operations],
            clock_error_ns=None if file.clock_error_ns is None else file.clock_error_ns * scale,
            horizon_s=10**7,
        )
        for file in files
    ]


def random_growing_register(seed: int, size: int = 8, *, rising: bool = True) -> list[File]:
    return generate_growing_register(_random_rolls(Random(seed), size), rising=rising)


def _random_rolls(random: Random, count: int) -> list[bytes]:
    return [random.randbytes(BYTES) for _ in range(count)]


# Histories from hypothesis.

Strategy = st.SearchStrategy[list[File]]
ROLL = st.binary(min_size=BYTES, max_size=BYTES)


def single_file_histories(max_size: int = DEFAULT_SIZE) -> Strategy:
    return st.builds(generate, _rolls(max_size), files=st.just(1))


def multi_file_histories(max_size: int = DEFAULT_SIZE, max_files: int = 3) -> Strategy:
    """Return histories of two or more files from different workers."""
    return st.builds(generate, _rolls(max_size), files=st.integers(2, max_files))


def growing_registers(max_size: int = 8, *, rising: bool = True) -> Strategy:
    """Return histories of one key; if `rising`, write starts never fall as versions rise."""
    return st.builds(generate_growing_register, _many(max_size), rising=st.just(rising))


def _rolls(max_size: int) -> st.SearchStrategy[Rolls]:
    return st.builds(Rolls, plan=ROLL, steps=_many(max_size), extras=st.lists(ROLL, max_size=MAX_EXTRAS))


def _many(max_size: int) -> st.SearchStrategy[list[bytes]]:
    """Return lists of rolls, half of them long; hypothesis prefers short ones."""
    return st.lists(ROLL, min_size=1, max_size=max_size) | st.lists(ROLL, min_size=max_size // 2, max_size=max_size)


# The text of a history file.

Truncation = Literal["no close", "no newline", "half a line"]
"""How a file is incomplete: no close line, no newline after it, or another line cut off in the middle."""


def history_text(
    file: File,
    *,
    run: str = "r1",
    database: str = "mongo",
    closes: bool = True,
    header_clock_error_ns: int | None = None,
    truncation: Truncation = "no close",
) -> str:
    """Return the file as JSON lines.

    Without an effective close line (in an incomplete file, or if not `closes`) the header's clock error applies, so it
    is the file's own; otherwise the header has `header_clock_error_ns`, and the close line overrides it.
    """
    overridden = file.complete and closes
    header = {
        "format": "stalewatch-history",
        "version": 1,
        "run": run,
        "worker": file.worker,
        "database": database,
        "horizon_s": file.horizon_s,
        "clock_error_ns": header_clock_error_ns if overridden else file.clock_error_ns,
        "closes": closes,
        "registers": "overwriting" if file.overwriting else "growing",
        "options": {},
    }
    lines = "".join(_line(record) for record in (header, *map(operation_fields, file.operations)))
    close = _line({"op": "close", "clock_error_ns": file.clock_error_ns})
    return lines + (close if overridden else "" if file.complete else _truncated_tail(truncation, closes=closes))


def _truncated_tail(truncation: Truncation, *, closes: bool) -> str:
    if truncation == "no close":
        assert closes, "a file that promises no close line and ends with a complete line is complete"
        return ""
    # If it were used, the line without its newline would give the file another clock error.
    return {"no newline": _line({"op": "close", "clock_error_ns": 7}).rstrip("\n"), "half a line": '{"op":"wri'}[
        truncation
    ]


def _line(record: dict[str, object]) -> str:
    return json.dumps(record, separators=(",", ":")) + "\n"


def operation_fields(operation: Operation) -> dict[str, object]:
    """Return an operation as a JSON object: absent fields are omitted, but a missing end is null."""
    values = {name: getattr(operation, name) for name in type(operation).__annotations__}
    values["depends"] = _depends_fields(values.get("depends"))
    absent = [name for name, value in values.items() if value is None and name != "end"]
    if not values.get("superseded"):
        absent.append("superseded")
    present = {name: value for name, value in values.items() if name not in absent}
    return {"op": type(operation).__name__.lower(), **present}


def _depends_fields(depends: Depends | None) -> dict[str, object] | None:
    if depends is None:
        return None
    fields = {"key": depends.key, "version": depends.version, "cause": depends.cause}
    return {name: value for name, value in fields.items() if value is not None}
