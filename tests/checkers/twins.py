"""For every guarantee: the smallest histories that violate it, and the nearest ones that do not."""

from typing import Any, NamedTuple

from stalewatch.history.operation import Append, Depends, Draw, Final, Operation, Read, Write


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
    """Two histories of one file that differ little; the operation at index `at` of the first violates the guarantee."""

    guarantee: str
    difference: str
    violating: list[Operation]
    at: int
    valid: list[Operation]
    valid_verdict: str = "holds"


ME = {"session": "s1"}

TWINS = [
    Twins(
        "stale_reads",
        "the read shows the version written before it",
        violating=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        valid=[write(1, 1, 2), read(1, 3, 4)],
    ),
    Twins(
        "stale_reads",
        "the read starts in the nanosecond in which the write ends",
        violating=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        valid=[write(1, 1, 3), read(0, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "stale_reads",
        "the outcome of the write is unknown",
        violating=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        valid=[write(1, 1, 2, outcome="unknown"), read(0, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "stale_reads",
        "a superseded write is acknowledged: the register is at least that new",
        violating=[write(2, 1, 2, superseded=True), read(1, 3, 4)],
        at=1,
        valid=[write(2, 1, 2, superseded=True), read(3, 3, 4)],
    ),
    Twins(
        "stale_reads",
        "siblings are not the version that the read shows",
        violating=[write(2, 1, 2), read(1, 3, 4, siblings=[2])],
        at=1,
        valid=[write(2, 1, 2), read(2, 3, 4, siblings=[1])],
    ),
    Twins(
        "stale_reads",
        "the read failed",
        violating=[write(1, 1, 2), read(0, 3, 4)],
        at=1,
        valid=[write(1, 1, 2), read(0, 3, 4, outcome="fail")],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "another session wrote",
        violating=[write(1, 1, 2), read(0, 3, 4, **ME)],
        at=1,
        valid=[write(1, 1, 2), read(0, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "a write that ends when the read starts comes earlier in the session, though not in time",
        violating=[write(1, 1, 3), read(0, 3, 4, **ME)],
        at=1,
        valid=[read(0, 2, 3, **ME), write(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "an instantaneous write at the end of the read comes after it, on whichever line; at its start, before",
        violating=[write(1, 3, 3), read(0, 3, 5, **ME)],
        at=1,
        valid=[write(1, 5, 5), read(0, 3, 5, **ME)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_your_writes",
        "two simultaneous instantaneous operations are ordered by their lines",
        violating=[write(1, 3, 3), read(0, 3, 3, **ME)],
        at=1,
        valid=[read(0, 3, 3, **ME), write(1, 3, 3)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "monotonic_reads",
        "another session read",
        violating=[read(2, 1, 2), read(1, 3, 4)],
        at=1,
        valid=[read(2, 1, 2, **ME), read(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "monotonic_reads",
        "two reads that touch are ordered by start, not by their lines",
        violating=[read(1, 3, 3), read(2, 1, 3)],
        at=0,
        valid=[read(2, 3, 3), read(1, 1, 3)],
    ),
    Twins(
        "monotonic_reads",
        "reads of another worker's key are judged too",
        violating=[read(2, 1, 2, owner=5), read(1, 3, 4, owner=5)],
        at=1,
        valid=[read(2, 1, 2, owner=5), read(2, 3, 4, owner=5)],
    ),
    Twins(
        "read_regressions",
        "the second read starts in the nanosecond in which the first ends",
        violating=[read(2, 1, 2, **ME), read(1, 3, 4)],
        at=1,
        valid=[read(2, 1, 3, **ME), read(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_regressions",
        "within a session, time decides, not the session's order",
        violating=[read(2, 1, 2), read(1, 3, 4)],
        at=1,
        valid=[read(2, 1, 3), read(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_regressions",
        "a final read still holds what a read had shown, if only as a sibling",
        violating=[read(2, 1, 2), final(1, 3, 4)],
        at=1,
        valid=[read(2, 1, 2), final(1, 3, 4, siblings=[2])],
    ),
    Twins(
        "read_regressions",
        "the final read starts in the nanosecond in which the read ends",
        violating=[read(2, 1, 2), final(1, 3, 4)],
        at=1,
        valid=[read(2, 1, 3), final(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "read_regressions",
        "what a final read found was shown to nobody",
        violating=[read(2, 1, 2), read(1, 3, 4)],
        at=1,
        valid=[final(2, 1, 2), read(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "consistent_prefix",
        "the second read shows what the value of the first one depends on",
        violating=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        valid=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(3, 2, 3)],
    ),
    Twins(
        "consistent_prefix",
        "the reply is read after the post",
        violating=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        valid=[read(2, 1, 2), read(1, 2, 3, key="reply", depends=after("k", 3))],
        valid_verdict="no_evidence",
    ),
    Twins(
        "consistent_prefix",
        "a dependency of the session's own write does not count",
        violating=[read(1, 1, 2, key="reply", depends=after("k", 3)), read(2, 2, 3)],
        at=1,
        valid=[write(1, 1, 2, key="reply", session="s2", depends=after("k", 3)), read(2, 2, 3)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "phantom_reads",
        "the version was written, with unknown outcome",
        violating=[read(1, 1, 2)],
        at=0,
        valid=[read(1, 1, 2), write(1, 2, None, outcome="unknown")],
    ),
    Twins(
        "phantom_reads",
        "the write starts in the nanosecond in which the read ends",
        violating=[read(1, 1, 2), write(1, 3, 4)],
        at=0,
        valid=[read(1, 1, 3), write(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "the write may have been applied",
        violating=[write(1, 1, 2, outcome="fail"), read(1, 3, 4)],
        at=1,
        valid=[write(1, 1, 2, outcome="unknown"), read(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "version 0 needs no write",
        violating=[read(1, 1, 2)],
        at=0,
        valid=[read(0, 1, 2)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "phantom_reads",
        "a final read is judged too: its write had started when it ended",
        violating=[final(1, 1, 2), write(1, 3, 4)],
        at=0,
        valid=[final(1, 1, 3), write(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "the write that a final read shows may have been applied",
        violating=[write(1, 1, 2, outcome="fail"), final(1, 3, 4)],
        at=1,
        valid=[write(1, 1, 2, outcome="unknown"), final(1, 3, 4)],
    ),
    Twins(
        "phantom_reads",
        "siblings of a final read are not the version that it shows",
        violating=[final(1, 1, 2)],
        at=0,
        valid=[final(0, 1, 2, siblings=[1])],
        valid_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "a newer version covers the loss of the older one",
        violating=[write(2, 1, 2), final(1, 3, 4)],
        at=0,
        valid=[write(2, 1, 2), final(3, 3, 4)],
    ),
    Twins(
        "lost_writes",
        "a sibling holds it",
        violating=[write(2, 1, 2), final(1, 3, 4, siblings=[])],
        at=0,
        valid=[write(2, 1, 2), final(1, 3, 4, siblings=[2])],
    ),
    Twins(
        "lost_writes",
        "the write had not ended when the final read started",
        violating=[write(2, 1, 2), final(1, 3, 4)],
        at=0,
        valid=[write(2, 1, 3), final(1, 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "the last final read counts, not the first",
        violating=[write(2, 1, 2), final(2, 3, 4), final(1, 5, 6)],
        at=0,
        valid=[write(2, 1, 2), final(1, 3, 4), final(2, 5, 6)],
    ),
    Twins(
        "lost_writes",
        "of two final reads that end together, the one on the later line counts",
        violating=[write(2, 1, 2), final(2, 3, 4), final(1, 3, 4)],
        at=0,
        valid=[write(2, 1, 2), final(1, 3, 4), final(2, 3, 4)],
    ),
    Twins(
        "lost_writes",
        "the last ok final read counts, not a later one that is unknown",
        violating=[write(2, 1, 2), final(1, 3, 4), final(2, 5, 6, outcome="unknown")],
        at=0,
        valid=[write(2, 1, 2), final(2, 3, 4), final(1, 5, 6, outcome="unknown")],
    ),
    Twins(
        "lost_writes",
        "the item is in the list",
        violating=[append("a", 1, 2), final(["b"], 3, 4)],
        at=0,
        valid=[append("a", 1, 2), final(["b", "a"], 3, 4)],
    ),
    Twins(
        "lost_writes",
        "the append was not acknowledged",
        violating=[append("a", 1, 2), final([], 3, 4)],
        at=0,
        valid=[append("a", 1, 2, outcome="unknown"), final([], 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "lost_writes",
        "the append had not ended when the final read started",
        violating=[append("a", 1, 2), final([], 3, 4)],
        at=0,
        valid=[append("a", 1, 3), final([], 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "conflicts",
        "the field `siblings` is empty",
        violating=[read(1, 1, 2, siblings=[2])],
        at=0,
        valid=[read(1, 1, 2, siblings=[])],
    ),
    Twins(
        "conflicts",
        "the field `siblings` is absent",
        violating=[final(1, 1, 2, siblings=[2])],
        at=0,
        valid=[final(1, 1, 2)],
        valid_verdict="not_applicable",
    ),
    Twins(
        "conflicts",
        "the read is unknown",
        violating=[read(1, 1, 2, siblings=[2])],
        at=0,
        valid=[read(1, 1, 2, siblings=[2], outcome="unknown")],
        valid_verdict="no_evidence",
    ),
    Twins(
        "unexpected_items",
        "the item is there once",
        violating=[append("a", 1, 2), final(["a", "a"], 3, 4)],
        at=1,
        valid=[append("a", 1, 2), final(["a"], 3, 4)],
    ),
    Twins(
        "unexpected_items",
        "the append may have been applied",
        violating=[append("a", 1, 2, outcome="fail"), final(["a"], 3, 4)],
        at=1,
        valid=[append("a", 1, 2, outcome="unknown"), final(["a"], 3, 4)],
    ),
    Twins(
        "unexpected_items",
        "somebody appended the item, at whatever time",
        violating=[final(["a"], 1, 2)],
        at=0,
        valid=[final(["a"], 1, 2), append("a", 3, 4)],
    ),
    Twins(
        "unexpected_items",
        "the item was appended to this list",
        violating=[append("a", 1, 2, key="other"), final(["a"], 3, 4)],
        at=1,
        valid=[append("a", 1, 2), final(["a"], 3, 4)],
    ),
    Twins(
        "unexpected_items",
        "the last ok final read counts",
        violating=[append("a", 1, 2), final(["a"], 3, 4), final(["a", "a"], 5, 6)],
        at=2,
        valid=[append("a", 1, 2), final(["a", "a"], 3, 4), final(["a"], 5, 6)],
    ),
    Twins(
        "unexpected_items",
        "an empty list shows nothing unexpected, and so nothing is checked",
        violating=[final(["a"], 1, 2)],
        at=0,
        valid=[append("a", 1, 2), final([], 3, 4)],
        valid_verdict="no_evidence",
    ),
    Twins(
        "unique_ids",
        "the value differs",
        violating=[draw(7, 1, 3), draw(7, 2, 4, session="s2")],
        at=1,
        valid=[draw(7, 1, 3), draw(8, 2, 4, session="s2")],
    ),
    Twins(
        "unique_ids",
        "the key differs",
        violating=[draw(7, 1, 3), draw(7, 2, 3, session="s2")],
        at=1,
        valid=[draw(7, 1, 3), draw(7, 2, 3, session="s2", key="other")],
    ),
    Twins(
        "unique_ids",
        "the draws overlap, so either may come first",
        violating=[draw(7, 1, 2), draw(6, 3, 4)],
        at=1,
        valid=[draw(7, 1, 3), draw(6, 3, 4)],
    ),
]


class CauseTwins(NamedTuple):
    """Two histories in which the read at index `at` is stale, for one cause and for another."""

    difference: str
    cause: str
    history: list[Operation]
    other_cause: str
    other: list[Operation]
    at: int = 2


TWO_WRITES: list[Operation] = [write(1, 1, 2), write(2, 3, 4)]

STALE_CAUSES = [
    CauseTwins(
        "the final read holds the version that was missed",
        "lost",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8)],
        "lag",
        [*TWO_WRITES, read(1, 5, 6), final(2, 7, 8)],
    ),
    CauseTwins(
        "it holds it as a sibling",
        "lost",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8, siblings=[])],
        "lag",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8, siblings=[2])],
    ),
    CauseTwins(
        "the final read started in the nanosecond in which the write ended, so it may have come first",
        "lost",
        [*TWO_WRITES, final(1, 5, 6), read(1, 6, 7)],
        "lag",
        [*TWO_WRITES, final(1, 4, 6), read(1, 6, 7)],
        at=3,
    ),
    CauseTwins(
        "the last final read counts",
        "lost",
        [*TWO_WRITES, read(1, 5, 6), final(2, 7, 8), final(1, 9, 10)],
        "lag",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8), final(2, 9, 10)],
    ),
    CauseTwins(
        "a final read whose outcome is unknown proves nothing",
        "lost",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8)],
        "lag",
        [*TWO_WRITES, read(1, 5, 6), final(1, 7, 8, outcome="unknown")],
    ),
    CauseTwins(
        "the version was there next to the one shown, and was lost later",
        "lost",
        [*TWO_WRITES, read(1, 5, 6, siblings=[]), final(1, 7, 8)],
        "conflict",
        [*TWO_WRITES, read(1, 5, 6, siblings=[2]), final(1, 7, 8)],
    ),
    CauseTwins(
        "the floor is lost, not only the write that first made the version old",
        "lost",
        [*TWO_WRITES, read(0, 5, 6), final(1, 7, 8)],
        "lag",
        [write(2, 1, 2), write(1, 3, 4), read(0, 5, 6), final(2, 7, 8)],
    ),
]
