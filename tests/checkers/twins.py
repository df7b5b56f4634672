"""For every guarantee the smallest history that breaks it, and the nearest one that does not."""

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
        broken=[draw(7, 1, 3), draw(7, 2, 4, session="s2")],
        at=1,
        legal=[draw(7, 1, 3), draw(8, 2, 4, session="s2")],
    ),
    Twins(
        "unique_ids",
        "the key differs",
        broken=[draw(7, 1, 3), draw(7, 2, 3, session="s2")],
        at=1,
        legal=[draw(7, 1, 3), draw(7, 2, 3, session="s2", key="other")],
    ),
    Twins(
        "unique_ids",
        "the draws overlap, so either may come first",
        broken=[draw(7, 1, 2), draw(6, 3, 4)],
        at=1,
        legal=[draw(7, 1, 3), draw(6, 3, 4)],
    ),
]
