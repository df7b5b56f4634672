"""How sessions read documents, by the read strategy: from the leader that took a write, the other one, or always one.

Concurrent edits at two leaders leave a conflict, and both leaders then show one winner, which need not be the newer.
So a leader that has a session's own write may show another session's older one. ``token`` alone copes with that: it
shows the newest leaf if the winner is older than what the session has seen.
"""

from collections.abc import Sequence
from random import Random
from typing import Protocol

from geventhttpclient.response import HTTPConnectionClosed

from stalewatch.clients.couchdb.documents import Documents, Leaves
from stalewatch.clients.couchdb.errors import NotConnected, explain
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, Body
from stalewatch.clients.read_strategies import PlainReads, Reads, StickyKeys, TokenReads, fallen_back
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Depends, replace

UNREACHED = (NotConnected, HTTPConnectionClosed, OSError)
"""What ends a read of a leader that cannot be reached, or does not answer."""


class Routes(Protocol):
    """One session's choice of the leader for each read."""

    def to_read(self, key: str) -> int:
        """Return the leader that answers a read of the key."""


def read_document(documents: Documents, key: str, seen: int = 0) -> Answer:
    """Read a register and its siblings; a missing document counts as version 0.

    If the winner is older than the version `seen`, the newest leaf is shown in its place.
    """
    document, _, name = key.partition(DOCUMENT_SEPARATOR)
    held = documents.read(document)
    if held is None:
        return Answer(version=0, node=documents.node, siblings=[])
    leaves = _leaves(held, name, seen)
    shown, *siblings = (register_of(leaf, name) for leaf in leaves)
    depends = shown.get("depends")
    return Answer(
        version=int(shown["v"]),
        node=documents.node,
        siblings=[int(sibling["v"]) for sibling in siblings],
        depends=None if depends is None else Depends(**depends),
        beside=_beside(document, leaves[0]) if name else None,
    )


def _leaves(held: Leaves, name: str, seen: int) -> list[Body]:
    """Return the leaves, the one to show first."""

    def version(body: Body) -> int:
        return int(register_of(body, name)["v"])

    leaves = held.bodies()
    return leaves if version(held.body) >= seen else sorted(leaves, key=version, reverse=True)


def register_of(body: Body, name: str) -> Body:
    """Return a register of a document that holds several; a document without a name is a register itself."""
    register: Body = body.get(name, {}) if name else body
    return register


def _beside(document: str, body: Body) -> dict[str, int]:
    """Return the versions of all registers of a document, by key."""
    return {f"{document}{DOCUMENT_SEPARATOR}{name}": int(register["v"]) for name, register in body.items()}


class PinnedLeaderReads:
    """Reads all keys from one leader, chosen at random if several may answer, until it fails to answer a read."""

    def __init__(self, leaders: Sequence[Documents], random: Random, *, movable: bool) -> None:
        """`leaders` has the session's own in front."""
        self._leaders = list(leaders)
        if movable:
            random.shuffle(self._leaders)
        self._movable, self._moved = movable, False

    def read(self, key: str) -> Answer:
        """Read from the session's leader; if that is another one than before, the read fell back."""
        leader, moved = self._leaders[0], self._moved
        self._moved = False
        if moved:
            return fallen_back(lambda: self._at(leader, key), explain)
        return replace(self._at(leader, key), fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing."""

    def _at(self, leader: Documents, key: str) -> Answer:
        try:
            return read_document(leader, key)
        except UNREACHED:
            if self._movable:
                self._leaders.reverse()
                self._moved = True
            raise


def reads(leaders: Sequence[Documents], routes: Routes, options: CouchOptions, clock: Clock, random: Random) -> Reads:
    """Return how a session with these connections reads."""
    by_node = {documents.node: documents for documents in leaders}

    def plain(key: str, seen: int = 0) -> Answer:
        return read_document(leaders[routes.to_read(key.partition(DOCUMENT_SEPARATOR)[0])], key, seen)

    def from_node(key: str, node: str, seen: int = 0) -> Answer:
        return fallen_back(lambda: read_document(by_node[node], key, seen), explain)

    def from_other(key: str, seen: int, first: Answer) -> Answer:
        other = next(node for node in by_node if node != first.node)
        return from_node(key, other, seen)

    match options.read_strategy:
        case "sticky":
            return StickyKeys(plain, from_node, clock.now, options.sticky_seconds)
        case "token":
            return TokenReads(plain, from_other, clock)
        case "pinned":
            named = options.read_from in {"a", "b"}
            mine = leaders if options.read_from != "b" else leaders[::-1]
            return PinnedLeaderReads(mine, random, movable=not named)
        case _:
            return PlainReads(plain)
