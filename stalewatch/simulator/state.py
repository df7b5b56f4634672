"""The state of a simulated store: its writes, when each node applied them, and the faults that were started by command.

A planned outage (`stalewatch.simulator.options.Outage`) has a known end. A fault started by command has none yet:
messages to a node that is away, or across a link that is cut, are held until the fault ends.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

from stalewatch.clients.protocol import Value
from stalewatch.history.operation import replace

NEVER = 2**63 - 1
"""Later than any simulated time."""

HELD = NEVER - 1
"""The time of whatever waits for a fault to end: the return of a node, or the arrival of a held message."""

MIN_PRUNED = 16
"""Shorter logs are not worth pruning."""


class LoggedWrite:
    """A write, an append (with an item) or a draw (whose value the store chooses), and what became of it."""

    __slots__ = ("acked_at", "acknowledged", "draws", "error", "item", "key", "moment", "node", "superseded", "value")

    def __init__(self, key: str, value: Value, *, item: str | int | None = None, draws: bool = False) -> None:
        self.key = key
        self.value = value
        self.item = item
        self.draws = draws
        self.node = 0
        """The node that accepts it."""

        self.moment = 0
        """When it reaches that node."""

        self.acked_at = 0
        """When the required number of nodes have it."""

        self.superseded = False
        self.error: Exception | None = None
        """Why the node did not accept it."""

        self.acknowledged = False
        """Whether the client received the acknowledgement."""

    def draw_after(self, version: int) -> None:
        """Take the id after `version`, if this is a draw."""
        if self.draws:
            self.value = replace(self.value, version=version + 1)


def _version(write: LoggedWrite) -> int:
    return write.value.version


class Log:
    """The writes to one key by version (a list's items: by arrival), and when each node applied them."""

    __slots__ = ("applied", "is_list", "last", "prune_at", "shadowed", "writes")

    def __init__(self, nodes: int) -> None:
        self.writes: list[LoggedWrite] = []
        self.applied: list[list[int]] = [[] for _ in range(nodes)]
        """One column per node: when it applied each of `writes`."""

        self.last = [0] * nodes
        """When each node applied the newest write; with a single leader that is also its latest."""

        self.shadowed: list[LoggedWrite] = []
        """Superseded writes that a failover could still lose together with the writes that superseded them."""

        self.is_list = False
        self.prune_at = MIN_PRUNED

    def newest(self) -> int:
        """Return the newest version; 0 if there is none."""
        return self.writes[-1].value.version if self.writes else 0

    def add(self, write: LoggedWrite, arrivals: list[int]) -> None:
        """Append a write that is newer than all others."""
        self.is_list = write.item is not None
        self.writes.append(write)
        for column, arrival in zip(self.applied, arrivals, strict=True):
            column.append(arrival)

    def insert(self, write: LoggedWrite, arrivals: list[int]) -> None:
        """Insert a write at its version; append an item."""
        self.is_list = write.item is not None
        index = len(self.writes)
        if write.item is None and self.newest() > write.value.version:
            index = bisect_left(self.writes, write.value.version, key=_version)
        self.writes.insert(index, write)
        for column, arrival in zip(self.applied, arrivals, strict=True):
            column.insert(index, arrival)

    def copy(self) -> "Log":
        """Return a snapshot of the writes and of when they were applied."""
        other = Log(0)
        other.writes = self.writes[:]
        other.applied = [column[:] for column in self.applied]
        return other

    def drop_before(self, first: int) -> None:
        """Drop the writes before index `first`."""
        del self.writes[:first]
        for column in self.applied:
            del column[:first]
        # Every node has applied the first write that remains, so no failover can uncover an older one.
        self.shadowed = [write for write in self.shadowed if write.value.version > self.writes[0].value.version]

    def retain(self, indexes: list[int]) -> list[LoggedWrite]:
        """Drop all writes but those at `indexes`, and return the dropped ones."""
        kept = set(indexes)
        dropped = [write for index, write in enumerate(self.writes) if index not in kept]
        self.writes = [self.writes[index] for index in indexes]
        self.applied = [[column[index] for index in indexes] for column in self.applied]
        return dropped

    def truncate(self, first: int) -> list[LoggedWrite]:
        """Drop the writes from index `first` on, and return them."""
        dropped = self.writes[first:]
        del self.writes[first:]
        for column in self.applied:
            del column[first:]
        return dropped


class CommandedFaults:
    """The nodes that are away and the links that are cut now, and the periods in which nodes did not answer clients."""

    def __init__(self, nodes: int) -> None:
        self.away: set[int] = set()
        self.cuts: set[frozenset[int]] = set()
        self._unresponsive: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]

    def __bool__(self) -> bool:
        """Return whether any node is away or any link is cut."""
        return bool(self.away or self.cuts)

    def connected(self, one: int, other: int) -> bool:
        """Return whether messages pass between two nodes."""
        if one == other:
            return True
        return not self.away & {one, other} and frozenset({one, other}) not in self.cuts

    def stop_responding(self, node: int, moment: int) -> None:
        """Make a node stop answering clients."""
        if not self.unresponsive(node, moment):
            self._unresponsive[node].append((moment, HELD))

    def resume_responding(self, node: int, moment: int) -> None:
        """Make a node answer clients again."""
        end_open_periods(self._unresponsive[node], moment)

    def unresponsive(self, node: int, moment: int) -> bool:
        """Return whether a node did not answer clients at that time."""
        return any(start <= moment < end for start, end in self._unresponsive[node])

    def stopped_responding(self, node: int, since: int, until: int) -> bool:
        """Return whether a node stopped answering clients after `since`, and by `until`."""
        return any(since < start <= until for start, _ in self._unresponsive[node])


def end_open_periods(periods: list[tuple[int, int]], moment: int) -> None:
    """End the periods that are still open."""
    periods[:] = [(start, moment if end == HELD else end) for start, end in periods]


Reaches = Callable[[LoggedWrite, int], bool]
"""Whether a write that is under way to a node, given by its index, can go on."""


def reroute(logs: Iterable[Log], moment: int, reaches: Reaches, arrivals: Sequence[int], acks: int) -> None:
    """Hold the writes that are under way and cannot go on, and deliver the held ones that can.

    All held writes arrive at a node at once, at its time in `arrivals`. Acknowledgements follow from the arrivals.
    """
    for log in logs:
        for index, write in enumerate(log.writes):
            for node, column in enumerate(log.applied):
                if moment < column[index] < HELD and not reaches(write, node):
                    column[index] = HELD
                elif column[index] == HELD and reaches(write, node):
                    column[index] = log.last[node] = arrivals[node]
        _update_acknowledgements(log, moment, acks)


def _update_acknowledgements(log: Log, moment: int, acks: int) -> None:
    """Recompute when the required number of nodes will have each write that is not acknowledged yet."""
    for index, write in enumerate(log.writes):
        if write.acked_at > moment:
            write.acked_at = sorted(column[index] for column in log.applied)[acks - 1]
    newest = sorted(column[-1] for column in log.applied)[acks - 1] if log.writes else moment
    for write in log.shadowed:
        if write.acked_at > moment:
            write.acked_at = max(write.moment, newest)
