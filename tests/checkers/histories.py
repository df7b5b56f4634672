"""Histories to judge: generated ones, small and full of ties, and the file text of any of them.

One generator serves both hypothesis and plain seeds (for bulk runs). It makes files that keep the rules of the format:
lines in order of end, sessions sequential aside from unknown operations, one write per key and version. Reads mostly
show versions near the truth, so that most guarantees are broken in some histories and hold in others.

Every operation takes all its choices from bytes of its own. So hypothesis can leave one out, or make it plainer,
without a change to the others, and shrinks a history of twenty operations to the two or three that matter.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Literal, TypeVar

from hypothesis import strategies as st

from stalewatch.history.operation import Append, Depends, Draw, Fault, Final, Operation, Outcome, Read, Write
from tests.checkers.oracle import File

T = TypeVar("T")
SessionOp = Write | Read | Append | Draw
Op = TypeVar("Op", bound=Operation)
Kind = TypeVar("Kind", Write, Read, Append, Draw)

DEFAULT_SIZE = 20
MOST_LOOKS = 8

# Options to pick from; one is as likely as it is frequent, and hypothesis shrinks towards the first.
GAPS = (0, 0, 0, 1, 1, 2, 3)
LENGTHS = (1, 0, 0, 1, 2, 3, 6)
OUTCOMES: tuple[Outcome, ...] = ("ok",) * 14 + ("unknown",) * 4 + ("fail",) * 2
FINAL_OUTCOMES: tuple[Outcome, ...] = ("ok",) * 7 + ("unknown",) * 2 + ("fail",)
CAUSES = ("monotonic_writes", "writes_follow_reads")
CLOCK_ERRORS = (0, 0, 1, 2, 4, None)
ABSENT_WORKER = 9


class Choices:
    """Choices read off bytes, one byte each; where none is left, the first option."""

    def __init__(self, rolls: bytes) -> None:
        self._rolls = iter(rolls)

    def number(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + next(self._rolls, 0) * (high - low + 1) // 256

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number(0, len(options) - 1)]

    def picks(self, options: Sequence[T], most: int) -> list[T]:
        """Return up to `most` of the options; one may come twice."""
        return [self.pick(options) for _ in range(self.number(0, most))] if options else []

    def chance(self, percent: int) -> bool:
        return self.number(0, 99) >= 100 - percent


BYTES = 32
"""Enough for the choices of one operation, and of a plan."""


@dataclass(frozen=True)
class Rolls:
    """The chance in a history: what it is like, each operation of a session, each final read or fault."""

    plan: bytes
    acts: Sequence[bytes]
    looks: Sequence[bytes] = ()


@dataclass
class Plan:
    """What a whole history is like."""

    sessions: int
    keys: int
    lists: bool
    counters: bool
    shared: bool  # do workers use the same keys
    rising: bool  # do write starts rise with versions
    siblings: int  # percent of reads that have the field
    depends: int  # percent of reads and writes that have the field
    foreign: int  # percent of reads that go to another worker's key
    workers: list[int]
    clock_errors_ns: list[int | None]
    cuts: list[int | None]  # how many lines each file lacks at its end; None: it is complete

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
            workers=[2 * n + 3 for n in reversed(range(files))] if choices.chance(40) else list(range(files)),
            clock_errors_ns=[choices.pick(CLOCK_ERRORS) for _ in range(files)],
            cuts=[choices.number(0, 5) if choices.chance(15 if alone else 25) else None for _ in range(files)],
        )

    def key(self, worker: int, number: int) -> str:
        return f"k{number}" if self.shared else f"w{worker}-k{number}"

    def list_key(self, worker: int) -> str:
        return "list" if self.shared else f"w{worker}-list"

    def counter_key(self, worker: int) -> str:
        return "seq" if self.shared else f"w{worker}-seq"


@dataclass
class Act(Generic[Op]):
    """An operation in the making, the file it goes to, and where it takes its further choices from."""

    op: Op
    file: int
    choices: Choices
    turn: int = 0  # orders those that start together


def generate(rolls: Rolls, files: int) -> list[File]:
    """Return the history that these rolls make."""
    plan = Plan.choose(Choices(rolls.plan), files)
    acts = _acts(plan, rolls.acts)
    _number_writes(plan, _of(Write, acts))
    _value_draws(_of(Draw, acts))
    written = Written([act.op for act in _of(Write, acts)])
    for act in acts:
        _say_what_it_depends_on(plan, act, written)
    for read in _of(Read, acts):
        _show(plan, read, written)
    looks = [_look(plan, Choices(look), acts, written) for look in rolls.looks]
    everything: list[Act[SessionOp] | Act[Operation]] = [*acts, *looks]
    return [_file(plan, index, [act for act in everything if act.file == index]) for index in range(files)]


def _of(kind: type[Kind], acts: Sequence[Act[SessionOp]]) -> list[Act[Kind]]:
    return [Act(act.op, act.file, act.choices, act.turn) for act in acts if isinstance(act.op, kind)]


def _acts(plan: Plan, rolls: Sequence[bytes]) -> list[Act[SessionOp]]:
    """Let sessions act one operation after the other; only unknown operations go on while the next one starts."""
    free: dict[tuple[int, str], int] = {}
    acts = []
    for number, roll in enumerate(rolls):
        choices = Choices(roll)
        file, session = choices.number(0, len(plan.workers) - 1), f"s{choices.number(0, plan.sessions - 1)}"
        op = _blank(plan, choices, plan.workers[file], number)
        op.session = session
        op.start = free.get((file, session), 0) + choices.pick(GAPS)
        op.end = op.start + choices.pick(LENGTHS)
        op.outcome = choices.pick(OUTCOMES)
        free[file, session] = op.end
        if op.outcome == "unknown":
            free[file, session] = op.start if choices.chance(60) else op.end
            if not isinstance(op, Read) and choices.chance(40):
                op.end = None
        acts.append(Act(op, file, choices, turn=choices.number(0, 255)))
    return acts


def _blank(plan: Plan, choices: Choices, worker: int, number: int) -> SessionOp:
    """Return an operation whose session, times and outcome are still to be filled in."""
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


def _number_writes(plan: Plan, writes: Sequence[Act[Write]]) -> None:
    """Give versions in order of start, or where they need not rise in any order, with a gap here and there."""
    last: dict[str, int] = {}
    for act in sorted(writes, key=lambda act: (act.op.start if plan.rising else 0, act.turn)):
        write = act.op
        version = last[write.key] = last.get(write.key, 0) + act.choices.pick((1, 1, 1, 2))
        write.version = None if write.outcome != "ok" and act.choices.chance(12) else version
        write.superseded = write.outcome == "ok" and act.choices.chance(8)


def _value_draws(draws: Sequence[Act[Draw]]) -> None:
    """Let a counter rise with the starts of its draws, aside from draws that repeat or fall back."""
    last: dict[str, int] = {}
    for act in sorted(draws, key=lambda act: (act.op.start, act.turn)):
        value = last.get(act.op.key, 3) + act.choices.pick((1, 1, 1, 1, 2, 0, -1, -2))
        last[act.op.key] = max(value, last.get(act.op.key, value))
        if act.op.outcome == "ok" or act.choices.chance(30):
            act.op.value = value


class Written:
    """All writes of a history, to look at: what would a look at a key show?"""

    def __init__(self, writes: Sequence[Write]) -> None:
        self._writes = writes

    def versions(self, key: str, holds: Callable[[Write], bool] = lambda _write: True) -> list[int]:
        return [w.version for w in self._writes if w.key == key and w.version is not None and holds(w)]

    def near_truth(self, choices: Choices, key: str, start: int, end: int) -> int:
        """Return a version that a look from `start` to `end` may well show, or one that it never should."""
        acknowledged = self.versions(key, lambda w: w.outcome == "ok" and w.end is not None and w.end < start)
        begun = self.versions(key, lambda w: w.outcome != "fail" and w.start <= end)
        floor, ceiling = max(acknowledged, default=0), max(begun, default=0)
        odd = [0, max(0, floor - 1), ceiling + 1, max(self.versions(key), default=0) + 1]
        likely = ([floor], [ceiling]) * 4
        return choices.pick(
            choices.pick((*likely, [floor, *acknowledged], [ceiling, *begun], self.versions(key), odd)) or odd
        )


def _say_what_it_depends_on(plan: Plan, act: Act[SessionOp], written: Written) -> None:
    op, choices = act.op, act.choices
    if isinstance(op, Write | Read) and choices.chance(plan.depends):
        key = plan.key(plan.workers[act.file], choices.number(0, plan.keys - 1))
        version = written.near_truth(choices, key, op.start, op.start if op.end is None else op.end)
        op.depends = Depends(key=key, version=version or 1, cause=choices.pick(CAUSES))


def _show(plan: Plan, act: Act[Read], written: Written) -> None:
    read, choices = act.op, act.choices
    if read.outcome == "ok" or choices.chance(30):
        read.version = written.near_truth(choices, read.key, read.start, read.end)
        if choices.chance(plan.siblings):
            read.siblings = choices.picks([*written.versions(read.key), read.version + 1], choices.pick((0, 0, 3)))


def _look(plan: Plan, choices: Choices, acts: Sequence[Act[SessionOp]], written: Written) -> Act[Operation]:
    """Return a final read around the time of the last operations, of a register or a list; or else a fault."""
    file = choices.number(0, len(plan.workers) - 1)
    worker, latest = plan.workers[file], max((act.op.start for act in acts), default=0)
    kind = choices.pick("rrrrr" + "lll" * plan.lists + "f")
    start = max(0, latest + choices.pick((6, 1, 0, 2, 3, 6, -1, -3)))
    end = start + choices.pick(LENGTHS)
    if kind == "f":
        fault = Fault(fault="kill", node="a", start=start, end=None if choices.chance(25) else end)
        return Act(fault, file, choices)
    key = plan.list_key(worker) if kind == "l" else plan.key(worker, choices.number(0, plan.keys - 1))
    final = Final(key=key, start=start, end=end, outcome=choices.pick(FINAL_OUTCOMES))
    if final.outcome == "ok" or choices.chance(30):
        if kind == "l":
            final.items = _items(choices, [act.op for act in _of(Append, acts) if act.op.key == key])
        else:
            final.version = written.near_truth(choices, key, start, end)
            if choices.chance(plan.siblings):
                final.siblings = choices.picks(written.versions(key), choices.pick((0, 0, 2)))
    return Act(final, file, choices)


def _items(choices: Choices, appends: Sequence[Append]) -> list[str | int]:
    with_failed = choices.chance(15)
    appended = [a.item for a in appends if a.item is not None and (a.outcome != "fail" or with_failed)]
    missing = choices.picks(appended, 2)
    twice = appended[:1] if choices.chance(40) else []
    return [*(item for item in appended if item not in missing), *twice, *(["stray"] if choices.chance(25) else [])]


def _file(plan: Plan, index: int, acts: Sequence[Act[SessionOp] | Act[Operation]]) -> File:
    lines, cut = _in_order_of_end(acts), plan.cuts[index]
    return File(
        lines[: max(0, len(lines) - (cut or 0))],
        worker=plan.workers[index],
        clock_error_ns=plan.clock_errors_ns[index],
        complete=cut is None,
    )


def _in_order_of_end(acts: Sequence[Act[SessionOp] | Act[Operation]]) -> list[Operation]:
    """Return the lines of a file: ties in any order, never-ended ones anywhere."""
    ended = [(act.op.end, act.choices.number(0, 255), act.op) for act in acts if act.op.end is not None]
    lines: list[Operation] = [op for *_, op in sorted(ended, key=lambda entry: entry[:2])]
    for act in acts:
        if act.op.end is None:
            lines.insert(act.choices.number(0, len(lines)), act.op)
    return lines


def generate_growing_register(rolls: Sequence[bytes], *, rising: bool) -> list[File]:
    """Return writes and reads of one key, each in its own session."""
    acts: list[Act[SessionOp]] = []
    start = 0
    for number, choices in enumerate(map(Choices, rolls)):
        kind = choices.pick((Write, Read))
        op = kind(session=f"s{number}", key="k", start=start, end=0, outcome=choices.pick(OUTCOMES))
        if isinstance(op, Write):
            op.start = start = start + choices.pick((1, 0, 1, 2, 4))
        else:
            op.start = max(0, start + choices.number(-3, 5))
        op.end = op.start + choices.pick(LENGTHS)
        acts.append(Act(op, 0, choices, turn=choices.number(0, 255)))
    _number_register(_of(Write, acts), rising=rising)
    written = Written([act.op for act in _of(Write, acts)])
    for read in _of(Read, acts):
        if read.op.outcome == "ok":
            read.op.version = written.near_truth(read.choices, "k", read.op.start, read.op.end)
    return [File(_in_order_of_end(acts))]


def _number_register(writes: Sequence[Act[Write]], *, rising: bool) -> None:
    for version, act in enumerate(sorted(writes, key=lambda act: (act.op.start if rising else 0, act.turn)), start=1):
        act.op.version = version
        if act.op.outcome == "unknown" and act.choices.chance(40):
            act.op.end = None


# From a seed.


def random_history(seed: int, size: int = DEFAULT_SIZE, *, files: int | None = None) -> list[File]:
    """Return the history of this seed: up to `size` operations of sessions in all, and up to 8 finals and faults.

    It is of one to three files, of one in half of all cases, where `files` is None.
    """
    random = Random(seed)
    files = files or random.choice((1, 1, 1, 2, 2, 3))
    acts, looks = max(random.randint(1, size), random.randint(1, size)), random.randint(0, MOST_LOOKS)
    return generate(Rolls(random.randbytes(BYTES), _random_rolls(random, acts), _random_rolls(random, looks)), files)


def random_growing_register(seed: int, size: int = 8, *, rising: bool = True) -> list[File]:
    return generate_growing_register(_random_rolls(Random(seed), size), rising=rising)


def _random_rolls(random: Random, count: int) -> list[bytes]:
    return [random.randbytes(BYTES) for _ in range(count)]


# By hypothesis.

Strategy = st.SearchStrategy[list[File]]
ROLL = st.binary(min_size=BYTES, max_size=BYTES)


def single_file_histories(max_size: int = DEFAULT_SIZE) -> Strategy:
    return st.builds(generate, _rolls(max_size), files=st.just(1))


def multi_file_histories(max_size: int = DEFAULT_SIZE, max_files: int = 3) -> Strategy:
    """Return histories of two files or more; workers differ."""
    return st.builds(generate, _rolls(max_size), files=st.integers(2, max_files))


def growing_registers(max_size: int = 8, *, rising: bool = True) -> Strategy:
    """Return one file of one key whose write starts rise with the versions (may be equal), unless not `rising`."""
    return st.builds(generate_growing_register, _many(max_size), rising=st.just(rising))


def _rolls(max_size: int) -> st.SearchStrategy[Rolls]:
    return st.builds(Rolls, plan=ROLL, acts=_many(max_size), looks=st.lists(ROLL, max_size=MOST_LOOKS))


def _many(max_size: int) -> st.SearchStrategy[list[bytes]]:
    """Return lists of rolls, half of them rather long (hypothesis makes mostly short ones)."""
    return st.lists(ROLL, min_size=1, max_size=max_size) | st.lists(ROLL, min_size=max_size // 2, max_size=max_size)


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
