"""A simulated store as a cluster: faults are injected by the same commands as for a real one.

Nodes have the names that answers contain. A command takes effect at the simulated time at which it is given, so the
caller should be a session of the store's clock. Create the cluster before the load starts; otherwise the losses caused
by a fault are not known in full.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from stalewatch.clients.errors import ClientError
from stalewatch.clusters.protocol import NodeStatus, State
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.single_leader import SingleLeaderStore
from stalewatch.simulator.store import Store


class MemoryCluster:
    """The nodes of one client's store. Raises `ClientError` for an unknown node or an unsupported command.

    If a leader is killed, paused or cut off from a majority, the most advanced follower takes over `takeover_s` seconds
    later, provided that the leader has not returned by then and a majority votes for the follower: of two nodes, the
    remaining one does not lead. `writes` determines what happens to writes that only the old leader has: ``loses``
    means that the new leader has only what had reached it. The nodes of other topologies keep their data unless their
    disk is wiped.
    """

    database = "memory"

    def __init__(
        self, client: MemoryClient, *, takeover_s: float = 1.0, writes: Literal["loses", "keeps"] = "loses"
    ) -> None:
        self._clock = client.clock
        self._store: Store = client.store
        self._states: dict[int, State] = {}
        with self._store.lock:
            self._store.expect_faults()
            if isinstance(self._store, SingleLeaderStore):
                self._store.failover = replace(self._store.failover, takeover_s=takeover_s, writes=writes)

    def start(self, progress: Callable[[str], None]) -> None:
        """Bring back every node and every link."""
        del progress
        for node in self.nodes():
            self.mend(node)
            self._bring_up(node)

    def stop(self, progress: Callable[[str], None], *, wipe: bool = False) -> None:
        """Do nothing: the store ends with its client."""

    def status(self) -> Sequence[NodeStatus]:
        """Return the status of every node."""
        leader = self.primary()
        return [self._status(index, node, leader) for index, node in enumerate(self.nodes())]

    def _status(self, index: int, node: str, leader: str | None) -> NodeStatus:
        state = self._states.get(index, "running")
        follower = "follower" if isinstance(self._store, SingleLeaderStore) else "node"
        role = None if state != "running" else "leader" if node == leader else follower
        cut_off = any(index in pair for pair in self._store.faults.cuts)
        return NodeStatus(node, node, None, state, role, healthy=state == "running" and not cut_off)

    def uri(self) -> str:
        """Return a placeholder: there is no address to connect to."""
        return "memory"

    def nodes(self) -> Sequence[str]:
        """Return the names of all nodes."""
        return self._store.nodes

    def primary(self) -> str | None:
        """Return the node that takes all writes; None if there is none now, or if the store never has one."""
        with self._store.synchronized(self._clock):
            leader = self._store.leading()
        return None if leader is None else self._store.nodes[leader]

    def kill(self, node: str) -> None:
        """Take a node down until `restart`; it sends nothing more and refuses requests."""
        self._take_down(node, "dead")

    def restart(self, node: str) -> None:
        """Bring a node back with what it stored."""
        self._bring_up(node)

    def pause(self, node: str) -> None:
        """Pause a node until `resume`; nothing gets through to it, and clients get no answer from it."""
        self._take_down(node, "paused")

    def resume(self, node: str) -> None:
        """Resume a paused node."""
        self._bring_up(node)

    def wipe(self, node: str) -> None:
        """Take a node down and erase its disk; `restart` brings it back empty."""
        self._take_down(node, "dead", wipe=True)

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Cut the links between a node and others, both ways; with `clients` also those to all clients."""
        index, cuts = self._index(node), {frozenset({self._index(node), self._index(other)}) for other in others}
        with self._store.synchronized(self._clock) as now:
            self._store.faults.cuts |= {pair for pair in cuts if len(pair) > 1}
            if clients:
                self._store.faults.stop_responding(index, now)
            self._store.faults_changed(now)

    def slow(self, node: str, delay_s: float) -> None:
        """Raise `ClientError`: message delays are fixed for the whole run."""
        raise ClientError(f"memory store: cannot slow down {node} during a run; set --lag and --service instead")

    def lose(self, node: str, share: float) -> None:
        """Raise `ClientError`: the fraction of operations that fail is fixed for the whole run."""
        raise ClientError(f"memory store: cannot drop messages of {node}; set --timeouts and --refusals instead")

    def mend(self, node: str, *troubles: str) -> None:
        """Restore all links of a node."""
        index = self._index(node)
        with self._store.synchronized(self._clock) as now:
            self._store.faults.cuts = {pair for pair in self._store.faults.cuts if index not in pair}
            if self._states.get(index) != "paused":
                self._store.faults.resume_responding(index, now)
            self._store.faults_changed(now)

    def _take_down(self, node: str, state: State, *, wipe: bool = False) -> None:
        index = self._index(node)
        with self._store.synchronized(self._clock) as now:
            if wipe and not self._store.wipeable:
                raise ClientError(f"memory store: {node} of a {self._store.options.topology} store cannot be wiped")
            if state == "paused":
                self._store.faults.stop_responding(index, now)
            if index not in self._states:
                self._store.take_down(index, now)
            if wipe:
                self._store.wipe(index, now)
            self._states[index] = state

    def _bring_up(self, node: str) -> None:
        index = self._index(node)
        with self._store.synchronized(self._clock) as now:
            if self._states.pop(index, None) == "paused":
                self._store.faults.resume_responding(index, now)
            self._store.bring_up(index, now)

    def _index(self, node: str) -> int:
        try:
            return self._store.index(node)
        except KeyError:
            raise ClientError(f"memory store: unknown node {node!r}; its nodes are {', '.join(self.nodes())}") from None
