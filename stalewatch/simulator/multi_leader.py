"""Two leaders that each take writes and send them to the other: concurrent writes leave siblings, as in CouchDB.

Every write creates a revision that replaces the one its leader showed. A leader's leaves are the revisions that it
knows and that no revision it knows replaces; more than one leaf is a conflict. Both leaders show the same winner once
they know the same revisions: the longest chain of replacements, then the greater rank.
"""

from bisect import bisect_right
from collections import deque
from functools import partial
from operator import itemgetter

from stalewatch.clients.protocol import Answer
from stalewatch.simulator.options import MemoryOptions, Outage
from stalewatch.simulator.state import HELD, MIN_PRUNED, LoggedWrite
from stalewatch.simulator.store import AS_CONFIGURED, ReadChoice, Store

Revision = tuple[int, int, int, int, LoggedWrite]
"""Depth and rank, which determine the winner; version; serial number; and the write."""

Leaves = tuple[Revision, ...]


def _rank(version: int) -> int:
    """Scramble versions (Knuth's multiplicative hash), so that the newest of several siblings does not always win."""
    return version * 2_654_435_761 % 2**32


class _KeyHistory:
    """The leaves of one key at one leader, and since when."""

    __slots__ = ("leaves", "prune_at", "since")

    def __init__(self) -> None:
        self.since: list[int] = [0]
        self.leaves: list[Leaves] = [()]
        self.prune_at = MIN_PRUNED

    def at(self, moment: int) -> Leaves:
        if self.since[-1] <= moment:
            return self.leaves[-1]
        return self.leaves[max(0, bisect_right(self.since, moment) - 1)]

    def add(self, moment: int, replaced: Revision | None, revision: Revision) -> None:
        """Replace a leaf by a revision; if it is no longer a leaf, the revision is an additional leaf."""
        self.since.append(moment)
        self.leaves.append((*(leaf for leaf in self.leaves[-1] if leaf is not replaced), revision))

    def drop_before(self, limit: int) -> None:
        """Drop all states but the one at `limit` and later ones."""
        first = max(0, bisect_right(self.since, limit) - 1)
        del self.since[:first], self.leaves[:first]
        self.prune_at = max(MIN_PRUNED, 2 * len(self.since))


class MultiLeaderStore(Store):
    """Two leaders; one that goes down keeps its data, and both catch up when it returns."""

    def __init__(self, options: MemoryOptions) -> None:
        super().__init__(options)
        self._histories: list[dict[str, _KeyHistory]] = [{} for _ in self.nodes]
        self._inboxes: list[deque[tuple[str, Revision | None, Revision]]] = [deque() for _ in self.nodes]
        self._last = [0] * len(self.nodes)
        self._revisions = 0
        self._held = [0] * len(self.nodes)
        """How many messages to each leader are held by a fault."""

    def apply(self, moment: int, write: LoggedWrite) -> None:
        """Replace the winner at one leader, unless it is as new, and send the revision to the other leader."""
        write.node = node = self.locate(self.options.writes_at, write.key, moment)
        write.acked_at = moment
        if write.item is not None:
            log = self.log(write.key)
            log.is_list = True
            log.writes.append(write)
            return
        winner = max(self._history(node, write.key).leaves[-1], default=None)
        depth, shown = (0, 0) if winner is None else (winner[0], winner[2])
        write.draw_after(shown)
        write.superseded = winner is not None and shown >= write.value.version
        if not write.superseded:
            self._revisions += 1
            version = write.value.version
            revision = (depth + 1, _rank(version), version, self._revisions, write)
            self._add(node, moment, write.key, winner, revision)
            self._send(node, moment, (write.key, winner, revision))

    def read(self, key: str, moment: int, now: int, choice: ReadChoice = AS_CONFIGURED) -> Answer:
        """Return the winner that one leader showed at `moment`, and its siblings."""
        moment = max(moment, self.read_floor)
        node = self.locate(choice.location or self.options.reads_at, key, moment)
        self._require_connection(node, moment, now)
        return self._answer(key, node, moment, choice.seen)

    def version(self, key: str, node: int, moment: int) -> int:
        """Return the winner's version."""
        return self._answer(key, node, moment).version or 0

    def siblings(self, key: str, node: int, moment: int) -> list[int]:
        """Return the versions of the winner's siblings."""
        return self._answer(key, node, moment).siblings or []

    def ready(self, now: int) -> int:
        """Wait until both leaders know all revisions, and therefore agree."""
        if self.faults:
            return HELD
        return self._next_event() if any(self._inboxes) else now

    def final(self, key: str, now: int) -> Answer:
        """Return the leaves that both leaders agree on."""
        if self.log(key).is_list:
            return super().final(key, now)
        return self._answer(key, self._final_node(key, now), now)

    def node_lost(self, node: int, moment: int, until: int, outage: Outage) -> None:
        """Do nothing: a leader returns with its data, and no message is delivered while it is away."""

    def faults_changed(self, moment: int) -> None:
        """Deliver the held messages that can go on."""
        for node, held in enumerate(self._held):
            if held and self.faults.connected(node, 1 - node):
                self._held[node] = 0
                self._last[node] = max(self._last[node], moment + self._lag())
                for _ in range(held):
                    self._schedule(self._last[node], partial(self._receive, node))

    def remove(self, key: str) -> None:
        """Delete a key at both leaders."""
        super().remove(key)
        for histories in self._histories:
            histories.pop(key, None)

    def _history(self, node: int, key: str) -> _KeyHistory:
        history = self._histories[node].get(key)
        if history is None:
            self.log(key)
            history = self._histories[node][key] = _KeyHistory()
        return history

    def _answer(self, key: str, node: int, moment: int, seen: int = 0) -> Answer:
        """Return the winner and its siblings; if the winner is older than `seen`, the newest leaf in its place."""
        leaves = sorted(self._history(node, key).at(moment), reverse=True)
        if not leaves:
            return Answer("ok", 0, self.nodes[node], [])
        if leaves[0][2] < seen:
            leaves.sort(key=itemgetter(2), reverse=True)
        winner, *others = leaves
        siblings = sorted(leaf[2] for leaf in others)
        return Answer("ok", winner[2], self.nodes[node], siblings, winner[4].value.depends)

    def _add(self, node: int, moment: int, key: str, replaced: Revision | None, revision: Revision) -> None:
        history = self._history(node, key)
        history.add(moment, replaced, revision)
        if len(history.since) >= history.prune_at and not self.options.remember:
            limit = moment - self._retention_ns
            self.read_floor = max(self.read_floor, limit)
            history.drop_before(limit)

    def _send(self, node: int, moment: int, message: tuple[str, Revision | None, Revision]) -> None:
        other = 1 - node
        self._last[other] = self._delivery(self._last[other], moment)
        self._inboxes[other].append(message)
        self._schedule(self._last[other], partial(self._receive, other))

    def _receive(self, node: int, moment: int) -> None:
        """Receive the next revision in the sender's order, or wait until both leaders are up and connected."""
        if not self.faults.connected(node, 1 - node):
            self._held[node] += 1
            return
        arrival = max(self._arrival(leader, moment) for leader in range(len(self.nodes)))
        if arrival > moment:
            self._schedule(arrival, partial(self._receive, node))
            return
        key, replaced, revision = self._inboxes[node].popleft()
        self._add(node, moment, key, replaced, revision)
