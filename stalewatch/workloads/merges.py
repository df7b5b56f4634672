"""How the leaves of a document become one: strategies that differ in what they lose.

Each starts from the leaf that was written last, and mends one part of it. A merge is a function of the leaves alone, in
any order: two resolvers that see the same leaves make the same document of them. The register's highest version is
always kept, for versions are given out in the order of their writes: it is the last one.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from stalewatch.clients.protocol import Body

Leaves = Sequence[Body]
Merge = Callable[[Leaves], Body]


def total(counter: Mapping[str, int]) -> int:
    """Return what a counter shows: every session's own increments together."""
    return sum(counter.values())


def slots(leaves: Leaves) -> dict[str, int]:
    """Return a counter that lacks no increment: of each session the highest count, since only it raises its own.

    A state-based grow-only counter (Shapiro et al. 2011).
    """
    sessions = sorted({session for leaf in leaves for session in _counter(leaf)})
    return {session: max(_counter(leaf).get(session, 0) for leaf in leaves) for session in sessions}


def basket(leaves: Leaves) -> list[str]:
    """Return all items of all leaves."""
    return sorted({item for leaf in leaves for item in leaf.get("basket", ())})


def fields(leaves: Leaves) -> dict[str, int]:
    """Return every field as it was set last."""
    names = sorted({name for leaf in leaves for name in leaf.get("fields", {})})
    return {name: max(leaf.get("fields", {}).get(name, 0) for leaf in leaves) for name in names}


def _counter(leaf: Body) -> dict[str, int]:
    counter: dict[str, int] = leaf.get("count", {})
    return counter


def _highest_counter(leaves: Leaves) -> dict[str, int]:
    return max(map(_counter, leaves), key=lambda counter: (total(counter), sorted(counter.items())))


def _last_written(leaves: Leaves) -> Body:
    return max(leaves, key=lambda leaf: (leaf.get("at", 0), json.dumps(leaf, sort_keys=True)))


def _newest_register(leaves: Leaves) -> Body:
    newest = max(leaves, key=lambda leaf: (leaf.get("v", 0), str(leaf.get("author", ""))))
    return {name: newest[name] for name in ("v", "author", "depends") if name in newest}


_MENDED: Mapping[str, Mapping[str, Callable[[Leaves], object]]] = {
    "lww": {},
    "max": {"count": _highest_counter},
    "union": {"basket": basket},
    "sum": {"count": slots},
    "fields": {"fields": fields},
}
"""By strategy, the parts that are merged; the rest is as in the leaf that was written last."""


def strategy(name: str) -> Merge:
    """Return the merge of that name."""
    mended = _MENDED[name]

    def merge(leaves: Leaves) -> Body:
        last = {part: value for part, value in _last_written(leaves).items() if part != "depends"}
        return {**last, **_newest_register(leaves), **{part: merged(leaves) for part, merged in mended.items()}}

    return merge


NONE = "none"
STRATEGIES = (NONE, *_MENDED)
"""What can be asked for; with none, conflicts stay."""
