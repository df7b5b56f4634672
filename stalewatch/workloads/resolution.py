"""Conflict resolution: how the leaves of a document are merged into one, and the threads that do so during a run.

Strategies differ in what they lose. Each starts from the leaf that was written last and merges one part of the
document. A merge is a function of the leaves alone, in any order: two resolvers that see the same leaves produce the
same document. The register's highest version is always kept; since versions are assigned in the order of the writes,
it is the newest.
"""

import json
import random
import threading
from collections.abc import Callable, Collection, Mapping, Sequence

from stalewatch.clients.protocol import Body, Resolver, Siblings
from stalewatch.history.clock import Clock

POLL_S = 0.05
"""How long a resolver sleeps before it checks for changes again."""

STOP_S = 10.0

Leaves = Sequence[Body]
Merge = Callable[[Leaves], Body]


def total(counter: Mapping[str, int]) -> int:
    """Return the value of a counter: the sum of all sessions' increments."""
    return sum(counter.values())


def merged_counter(leaves: Leaves) -> dict[str, int]:
    """Return a counter that misses no increment: for each session the highest count, since only it increments its own.

    A state-based grow-only counter (Shapiro et al. 2011).
    """
    sessions = sorted({session for leaf in leaves for session in _counter(leaf)})
    return {session: max(_counter(leaf).get(session, 0) for leaf in leaves) for session in sessions}


def merged_basket(leaves: Leaves) -> list[str]:
    """Return the items of all leaves."""
    return sorted({item for leaf in leaves for item in leaf.get("basket", ())})


def merged_fields(leaves: Leaves) -> dict[str, int]:
    """Return the newest version of every field."""
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


_MERGED_PARTS: Mapping[str, Mapping[str, Callable[[Leaves], object]]] = {
    "lww": {},
    "max": {"count": _highest_counter},
    "union": {"basket": merged_basket},
    "sum": {"count": merged_counter},
    "fields": {"fields": merged_fields},
}
"""The parts that each strategy merges; the others are those of the leaf that was written last."""

NONE = "none"
STRATEGIES = (NONE, *_MERGED_PARTS)
"""The choices of `--resolve`; with none, conflicts stay."""


def strategy(name: str) -> Merge:
    """Return the merge function of a strategy."""
    parts = _MERGED_PARTS[name]

    def merge(leaves: Leaves) -> Body:
        last = {part: value for part, value in _last_written(leaves).items() if part != "depends"}
        return {**last, **_newest_register(leaves), **{part: merged(leaves) for part, merged in parts.items()}}

    return merge


class ResolverThreads:
    """Threads that resolve the conflicts of a run's keys, one per leader, as a conflict-aware application would."""

    def __init__(self, client: Siblings, clock: Clock, keys: Collection[str], merge: Merge) -> None:
        self.merged = 0
        """How many times leaves were merged."""
        self.errors = 0
        """How many times a leader failed to answer properly; its keys are tried again."""
        self._client = client
        self._clock = clock
        self._keys = frozenset(keys)
        self._merge = merge
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start resolving conflicts that arise from now on."""
        self._threads = [
            threading.Thread(target=self._work, args=(resolver,), name="resolver", daemon=True)
            for resolver in self._client.resolvers()
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after each resolver has finished its current key."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(STOP_S)
        self._threads = []

    def _work(self, resolver: Resolver) -> None:
        pending: set[str] = set()
        while not self._stopping.is_set():
            try:
                pending |= self._keys.intersection(resolver.suspects())
                self._resolve(resolver, pending)
            except Exception:  # noqa: BLE001 # whatever it is, the leader may be back in the next round
                self.errors += 1
            self._clock.sleep(POLL_S)
        resolver.close()

    def _resolve(self, resolver: Resolver, pending: set[str]) -> None:
        """Resolve the pending keys; a key stays pending if somebody else changed it meanwhile, or on an error.

        The order is random, so that a key which always fails, and thereby ends the round, does not block the others.
        """
        for key in random.sample(sorted(pending), len(pending)):
            if self._stopping.is_set():
                return
            resolved = resolver.resolve(key, self._merge)
            if resolved != "disturbed":
                pending.discard(key)
            self.merged += resolved == "merged"
