"""The read strategies of a simulated store's sessions.

The stronger source is the leader, a majority of the replicas, or the other of two leaders.
"""

from collections.abc import Callable
from random import Random

from stalewatch.clients.errors import Failure
from stalewatch.clients.protocol import Answer
from stalewatch.clients.read_strategies import (
    PlainReads,
    Reads,
    StickyKeys,
    StickyReads,
    TokenReads,
    fallen_back,
)
from stalewatch.history.clock import Clock
from stalewatch.history.operation import replace
from stalewatch.simulator.store import ReadChoice, Store

Ask = Callable[[str, ReadChoice], Answer]
"""Reads a key once at the chosen place; raises a `MemoryStoreError`."""

MAJORITY = ReadChoice(majority=True)
LEADER = ReadChoice("leader")


class PinnedReads:
    """Reads all keys at one node, chosen at random, until that node cannot answer or may no longer be read from."""

    def __init__(self, ask: Ask, store: Store, clock: Clock, random: Random) -> None:
        self._ask = ask
        self._store, self._clock, self._random = store, clock, random
        self._node: int | None = None

    def read(self, key: str) -> Answer:
        """Read at the session's node; if that is another one than before, the read fell back."""
        before = self._node
        with self._store.synchronized(self._clock) as now:
            eligible = self._store.readable(now)
        if eligible and self._node not in eligible:
            self._node = self._random.choice(eligible)
        choice = ReadChoice() if self._node is None else ReadChoice(self._store.nodes[self._node])
        return replace(self._ask(key, choice), fell_back=before not in {None, self._node})

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing."""


def reads(ask: Ask, store: Store, clock: Clock, random: Random, explain: Callable[[BaseException], Failure]) -> Reads:
    """Return how a session reads, by the store's options."""
    options = store.options
    leaders = options.topology == "multi-leader"
    strongest = MAJORITY if options.topology == "quorum" else LEADER

    def plain(key: str) -> Answer:
        return ask(key, ReadChoice())

    def stronger(key: str, seen: int, first: Answer) -> Answer:
        other = next((node for node in store.nodes if node != first.node), "")
        choice = ReadChoice(other, seen=seen) if leaders else strongest
        return fallen_back(lambda: ask(key, choice), explain)

    match options.read_strategy:
        case "sticky" if leaders:
            return StickyKeys(
                plain,
                lambda key, node: fallen_back(lambda: ask(key, ReadChoice(node)), explain),
                clock.now,
                options.sticky_seconds,
            )
        case "sticky":
            return StickyReads(
                plain, lambda key: fallen_back(lambda: ask(key, strongest), explain), clock.now, options.sticky_seconds
            )
        case "token":
            patience_s = options.timeout_s if strongest.majority else 0.0
            return TokenReads(lambda key, seen: ask(key, ReadChoice(seen=seen)), stronger, clock, patience_s)
        case "pinned":
            return PinnedReads(ask, store, clock, random)
        case _:
            return PlainReads(plain)
