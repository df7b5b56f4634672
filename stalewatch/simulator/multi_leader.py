"""Two leaders that each take writes and send them to the other: concurrent ones leave siblings, as in CouchDB.

Every write makes a revision that replaces the one that its leader showed. A leader's leaves are the revisions that it
knows and that none it knows replaces; more than one leaf is a conflict. Both leaders show the same winner once they
know the same revisions: the longest line of replacements, then the greater mark.
"""

from bisect import bisect_right
from collections import deque
from functools import partial

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.faults import HELD
from stalewatch.simulator.log import SHORT, Write
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.store import Store

Revision = tuple[int, int, int, int, Write]
"""How many it stands on and its mark, which make the winner; its version, its number, and what was written."""

Leaves = tuple[Revision, ...]


def _mark(version: int) -> int:
    """Scatter versions (Knuth's multiplicative hash): the newest of several siblings is not always the winner."""
    return version * 2_654_435_761 % 2**32


class _Copy:
    """One key at one leader: its leaves, and since when."""

    __slots__ = ("leaves", "prune_at", "since")

    def __init__(self) -> None:
        self.since: list[int] = [0]
        self.leaves: list[Leaves] = [()]
        self.prune_at = SHORT

    def at(self, moment: int) -> Leaves:
        if self.since[-1] <= moment:
            return self.leaves[-1]
        return self.leaves[max(0, bisect_right(self.since, moment) - 1)]

    def add(self, moment: int, replaced: Revision | None, revision: Revision) -> None:
        """Add a leaf in the place of what it replaces; if that is no leaf any more, both stand."""
        self.since.append(moment)
        self.leaves.append((*(leaf for leaf in self.leaves[-1] if leaf is not replaced), revision))

    def forget(self, limit: int) -> None:
        """Drop what had changed by `limit`."""
        first = max(0, bisect_right(self.since, limit) - 1)
        del self.since[:first], self.leaves[:first]
        self.prune_at = max(SHORT, 2 * len(self.since))


class LeadersStore(Store):
    """Two leaders; a lost one keeps what it has, and both catch up when it is back."""

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self._copies: list[dict[str, _Copy]] = [{} for _ in self.nodes]
        self._outboxes: list[deque[tuple[str, Revision | None, Revision]]] = [deque() for _ in self.nodes]
        self._last = [0] * len(self.nodes)
        self._revisions = 0
        self._held = [0] * len(self.nodes)
        """How many of those who should have come to each leader are held up by a fault."""

    def perform(self, moment: int, write: Write) -> None:
        """Replace the winner of one leader, unless it is as new, and send the revision to the other leader."""
        write.node = node = self.locate(self.options.writes_at, write.key, moment)
        write.acked_at = moment
        if write.item is not None:
            log = self.log(write.key)
            log.ledger = True
            log.writes.append(write)
            return
        copy = self._copy(node, write.key)
        winner = max(copy.leaves[-1], default=None)
        depth, shown = (0, 0) if winner is None else (winner[0], winner[2])
        write.succeed(shown)
        write.superseded = winner is not None and shown >= write.value.version
        if not write.superseded:
            self._revisions += 1
            version = write.value.version
            revision = (depth + 1, _mark(version), version, self._revisions, write)
            self._change(node, moment, write.key, winner, revision)
            self._send(node, moment, (write.key, winner, revision))

    def read(self, key: str, moment: int, now: int) -> Answer:
        """Return the winner that one leader showed at `moment`, and the siblings beside it."""
        moment = max(moment, self.floor)
        node = self.locate(self.options.reads_at, key, moment)
        self._check_connection(node, moment, now)
        return self._answer(key, node, moment)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the winner's version."""
        return self._answer(key, node, moment).version or 0

    def siblings(self, key: str, node: int, moment: int) -> list[int]:
        """Return the versions beside the winner."""
        return self._answer(key, node, moment).siblings or []

    def ready(self, now: int) -> int:
        """Wait until both leaders know all revisions, and so agree."""
        if self.broken:
            return HELD
        return self._next_event() if any(self._outboxes) else now

    def final(self, key: str, now: int) -> Answer:
        """Return the leaves that both leaders agree on."""
        if self.log(key).ledger:
            return super().final(key, now)
        return self._answer(key, self._final_node(key, now), now)

    def lose(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Do nothing: a leader comes back with all that it had, and nothing travels while it is away."""

    def rethink(self, moment: int) -> None:
        """Send what was held, where it can be."""
        for node, held in enumerate(self._held):
            if held and self.broken.joined(node, 1 - node):
                self._held[node] = 0
                self._last[node] = max(self._last[node], moment + self._lag())
                for _ in range(held):
                    self._at(self._last[node], partial(self._receive, node))

    def remove(self, key: str) -> None:
        """Forget a key at both leaders."""
        super().remove(key)
        for copies in self._copies:
            copies.pop(key, None)

    def _copy(self, node: int, key: str) -> _Copy:
        copy = self._copies[node].get(key)
        if copy is None:
            self.log(key)
            copy = self._copies[node][key] = _Copy()
        return copy

    def _answer(self, key: str, node: int, moment: int) -> Answer:
        leaves = sorted(self._copy(node, key).at(moment), reverse=True)
        if not leaves:
            return Answer("ok", 0, self.nodes[node], [])
        winner, *others = leaves
        siblings = sorted(leaf[2] for leaf in others)
        return Answer("ok", winner[2], self.nodes[node], siblings, winner[4].value.depends)

    def _change(self, node: int, moment: int, key: str, replaced: Revision | None, revision: Revision) -> None:
        copy = self._copy(node, key)
        copy.add(moment, replaced, revision)
        if len(copy.since) >= copy.prune_at and not self.options.remember:
            self.floor = max(self.floor, moment - self._patience)
            copy.forget(moment - self._patience)

    def _send(self, node: int, moment: int, parcel: tuple[str, Revision | None, Revision]) -> None:
        other = 1 - node
        self._last[other] = self._after(self._last[other], moment)
        self._outboxes[other].append(parcel)
        self._at(self._last[other], partial(self._receive, other))

    def _receive(self, node: int, moment: int) -> None:
        """Take the next revision in the sender's order, or wait until both leaders are up, and joined."""
        if not self.broken.joined(node, 1 - node):
            self._held[node] += 1
            return
        arrival = max(self._arrival(leader, moment) for leader in range(len(self.nodes)))
        if arrival > moment:
            self._at(arrival, partial(self._receive, node))
            return
        key, replaced, revision = self._outboxes[node].popleft()
        self._change(node, moment, key, replaced, revision)
