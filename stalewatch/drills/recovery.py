"""How long an outage lasted: recovery times, from when attempts ended and how.

The first success after a fault would be the wrong measure: a primary that was cut off acknowledges writes for seconds
more, and these may be gone later. So the longest silence between two successes counts, wherever it lies.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise
from typing import NamedTuple

from stalewatch.history.operation import Outcome
from stalewatch.recording.attempts import Attempts

NS = 1_000_000_000
WINDOW_NS = 3 * NS
"""How long service must be good to count as back for good."""

GOOD_PERCENT = 99
"""The share of attempts that must be ok."""


class Gap(NamedTuple):
    """The time between two consecutive successes."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class Recovery:
    """What became of one kind of operation, in seconds; None where it never came back, or nothing tells."""

    rto_s: float | None
    sustained_rto_s: float | None
    degraded_s: int
    gap: Gap | None
    meanwhile: dict[str, int]
    """Attempts that ended within the gap, by outcome."""


NOTHING = Recovery(None, None, 0, None, {})
"""What is known where nothing was broken."""


class _Ended(NamedTuple):
    """All attempts of a kind, by their end."""

    ends: Sequence[int]
    ok: Sequence[int]
    """The ends of those that were ok."""


def recovery(attempts: Iterable[Attempts], fault_start: int, run_end: int) -> Recovery:
    """Return how one kind of operation recovered from a fault that began then, in a run that ended then."""
    mine = list(attempts)
    ended = _Ended(sorted(end for one in mine for end in one.ends), _ok(mine))
    gap = longest_gap(ended.ends, ended.ok, fault_start, run_end)
    sustained = None if gap is None else sustained_from(ended.ends, ended.ok, gap.end, run_end)
    return Recovery(
        None if gap is None else gap.length / NS,
        None if gap is None or sustained is None else (sustained - gap.start) / NS,
        degraded(mine, fault_start, run_end),
        gap,
        {} if gap is None else outcomes(mine, gap.start, gap.end),
    )


def _ok(attempts: Iterable[Attempts]) -> list[int]:
    return sorted(end for one in attempts if one.outcome == "ok" for end in one.ends)


def longest_gap(ends: Sequence[int], ok: Sequence[int], fault_start: int, run_end: int) -> Gap | None:
    """Return the longest gap that overlaps the time from the fault on; None where the longest silence never ended.

    `ends` are the ends of all attempts, `ok` of the successes among them, both rising; `run_end` is when sessions were
    told to end. After the last success there is a silence only if something was tried in vain: where all went well,
    the last read may end before the last write, by more than there ever was between two reads.
    """
    first = max(0, bisect_right(ok, fault_start) - 1)
    gaps = [Gap(*pair) for pair in pairwise(ok[first:])]
    longest = max(gaps, key=lambda gap: gap.length, default=None)
    silence = run_end - ok[-1] if ok and ends[-1] > ok[-1] else 0
    return None if longest is None or silence > longest.length else longest


def sustained_from(ends: Sequence[int], ok: Sequence[int], gap_end: int, run_end: int) -> int | None:
    """Return the start of the first good window that starts at or after the gap's end; None where there is none.

    `ends` are the ends of all attempts, `ok` of the successes among them, both rising. What a window holds changes only
    where an attempt leaves it, right after its end, or enters it, right after its end less the window: these starts
    alone need a look, in their order.
    """
    return next((start for start in _starts(ends, gap_end, run_end) if _is_good(ends, ok, start)), None)


def _starts(ends: Sequence[int], gap_end: int, run_end: int) -> Iterator[int]:
    known = ends[bisect_left(ends, gap_end) :]
    leaves = (end + 1 for end in known)
    enters = (end - WINDOW_NS + 1 for end in known)
    for start in merge([gap_end], leaves, enters):
        if start > run_end - WINDOW_NS:
            return
        if start >= gap_end:
            yield start


def _is_good(ends: Sequence[int], ok: Sequence[int], start: int) -> bool:
    attempts = _within(ends, start, start + WINDOW_NS)
    return attempts > 0 and _good(_within(ok, start, start + WINDOW_NS), attempts)


def _good(ok: int, attempts: int) -> bool:
    return 100 * ok >= GOOD_PERCENT * attempts  # in whole numbers, for 0.99 is none


def _within(moments: Sequence[int], start: int, end: int) -> int:
    """Return how many moments lie in [start, end)."""
    return bisect_left(moments, end) - bisect_left(moments, start)


def degraded(attempts: Sequence[Attempts], fault_start: int, run_end: int) -> int:
    """Return how many of the seconds from the fault on were below 99 %.

    A second in which no attempt ended counts where one was under way that failed: in an outage all may be waiting.
    """
    ended: Counter[int] = Counter()
    ok: Counter[int] = Counter()
    waited: set[int] = set()
    last = (run_end - fault_start) // NS
    for one in attempts:
        for start, end in zip(one.starts, one.ends, strict=True):
            second = (end - fault_start) // NS
            if one.outcome != "ok":
                waited.update(range(max(0, (start - fault_start) // NS), min(second, last + 1)))
            if 0 <= second <= last:
                ended[second] += 1
                ok[second] += one.outcome == "ok"
    bad = {second for second, count in ended.items() if not _good(ok[second], count)}
    return len(bad | (waited - ended.keys()))


def outcomes(attempts: Iterable[Attempts], start: int, end: int) -> dict[str, int]:
    """Return how many attempts ended between two moments, by outcome."""
    counts: dict[Outcome, int] = dict.fromkeys(("ok", "fail", "unknown"), 0)
    for one in attempts:
        counts[one.outcome] += sum(start < moment < end for moment in one.ends)
    return {str(outcome): count for outcome, count in counts.items()}
