"""Faults of a simulated store that come by command: nodes that are away, links that are cut, and what that holds up.

A fault that is planned (`stalewatch.simulator.options.Outage`) has its end from the start. One that is commanded has none
yet: what would reach a node that is away, or cross a link that is cut, is held, and let go when the fault is ended.
"""

from collections.abc import Callable, Iterable, Sequence

from stalewatch.simulator.log import Log, Write

NEVER = 2**63 - 1
"""Later than any simulated moment."""

HELD = NEVER - 1
"""As late, until a fault ends: when a node that is away is back, and when what is held arrives."""

Reaches = Callable[[Write, int], bool]
"""Whether a write that is on its way to a node, given by its place, can go on."""


class Broken:
    """Which nodes are away and which links are cut, now; and since and until when clients got no answer."""

    def __init__(self, nodes: int) -> None:
        self.away: set[int] = set()
        self.cuts: set[frozenset[int]] = set()
        self._silent: list[list[tuple[int, int]]] = [[] for _ in range(nodes)]

    def __bool__(self) -> bool:
        """Tell whether anything is broken now."""
        return bool(self.away or self.cuts)

    def joined(self, one: int, other: int) -> bool:
        """Tell whether something gets from one node to the other."""
        if one == other:
            return True
        return not self.away & {one, other} and frozenset({one, other}) not in self.cuts

    def silence(self, node: int, moment: int) -> None:
        """Let clients get no answer of a node."""
        if not self.silent(node, moment):
            self._silent[node].append((moment, HELD))

    def answer(self, node: int, moment: int) -> None:
        """Let clients get answers again."""
        end_held(self._silent[node], moment)

    def silent(self, node: int, moment: int) -> bool:
        """Tell whether clients got no answer of the node at that moment."""
        return any(start <= moment < end for start, end in self._silent[node])

    def fell_silent(self, node: int, since: int, until: int) -> bool:
        """Tell whether a node fell silent after one moment and before another."""
        return any(since < start <= until for start, _ in self._silent[node])


def end_held(spans: list[tuple[int, int]], moment: int) -> None:
    """End the spans that had no end."""
    spans[:] = [(start, moment if end == HELD else end) for start, end in spans]


def hold(logs: Iterable[Log], moment: int, reaches: Reaches, acks: int) -> None:
    """Hold what was on its way at that moment and cannot go on; what was to be acknowledged by it waits too."""
    for log in logs:
        for place, write in enumerate(log.writes):
            for node, column in enumerate(log.applied):
                if moment < column[place] < HELD and not reaches(write, node):
                    column[place] = HELD
        _reckon(log, moment, acks)


def release(logs: Iterable[Log], moment: int, reaches: Reaches, arrivals: Sequence[int], acks: int) -> None:
    """Let what is held and can go on arrive, all at once at each node."""
    for log in logs:
        for node, column in enumerate(log.applied):
            for place, write in enumerate(log.writes):
                if column[place] == HELD and reaches(write, node):
                    column[place] = log.last[node] = arrivals[node]
        _reckon(log, moment, acks)


def _reckon(log: Log, moment: int, acks: int) -> None:
    """Reckon anew when as many nodes have each write as have to, where that was to come yet."""
    for place, write in enumerate(log.writes):
        if write.acked_at > moment:
            write.acked_at = sorted(column[place] for column in log.applied)[acks - 1]
    newest = sorted(column[-1] for column in log.applied)[acks - 1] if log.writes else moment
    for write in log.shadowed:
        if write.acked_at > moment:
            write.acked_at = max(write.moment, newest)
