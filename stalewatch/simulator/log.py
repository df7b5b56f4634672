"""The writes that a simulated store holds, and when each of its nodes applied them."""

from bisect import bisect_left

from stalewatch.clients.protocol import Value
from stalewatch.history.operation import replace
from stalewatch.simulator.errors import NoAnswer, Refused

SHORT = 16
"""A log shorter than this is not worth pruning."""


class Write:
    """A write, an append (with an item) or a draw (whose value the store makes), and what became of it."""

    __slots__ = ("acked_at", "acknowledged", "draws", "item", "key", "moment", "node", "refused", "superseded", "value")

    def __init__(self, key: str, value: Value, *, item: str | int | None = None, draws: bool = False) -> None:
        self.key = key
        self.value = value
        self.item = item
        self.draws = draws
        self.node = 0
        self.moment = 0
        """When it reached the node that takes it."""

        self.acked_at = 0
        """When as many nodes have it as have to."""

        self.superseded = False
        self.refused: Refused | NoAnswer | None = None
        self.acknowledged = False
        """Whether the client was told so."""

    def succeed(self, version: int) -> None:
        """Take the id after `version`, if this is a draw."""
        if self.draws:
            self.value = replace(self.value, version=version + 1)


def _version(write: Write) -> int:
    return write.value.version


class Log:
    """What was written to one key, in rising versions (items: in order of arrival), and when each node applied it."""

    __slots__ = ("applied", "last", "ledger", "prune_at", "shadowed", "writes")

    def __init__(self, nodes: int) -> None:
        self.writes: list[Write] = []
        self.applied: list[list[int]] = [[] for _ in range(nodes)]
        """A column a node: when it applied each of `writes`."""

        self.last = [0] * nodes
        """When each node applied the newest, which with one leader is the latest."""

        self.shadowed: list[Write] = []
        """Superseded writes that a failover could yet lose together with what superseded them."""

        self.ledger = False
        self.prune_at = SHORT

    def newest(self) -> int:
        """Return the newest version; 0 for none."""
        return self.writes[-1].value.version if self.writes else 0

    def add(self, write: Write, arrivals: list[int]) -> None:
        """Append a write that is newer than all others."""
        self.ledger = write.item is not None
        self.writes.append(write)
        for column, arrival in zip(self.applied, arrivals, strict=True):
            column.append(arrival)

    def insert(self, write: Write, arrivals: list[int]) -> None:
        """Put a write where its version belongs; an item comes last."""
        self.ledger = write.item is not None
        place = len(self.writes)
        if write.item is None and self.newest() > write.value.version:
            place = bisect_left(self.writes, write.value.version, key=_version)
        self.writes.insert(place, write)
        for column, arrival in zip(self.applied, arrivals, strict=True):
            column.insert(place, arrival)

    def copy(self) -> "Log":
        """Return a log that keeps what this one holds now."""
        other = Log(0)
        other.writes = self.writes[:]
        other.applied = [column[:] for column in self.applied]
        return other

    def forget(self, first: int) -> None:
        """Drop the writes before index `first`."""
        del self.writes[:first]
        for column in self.applied:
            del column[:first]
        # The first that is left stands on every node, so no failover can bring an older one out of its shadow.
        self.shadowed = [write for write in self.shadowed if write.value.version > self.writes[0].value.version]

    def keep(self, places: list[int]) -> list[Write]:
        """Drop all writes but those at `places` and return them."""
        kept = set(places)
        dropped = [write for place, write in enumerate(self.writes) if place not in kept]
        self.writes = [self.writes[place] for place in places]
        self.applied = [[column[place] for place in places] for column in self.applied]
        return dropped

    def cut(self, first: int) -> list[Write]:
        """Drop the writes from index `first` on and return them."""
        dropped = self.writes[first:]
        del self.writes[first:]
        for column in self.applied:
            del column[first:]
        return dropped
