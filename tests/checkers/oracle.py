"""A brute-force oracle for the ten guarantees: every definition is a loop over all operations, taken literally.

Nothing here is fast or streaming, and no code is shared with the checkers, so that the two can be compared. Text in
quotation marks is from the definitions (docs/consistency.md). Where they leave something open, the interpretation is
marked "Reading:".
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from statistics import NormalDist
from typing import Generic, Protocol, TypeVar

from stalewatch.history.operation import Append, Depends, Draw, Final, Operation, Read, Write

Place = tuple[int, int]
"""Index of the file, index of the operation in it."""


@dataclass
class File:
    """One worker's history: `operations` in file order, which is by end; those that never ended may be anywhere.

    `clock_error_ns` is the effective one (the close line's, else the header's). The horizon bounds what a streaming
    checker remembers; the oracle remembers everything, so here it has no effect.
    """

    operations: Sequence[Operation]
    worker: int = 0
    clock_error_ns: int | None = 0
    complete: bool = True
    horizon_s: float = 120
    overwriting: bool = False


@dataclass
class Result:
    """The result of one guarantee. `staleness_ns` is for stale reads only, `floors` for every read with a floor."""

    checked: int = 0
    violating: set[Place] = field(default_factory=set)
    causes: Counter[str] = field(default_factory=Counter)
    staleness_ns: list[int] = field(default_factory=list)
    floors: dict[Place, int] = field(default_factory=dict)
    ages_ns: list[tuple[int, bool]] = field(default_factory=list)
    """Of the checked reads of stale_reads: age, and whether the read was stale."""
    times: Counter[Place] = field(default_factory=Counter)
    """How often each violating operation counts, if that may be more than once."""
    verdict: str = "no_evidence"

    @property
    def violated(self) -> int:
        return self.times.total() or len(self.violating)


class Timed(Protocol):
    @property
    def start(self) -> int: ...
    @property
    def end(self) -> int | None: ...


class Stepped(Timed, Protocol):
    @property
    def session(self) -> str: ...


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Kind = TypeVar("Kind", Read, Write, Append, Draw, Final)


@dataclass(frozen=True)
class At(Generic[T_co]):
    """An operation, its file and its place."""

    op: T_co
    file: File
    place: Place


class History:
    """All files of a run, with a list for each kind of operation, and one for the `ok` ones."""

    def __init__(self, files: Sequence[File]) -> None:
        self.files = files
        everything = [
            At(op, file, (number, line)) for number, file in enumerate(files) for line, op in enumerate(file.operations)
        ]

        def of(kind: type[Kind]) -> list[At[Kind]]:
            return [At(at.op, at.file, at.place) for at in everything if isinstance(at.op, kind)]

        self.writes, self.appends = of(Write), of(Append)
        self.acknowledged = [write for write in self.writes if write.op.outcome == "ok"]
        self.reads = [read for read in of(Read) if read.op.outcome == "ok"]
        self.draws = [draw for draw in of(Draw) if draw.op.outcome == "ok"]
        self.finals = [final for final in of(Final) if final.op.outcome == "ok"]
        self.judged_reads = [read for read in self.reads if self._is_judged(read)]

    @cached_property
    def order(self) -> dict[Place, int]:
        """Return the number of each operation that ended in "the history's order": "JSON lines in order of `end`", and
        "several files of one run merge by `end`, then `start`".

        Reading: a file keeps the order of its lines, so of operations that end together only those of different files
        are ordered by start, and then by the order of files. Reads and writes of no duration count as the last of
        their file that end in their nanosecond, as they do in their session's order.
        """
        files = [
            sorted(lines, key=lambda at: (at.op.end, isinstance(at.op, Read | Write) and at.op.start == at.op.end))
            for lines in self._ended()
        ]
        numbers: dict[Place, int] = {}
        while any(files):
            following = min((lines for lines in files if lines), key=lambda lines: (lines[0].op.end, lines[0].op.start))
            numbers[following.pop(0).place] = len(numbers)
        return numbers

    def _ended(self) -> list[list[At[Operation]]]:
        return [
            [At(op, file, (number, line)) for line, op in enumerate(file.operations) if op.end is not None]
            for number, file in enumerate(self.files)
        ]

    @cached_property
    def lost(self) -> set[Place]:
        """Return the writes and items that are lost, worked out once."""
        return lost_writes(self).violating

    def _is_judged(self, read: At[Read]) -> bool:
        """`owner`: "without N's complete file, and live, only `monotonic_reads` judges it".

        Reading: an `owner` that is the file's own worker has no effect; if worker N has several files, all must be
        complete. A read that is not judged is still evidence for the floors of other reads.
        """
        if read.op.owner is None or read.op.owner == read.file.worker:
            return True
        owned = [file for file in self.files if file.worker == read.op.owner]
        return bool(owned) and all(file.complete for file in owned)

    def may_be_late(self, at: "At[Read] | At[Final]") -> bool:
        """Return whether it shows "a version above 0 whose write does not stand, with outcome `ok`, before it in the
        history's order": of an overwriting register it "is not judged by any floor nor by `lost_writes`".

        Reading: the file of the read says what kind of register it is.
        """
        return (
            at.file.overwriting
            and bool(at.op.version)
            and not any(
                write.op.key == at.op.key
                and write.op.version == at.op.version
                and self.order[write.place] < self.order[at.place]
                for write in self.acknowledged
            )
        )

    def incomplete_keys(self) -> set[str]:
        """Return the keys of incomplete files.

        Reading: "that file's keys" are all keys on its lines, except those it read as another worker's.
        """
        named = [(op, file) for file in self.files if not file.complete for op in file.operations if hasattr(op, "key")]
        return {op.key for op, file in named if getattr(op, "owner", None) in {None, file.worker}}

    def last_finals(self) -> list[At[Final]]:
        """Return "the key's last ok final read". Reading: the last in the history's order."""
        return [
            max((final for final in self.finals if final.op.key == key), key=lambda final: self.order[final.place])
            for key in {final.op.key for final in self.finals}
        ]


def before(a: At[Timed], b: At[Timed]) -> bool:
    """`end < start` within a file, "`a.end + e_a < b.start - e_b`" between files, "`null`: no order"."""
    if a.op.end is None:
        return False
    if a.place[0] == b.place[0]:
        return a.op.end < b.op.start
    if a.file.clock_error_ns is None or b.file.clock_error_ns is None:
        return False
    return a.op.end + a.file.clock_error_ns < b.op.start - b.file.clock_error_ns


def earlier_in_session(a: At[Stepped], b: At[Stepped]) -> bool:
    """Same session, "by `start`, then `end`, then place in the file"; "a session is (worker, session)".

    Reading: if two files contain a session of the same worker, "between files" applies to it as to everything else.
    """
    if (a.file.worker, a.op.session) != (b.file.worker, b.op.session):
        return False
    if a.place[0] != b.place[0]:
        return before(a, b)
    assert a.op.end is not None
    assert b.op.end is not None
    return (a.op.start, a.op.end, a.place) < (b.op.start, b.op.end, b.place)


def written(at: At[Write]) -> int:
    """Return the version of an acknowledged write; it may be absent only "when the outcome is not ok"."""
    assert at.op.version is not None
    return at.op.version


def shown(at: At[Read]) -> int:
    """Return the version that a read shows: "its `version`"; siblings do not count."""
    assert at.op.version is not None
    return at.op.version


# Floors: "the newest version that the guarantee says it must at least show"; 0 is none.


def acknowledged_floor(history: History, read: At[Read]) -> int:
    """Return the "newest acknowledged write of the key that ended before the read started"."""
    return max((written(w) for w in history.acknowledged if w.op.key == read.op.key and before(w, read)), default=0)


def own_write_floor(history: History, read: At[Read]) -> int:
    """Return the "newest acknowledged write of the key by the same session, earlier in its order"."""
    return max(
        (written(w) for w in history.acknowledged if w.op.key == read.op.key and earlier_in_session(w, read)), default=0
    )


def own_read_floor(history: History, read: At[Read]) -> int:
    """Return the "newest version that the same session read (ok) from the key, earlier in its order"."""
    return max((shown(r) for r in history.reads if r.op.key == read.op.key and earlier_in_session(r, read)), default=0)


def any_read_floor(history: History, read: At[Read]) -> int:
    """Return the "newest version that any session's ok read showed and that ended before this read started"."""
    return max((shown(r) for r in history.reads if r.op.key == read.op.key and before(r, read)), default=0)


def dependencies(history: History, read: At[Read]) -> Iterator[Depends]:
    """Yield what "a value read earlier by the same session depends on" of this key, in the session's order.

    Reading: the dependency of a value is the one recorded with the read of it, not with the write of it.
    """
    for r in sorted(history.reads, key=lambda r: (r.op.start, r.op.end, r.place)):
        if r.op.depends is not None and r.op.depends.key == read.op.key and earlier_in_session(r, read):
            yield r.op.depends


def dependency_floor(history: History, read: At[Read]) -> int:
    """Return the "newest version of this key that a value read earlier by the same session depends on"."""
    return max((depends.version for depends in dependencies(history, read)), default=0)


# Causes, and staleness.


def held(final: At[Final]) -> int:
    """Return the newest of what a final read "holds (version and siblings)"."""
    assert final.op.version is not None
    return max(final.op.version, *(final.op.siblings or []), 0)


def setter(history: History, read: At[Read], floor: int) -> At[Write]:
    """Return "the write that set its floor"."""
    [write] = [w for w in history.acknowledged if w.op.key == read.op.key and written(w) == floor]
    return write


def why_stale(history: History, read: At[Read], floor: int) -> str:
    """Cause "`conflict` when a sibling is at least the floor"; "`lost` when the key's last ok final read proves the
    floor's version lost"; "else `lag`".

    Reading: a final read proves a version lost if `lost_writes` counts its write.
    """
    if any(sibling >= floor for sibling in read.op.siblings or ()):
        return "conflict"
    return "lost" if setter(history, read, floor).place in history.lost else "lag"


def why_no_prefix(history: History, read: At[Read], floor: int) -> str | None:
    """Cause as recorded with the dependency. Reading: if several give the floor, the session's first."""
    return next(depends.cause for depends in dependencies(history, read) if depends.version == floor)


def staleness_ns(history: History, read: At[Read]) -> int:
    """Return the "start of the read minus the end of the earliest acknowledged write newer than what it showed".

    Reading: the earliest of those before the read. Within one file that is no restriction, since any write that ended
    earlier than the floor's ended before the read too. Between files, an end that cannot be placed before the read is
    no evidence. Times are used as recorded; no clock error is subtracted.
    """
    ends = [
        w.op.end
        for w in history.acknowledged
        if w.op.key == read.op.key and written(w) > shown(read) and before(w, read) and w.op.end is not None
    ]
    return read.op.start - min(ends)


# The guarantees.

Floor = Callable[[History, At[Read]], int]
Cause = Callable[[History, At[Read], int], str | None]


def reads_below(history: History, reads: list[At[Read]], floor_of: Floor, cause_of: Cause | None = None) -> Result:
    """Check "ok reads with a floor above 0": each must show at least its floor."""
    result = Result()
    for read in reads:
        floor = floor_of(history, read)
        if floor > 0 and not history.may_be_late(read):
            result.checked += 1
            result.floors[read.place] = floor
            if shown(read) < floor:
                result.violating.add(read.place)
                cause = cause_of and cause_of(history, read, floor)
                result.causes.update([cause] if cause else [])
    return result


def stale_reads(history: History) -> Result:
    result = reads_below(history, history.judged_reads, acknowledged_floor, why_stale)
    result.staleness_ns = sorted(
        staleness_ns(history, read) for read in history.judged_reads if read.place in result.violating
    )
    for read in history.judged_reads:
        if read.place in result.floors:
            end = setter(history, read, result.floors[read.place]).op.end
            assert end is not None
            result.ages_ns.append((read.op.start - end, read.place in result.violating))
    return result


AGE_EDGES_NS = [0] + [step * 10**power for power in range(5, 11) for step in (1, 2, 5)] + [10**11]
""""1, 2 and 5 times powers of ten from 0.1 ms to 100 s", "0 included". Reading: an age on an edge is in the bucket that
begins there."""


def freshness(result: Result) -> list[tuple[int, int | None, int, int]]:
    """Return "`checked` and `stale` a bucket", "empty buckets left out": where it begins, where it ends, two counts."""
    rows = []
    for begin, end in zip(AGE_EDGES_NS, [*AGE_EDGES_NS[1:], None], strict=True):
        inside = [stale for age, stale in result.ages_ns if begin <= age and (end is None or age < end)]
        if inside:
            rows.append((begin, end, len(inside), sum(inside)))
    return rows


def fresh_after_ns(result: Result, percentage: float) -> int | None:
    """Return "the smallest edge e for which, over all reads whose bucket begins at e or later, the upper end of the
    95 % Wilson interval of the stale share is at most 1 - P/100; null where there is none".
    """
    for edge in AGE_EDGES_NS:
        later = [stale for age, stale in result.ages_ns if age >= edge]
        if later and wilson(sum(later), len(later))[1] <= 1 - percentage / 100:
            return edge
    return None


def read_your_writes(history: History) -> Result:
    return reads_below(history, history.judged_reads, own_write_floor)


def monotonic_reads(history: History) -> Result:
    return reads_below(history, history.reads, own_read_floor)  # foreign reads too


def read_regressions(history: History) -> Result:
    """Check reads, and "final reads too: what one holds (version and siblings) is at least that floor, or something
    shown has vanished (cause `vanished`)".

    Reading: a final read raises no floor, since it is no session's read.
    """
    result = reads_below(history, history.judged_reads, any_read_floor)
    for final in history.finals:
        if final.op.version is not None and not history.may_be_late(final):
            floor = max((shown(r) for r in history.reads if r.op.key == final.op.key and before(r, final)), default=0)
            if floor > 0:
                result.checked += 1
                if held(final) < floor:
                    result.violating.add(final.place)
                    result.causes["vanished"] += 1
    return result


def consistent_prefix(history: History) -> Result:
    return reads_below(history, history.judged_reads, dependency_floor, why_no_prefix)


def phantom_reads(history: History) -> Result:
    """Violated if the version "was never written, was written only by a write that started after the read ended,
    or by one that ended in `fail`"; checked: "ok reads and ok final reads of a version above 0".

    "A read that shows a version of that [incomplete] file's keys with no recorded write is not checked".
    Reading: a write without a version matches no read; a superseded write is a write, since an earlier attempt may have
    been applied.
    """
    result = Result()
    incomplete = history.incomplete_keys()
    looks: list[At[Read] | At[Final]] = [*history.judged_reads, *history.finals]
    for read in looks:
        writes = [w for w in history.writes if w.op.key == read.op.key and w.op.version == read.op.version]
        if (read.op.version or 0) > 0 and (writes or read.op.key not in incomplete):
            result.checked += 1
            if all(w.op.outcome == "fail" or before(read, w) for w in writes):
                result.violating.add(read.place)
    return result


def lost_writes(history: History) -> Result:
    """Check "acknowledged writes and items that ended before that final read started".

    Violated if "newer than everything that the key's last ok final read holds (version and siblings); for items:
    missing there". Reading: a final read without `items` says nothing about items, and one without `version` nothing
    about writes.
    """
    result = Result()
    for final in history.last_finals():
        if final.op.version is not None and not history.may_be_late(final):
            for write in history.acknowledged:
                if write.op.key == final.op.key and before(write, final):
                    result.checked += 1
                    if written(write) > held(final):
                        result.violating.add(write.place)
        if final.op.items is not None:
            for append in history.appends:
                if append.op.outcome == "ok" and append.op.key == final.op.key and before(append, final):
                    result.checked += 1
                    if append.op.item not in final.op.items:
                        result.violating.add(append.place)
    return result


def conflicts(history: History) -> Result:
    """Check "ok reads and final reads that have a `siblings` field"; violated where they "are not empty".

    Reading: "ok" applies to final reads too, and every ok one counts, not just the key's last.
    """
    result = Result()
    looks: list[At[Read] | At[Final]] = [*history.judged_reads, *history.finals]
    for at in looks:
        if at.op.siblings is not None:
            result.checked += 1
            if at.op.siblings:
                result.violating.add(at.place)
    return result


def unexpected_items(history: History) -> Result:
    """Check "distinct items of the last ok final read of each list, each once".

    Violated by "an item that a key's last ok final read shows more often than once (cause `duplicate`), or that nobody
    appended or whose append failed (cause `phantom`; unrecorded items of an incomplete file are not judged)";
    "duplicate and phantom at once is one violation, `phantom`". Reading: "not judged" is not checked either, whatever
    else is wrong with the item.
    """
    result = Result()
    incomplete = history.incomplete_keys()
    for final in history.last_finals():
        shown_items = final.op.items or []
        for item in set(shown_items):
            appends = [a for a in history.appends if (a.op.key, a.op.item) == (final.op.key, item)]
            if not appends and final.op.key in incomplete:
                continue
            result.checked += 1
            phantom = all(a.op.outcome == "fail" for a in appends)
            if phantom or shown_items.count(item) > 1:
                result.causes["phantom" if phantom else "duplicate"] += 1
                result.violating.add(final.place)
                result.times[final.place] += 1
    return result


def unique_ids(history: History) -> Result:
    """Violated by "an ok draw whose value another ok draw of the key has too (the later by `end`, then by place), or
    which is smaller than that of an ok draw that ended before it started"; checked: "ok draws, each once".

    Reading: "by place" is the history's order, so between files `start` comes before the order of files; all of it
    regardless of clock errors: that two values are equal does not depend on a clock.
    """

    def broken_by(draw: At[Draw], other: At[Draw]) -> bool:
        assert draw.op.value is not None
        assert other.op.value is not None
        if other.op.value == draw.op.value:
            return history.order[other.place] < history.order[draw.place]
        return draw.op.value < other.op.value and before(other, draw)

    return Result(
        checked=len(history.draws),
        violating={
            draw.place
            for draw in history.draws
            if any(other.op.key == draw.op.key and broken_by(draw, other) for other in history.draws)
        },
    )


GUARANTEES: dict[str, Callable[[History], Result]] = {
    "stale_reads": stale_reads,
    "read_your_writes": read_your_writes,
    "monotonic_reads": monotonic_reads,
    "read_regressions": read_regressions,
    "phantom_reads": phantom_reads,
    "consistent_prefix": consistent_prefix,
    "lost_writes": lost_writes,
    "conflicts": conflicts,
    "unexpected_items": unexpected_items,
    "unique_ids": unique_ids,
}


def judge(files: Sequence[File]) -> dict[str, Result]:
    """Return the result of each guarantee, with its verdict."""
    history = History(files)
    results = {name: guarantee(history) for name, guarantee in GUARANTEES.items()}
    for name, result in results.items():
        result.verdict = verdict(name, result, history)
    return results


def verdict(name: str, result: Result, history: History) -> str:
    """Return "`holds`, `violated`, `no_evidence` (nothing was checked; never `holds`), `not_applicable` (conflicts
    without siblings)".

    Reading: not applicable if there are ok reads or final reads and none has a `siblings` field. If there are none at
    all, nothing is known about what the database can show. Reads that only `monotonic_reads` judges do not count either
    way.
    """
    if result.checked:
        return "violated" if result.violating else "holds"
    looks: list[At[Read] | At[Final]] = [*history.judged_reads, *history.finals]
    if name == "conflicts" and looks and all(at.op.siblings is None for at in looks):
        return "not_applicable"
    return "no_evidence"


def overall(files: Sequence[File], results: dict[str, Result], *, a_worker_died: bool = False) -> str:
    """Return "`invalid` if any is violated; else `valid` if at least one holds; else `unknown`"; "`unknown` also
    replaces `valid` when a file is incomplete or a worker died"; "`conflicts` alone never makes a run `invalid`".
    """
    if any(result.verdict == "violated" for name, result in results.items() if name != "conflicts"):
        return "invalid"
    if a_worker_died or not all(file.complete for file in files):
        return "unknown"
    return "valid" if any(result.verdict == "holds" for result in results.values()) else "unknown"


def wilson(violated: int, checked: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson 1927)."""
    z, n, p = NormalDist().inv_cdf(0.975), checked, violated / checked
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


# Counts of items, which stand beside the guarantees.

Item = tuple[str, str | int]
"""Key of the list, item."""


def duplicate_items(files: Sequence[File]) -> set[Item]:
    """Return the items shown "more than once". Reading: by the key's last ok final read, each item counted once."""
    finals = History(files).last_finals()
    return {(f.op.key, item) for f in finals for item in f.op.items or () if (f.op.items or []).count(item) > 1}


def phantom_items(files: Sequence[File]) -> set[Item]:
    """Return the items that "were never appended, or whose append failed".

    Reading: in the key's last ok final read, each item counted once, regardless of when the append started. Items
    without a recorded append are not counted in lists of an incomplete file, like reads in `phantom_reads`.
    """
    history = History(files)
    incomplete = history.incomplete_keys()
    phantoms = set()
    for final in history.last_finals():
        for item in final.op.items or ():
            appends = [a for a in history.appends if (a.op.key, a.op.item) == (final.op.key, item)]
            if all(a.op.outcome == "fail" for a in appends) and (appends or final.op.key not in incomplete):
                phantoms.add((final.op.key, item))
    return phantoms
