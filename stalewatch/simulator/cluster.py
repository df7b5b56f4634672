"""A simulated store as a cluster that can be broken: for whoever breaks real ones by the same commands.

Nodes have the names that answers give. Every command acts at the simulated time at which it is given, so that whoever
gives them is best a session of the store's clock. Make the cluster before the load begins, or what a fault takes away
is not known in full.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from stalewatch.clients.errors import ClientError
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.single_leader import LeaderStore
from stalewatch.simulator.store import Store

State = Literal["running", "paused", "dead"]


class MemoryNode(NamedTuple):
    """One node, as the status of a real cluster shows it."""

    name: str
    address: str
    pid: int | None
    state: State
    role: str | None = None
    healthy: bool = False
    lag_s: float | None = None
    note: str = ""


class MemoryCluster:
    """The nodes of one client's store. Raises `ClientError` for a node that is none, or for what cannot be done to it.

    Where a leader is killed, paused or cut off from most nodes, the most advanced follower takes over `takeover_s`
    seconds later, unless the leader is back by then, and if most nodes vote for it: of two nodes the one that is left
    does not lead. `writes` says what becomes of what the old leader alone has:
    ``loses`` means that the new one has only what had reached it. A quorum's and two leaders' nodes keep what they
    have, unless their disk is wiped.
    """

    database = "memory"

    def __init__(
        self, client: MemoryClient, *, takeover_s: float = 1.0, writes: Literal["loses", "keeps"] = "loses"
    ) -> None:
        self._client = client
        self._store: Store = client.store
        self._states: dict[int, State] = {}
        with self._store.lock:
            self._store.expect_faults()
            if isinstance(self._store, LeaderStore):
                self._store.failover = replace(self._store.failover, takeover_s=takeover_s, writes=writes)

    def start(self, progress: Callable[[str], None]) -> None:
        """Have every node back, and every link."""
        del progress
        for node in self.nodes():
            self.mend(node)
            self._bring_back(node)

    def stop(self, progress: Callable[[str], None], *, wipe: bool = False) -> None:
        """Do nothing: the store ends with its client."""

    def status(self) -> Sequence[MemoryNode]:
        """Say how every node is, and who leads."""
        leader = self.primary()
        return [self._status(place, node, leader) for place, node in enumerate(self.nodes())]

    def _status(self, place: int, node: str, leader: str | None) -> MemoryNode:
        state = self._states.get(place, "running")
        led = "follower" if isinstance(self._store, LeaderStore) else "node"
        role = None if state != "running" else "leader" if node == leader else led
        return MemoryNode(node, node, None, state, role, healthy=state == "running" and not self._cut_off(place))

    def _cut_off(self, place: int) -> bool:
        return any(place in pair for pair in self._store.broken.cuts)

    def uri(self) -> str:
        """Return what a client connects to: there is nothing to connect to."""
        return "memory"

    def nodes(self) -> Sequence[str]:
        """Return every node's name."""
        return self._store.nodes

    def primary(self) -> str | None:
        """Return the node that takes all writes; None where there is none just now, or never one."""
        with self._store.lock:
            self._now()
            leader = self._store.leading()
        return None if leader is None else self._store.nodes[leader]

    def kill(self, node: str) -> None:
        """Lose a node at once, until `restart`; what it was sending is not sent, and what it was asked is refused."""
        self._lose(node, "dead")

    def restart(self, node: str) -> None:
        """Have a node back with what it had; a living one is gone for no time."""
        self._bring_back(node)

    def pause(self, node: str) -> None:
        """Freeze a node: to the others it is gone, and whoever asks it gets no answer."""
        self._lose(node, "paused")

    def resume(self, node: str) -> None:
        """Let a frozen node go on; what it was asked meanwhile was given up."""
        self._bring_back(node)

    def wipe(self, node: str) -> None:
        """Lose a node and what it stored; `restart` brings it back empty."""
        self._lose(node, "dead", wipe=True)

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Let nothing pass between a node and others, both ways; with `clients` nor between it and any client."""
        place, cuts = self._place(node), {frozenset({self._place(node), self._place(other)}) for other in others}
        with self._store.lock:
            now = self._now()
            self._store.broken.cuts |= {pair for pair in cuts if len(pair) > 1}
            if clients:
                self._store.broken.silence(place, now)
            self._store.rethink(now)

    def slow(self, node: str, delay_s: float) -> None:
        """Raise `ClientError`: how long messages take is chosen before the run."""
        raise ClientError(
            f"memory store: the links of {node} have the delays of --lag and --service; choose them there"
        )

    def lose(self, node: str, share: float) -> None:
        """Raise `ClientError`: what share of operations goes wrong is chosen before the run."""
        raise ClientError(f"memory store: what {node} loses is what --timeouts and --refusals say; choose it there")

    def mend(self, node: str, *troubles: str) -> None:
        """Undo all that was done to a node's links, which is cuts alone; nothing where nothing was."""
        place = self._place(node)
        with self._store.lock:
            now = self._now()
            self._store.broken.cuts = {pair for pair in self._store.broken.cuts if place not in pair}
            if self._states.get(place) != "paused":
                self._store.broken.answer(place, now)
            self._store.rethink(now)

    def _lose(self, node: str, state: State, *, wipe: bool = False) -> None:
        place = self._place(node)
        with self._store.lock:
            now = self._now()
            if wipe and not self._store.wipeable:
                raise ClientError(f"memory store: {node} of a {self._store.options.topology} store cannot be wiped")
            if state == "paused":
                self._store.broken.silence(place, now)
            if place not in self._states:
                self._store.leave(place, now)
            if wipe:
                self._store.wipe(place, now)
            self._states[place] = state

    def _bring_back(self, node: str) -> None:
        place = self._place(node)
        with self._store.lock:
            now = self._now()
            if self._states.pop(place, None) == "paused":
                self._store.broken.answer(place, now)
            self._store.come_back(place, now)

    def _now(self) -> int:
        """Let everything happen that is due, and return the time."""
        now = self._client.clock.now()
        self._store.settle(now)
        return now

    def _place(self, node: str) -> int:
        try:
            return self._store.index(node)
        except KeyError:
            raise ClientError(f"no node {node!r} in this store; there are {', '.join(self.nodes())}") from None
