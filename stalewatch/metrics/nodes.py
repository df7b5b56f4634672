"""What a database's servers reported of themselves last, and how often the primary changed."""

from collections.abc import Iterable, Iterator

from stalewatch.clients.protocol import NodeState
from stalewatch.metrics import families
from stalewatch.metrics.meter import Reading


class NodeMetrics:
    """The servers of one database in one run."""

    def __init__(self, run: str, database: str) -> None:
        self._labels = (run, database)
        self._seen: dict[str, NodeState | None] = {}
        self._primary: str | None = None
        self._changes = 0

    def saw(self, states: Iterable[NodeState]) -> None:
        """Replace the state of every server; the state of a known server that is missing becomes unknown."""
        self._seen = {**dict.fromkeys(self._seen), **{state.node: state for state in states}}
        primaries = [state.node for state in self._seen.values() if state is not None and state.primary]
        if len(primaries) == 1:  # a store with several leaders has no elections
            self._changes += self._primary not in {None, primaries[0]}
            self._primary = primaries[0]

    def readings(self) -> Iterator[Reading]:
        """Yield every series."""
        if not self._seen:
            return
        for node, state in self._seen.items():
            labels = (*self._labels, node)
            yield Reading(families.PRIMARY, labels, state is not None and state.primary)
            yield Reading(families.NODE_HEALTHY, labels, state is not None and state.healthy)
            if state is not None and state.lag_s is not None:
                yield Reading(families.REPLICATION_LAG, labels, state.lag_s)
        yield Reading(families.PRIMARY_CHANGES, self._labels, self._changes)
