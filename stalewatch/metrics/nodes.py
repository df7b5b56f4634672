"""Metrics of a database's servers: what they report about themselves, and the faults injected into them."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stalewatch.clients.protocol import NodeState
from stalewatch.metrics import families
from stalewatch.metrics.meter import Meter, Reading


class NodeMetrics:
    """The servers of one database in one run: their last reported state, and how often the primary changed."""

    def __init__(self, run: str, database: str) -> None:
        self._labels = (run, database)
        self._seen: dict[str, NodeState | None] = {}
        self._primary: str | None = None
        self._changes = 0

    def update(self, states: Iterable[NodeState]) -> None:
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


@dataclass
class FaultTime:
    """The time during which a fault was active on a node, in nanoseconds since the epoch."""

    fault: str
    node: str
    start: int
    end: int | None = None
    """None while it is active."""


class Faults:
    """The faults in a process's runs, as reported by the injector; one that has ended is 0, so charts show its end."""

    def __init__(self) -> None:
        self.times: list[FaultTime] = []
        """When faults were active, in the order of their start."""

    def begin(self, fault: str, node: str) -> None:
        """Show a fault, such as ``kill``, as active on a node."""
        if not any(self._active(fault, node)):
            self.times.append(FaultTime(fault, node, time.time_ns()))

    def end(self, fault: str, node: str) -> None:
        """Show a fault as over."""
        for one in self._active(fault, node):
            one.end = time.time_ns()

    def _active(self, fault: str, node: str) -> Iterator[FaultTime]:
        return (one for one in self.times if (one.fault, one.node, one.end) == (fault, node, None))

    @contextmanager
    def on(self, fault: str, node: str) -> Iterator[None]:
        """Show a fault as active while the block runs."""
        self.begin(fault, node)
        try:
            yield
        finally:
            self.end(fault, node)

    def forget(self) -> None:
        """Drop the faults that have ended, for a new run."""
        self.times = [one for one in self.times if one.end is None]

    def readings(self, meter: Meter) -> Iterator[Reading]:
        """Yield every fault, with the labels of the meter's run."""
        active = {(one.fault, one.node): one.end is None for one in self.times}
        for (fault, node), is_active in active.items():
            yield meter.reading(families.FAULT_ACTIVE, is_active, fault, node)
