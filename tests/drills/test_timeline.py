"""When faults begin and end, on a clock that only sleeping moves."""

from collections.abc import Sequence
from typing import cast

from stalewatch.clusters.protocol import Cluster
from stalewatch.drills.catalogue import DrillStep
from stalewatch.drills.timeline import Timeline
from stalewatch.faults.catalogue import PlannedFault
from stalewatch.history.operation import Fault
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.cluster import MemoryCluster
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock

NS = 1_000_000_000


class StillClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.ns = 0

    def now(self) -> int:
        """Return the time."""
        return self.ns

    def sleep(self, seconds: float) -> None:
        """Move the clock."""
        self.ns += round(seconds * NS)

    def expect(self, sessions: int) -> None:
        """Do nothing, like the methods below."""

    def join(self, session: str) -> None:
        """Do nothing."""

    def leave(self) -> None:
        """Do nothing."""


class SlowFaults:
    """Begins each fault as many seconds after `takes_s`; `log` has what happened when, in seconds."""

    def __init__(self, clock: StillClock, takes_s: float) -> None:
        self._clock = clock
        self._takes_s = takes_s
        self.log: list[tuple[str, str, float]] = []

    def begin(self, fault: PlannedFault) -> None:
        """Take a while."""
        self._clock.sleep(self._takes_s)
        self._note("begin", fault)

    def end(self, fault: PlannedFault) -> None:
        """End at once."""
        self._note("end", fault)

    def _note(self, what: str, fault: PlannedFault) -> None:
        self.log.append((what, fault.nodes[0], round(self._clock.now() / NS, 3)))


class Notes:
    """Records faults without a run."""

    def __init__(self, clock: StillClock) -> None:
        self._clock = clock

    def begin_fault(self, fault: str, node: str) -> Fault:
        """Return the record of a fault that begins."""
        return Fault(fault=fault, node=node, start=self._clock.now(), end=None)

    def end_fault(self, noted: Fault) -> None:
        """Complete the record."""
        noted.end = self._clock.now()


def performed(steps: Sequence[DrillStep], takes_s: float) -> list[tuple[str, str, float]]:
    clock = StillClock()
    cluster = MemoryCluster(MemoryClient(MemoryOptions(topology="leader"), SimulatedClock()))
    timeline = Timeline(steps, cast("Cluster", cluster), Notes(clock), clock, lambda _line: None)
    timeline.guard = faults = SlowFaults(clock, takes_s)
    timeline.run(2 * NS, 8.0, lambda: False)
    assert timeline.failure is None
    return faults.log


def test_a_fault_that_begins_late_lasts_as_long_as_planned() -> None:
    step = DrillStep(fault="none", on="first")
    (first,) = {node for _, node, _ in performed([step], 0)}
    assert performed([step], 0) == [("begin", first, 2.0), ("end", first, 10.0)]
    assert performed([step], 5) == [("begin", first, 7.0), ("end", first, 15.0)]


def test_faults_that_end_together_do_so_in_reverse_order_however_long_their_begin_takes() -> None:
    steps = [DrillStep(fault="none", on="first"), DrillStep(fault="none", on="last")]
    log = performed(steps, 1)
    (_, first, _), (_, last, _), *_ = log
    assert first != last
    assert log == [("begin", first, 3.0), ("begin", last, 4.0), ("end", last, 12.0), ("end", first, 12.0)]
