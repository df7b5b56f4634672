"""What is known about a simulated store beyond what its sessions see: the answers that measured rates are held against.

The past is complete only with `MemoryOptions.remember`; without it, moments of the last two client time-outs are known.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from stalewatch.history.clock import Clock
from stalewatch.simulator.delays import DISTRIBUTIONS, not_over
from stalewatch.simulator.leaderless import QuorumStore
from stalewatch.simulator.log import Write
from stalewatch.simulator.single_leader import LeaderStore
from stalewatch.simulator.store import Store


class LostWrite(NamedTuple):
    """A write that a store had taken and that a failover or an empty disk took away."""

    key: str
    version: int
    item: str | int | None
    superseded: bool


class Truth:
    """What one simulated store really does; `node` is a node's name, a moment nanoseconds since the epoch."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def shown(self, key: str, node: str, moment: int) -> int:
        """Return the version that the node showed at a moment that is past."""
        with self._store.lock:
            self._store.settle(self._clock.now())
            return self._store.version(key, self._store.index(node), moment)

    def siblings(self, key: str, node: str, moment: int) -> list[int]:
        """Return the versions that stood beside the winner at one of two leaders."""
        with self._store.lock:
            self._store.settle(self._clock.now())
            return self._store.siblings(key, self._store.index(node), moment)

    def lost(self) -> list[LostWrite]:
        """Return the acknowledged writes that are gone, in the order of their loss."""
        with self._store.lock:
            self._store.settle(self._clock.now())
            gone = [write for write in self._store.lost if write.acknowledged]
        return [LostWrite(write.key, write.value.version, write.item, write.superseded) for write in gone]

    def applied(self, key: str, version: int) -> dict[str, int]:
        """Return when each node applied a version, or will; ValueError for one that the store does not hold."""
        with self._store.lock:
            self._store.settle(self._clock.now())
            write = self._find(key, version)
            log = self._store.logs[key]
            place = log.writes.index(write)
            return {node: log.applied[index][place] for index, node in enumerate(self._store.nodes)}

    def stale_probability(self, key: str, version: int, moment: int) -> float:
        """Return the probability that a read at `moment` does not show a version, nor a newer one, yet.

        With a leader: of any one follower, given the moments of the leader's writes; for an exponential lag that is
        exp(-age / mean). In a quorum: of a read anywhere, while the version is the newest. Both for `write_acks` of 1
        (an acknowledgement by others is news about their lag), without outages, and with `remember`. ValueError for a
        version that the store does not hold.
        """
        options = self._store.options
        with self._store.lock:
            self._store.settle(self._clock.now())
            ages = self._ages(key, self._find(key, version), moment)
            waits = not_over(options.lag, options.lag_s, ages)
        if not isinstance(self._store, QuorumStore):
            return waits
        replicas, asked = len(self._store.nodes), options.count(options.read_acks)
        return (1 - asked / replicas) * waits**asked

    def _find(self, key: str, version: int) -> Write:
        log = self._store.logs.get(key)
        found = [write for write in log.writes if write.value.version == version] if log else []
        if not found:
            raise ValueError(f"the store holds no version {version} of {key!r}; the past needs MemoryOptions.remember")
        return found[0]

    def _ages(self, key: str, write: Write, moment: int) -> Iterator[float]:
        """Yield how long ago, in seconds, the write was taken and then those whose delays hold it up."""
        before = [write.moment]
        if isinstance(self._store, LeaderStore) and not DISTRIBUTIONS[self._store.options.lag].memoryless:
            by_key = [other.moment for other in self._store.logs[key].writes]
            before = by_key if self._store.options.lag_order == "key" else self._store.moments
        for place in reversed(range(bisect_right(before, write.moment))):
            yield (moment - before[place]) / 1e9
