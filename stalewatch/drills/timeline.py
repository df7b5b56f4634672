"""The timeline of a drill: starts and ends its faults on time, and records them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import NamedTuple, Protocol

from stalewatch.clients.errors import ClientError
from stalewatch.clusters.protocol import Cluster, ClusterError
from stalewatch.drills.catalogue import DrillStep
from stalewatch.drills.clusters import NoTarget, TargetNodes, resolve_target
from stalewatch.drills.recovery import NS
from stalewatch.faults.catalogue import FAULTS
from stalewatch.faults.catalogue import PlannedFault as Fault
from stalewatch.faults.guardian import guarded
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Fault as RecordedFault

POLL_S = 0.05
TARGET_TIMEOUT_S = 15.0
"""How long a step waits for a node to have the role that it targets."""

Over = Callable[[], bool]
"""Returns whether the load is over."""

Action = Callable[[int, Over], None]
"""Does something that was due at a moment."""


class DrillCutShort(ClusterError):
    """The load ended before the drill did."""


class FaultGuard(Protocol):
    """Begins and ends faults, and knows which are active."""

    def begin(self, fault: Fault) -> None:
        """Begin a fault."""
        ...

    def end(self, fault: Fault) -> None:
        """Undo a fault."""
        ...


class Unguarded:
    """Begins and ends faults of something that ends with this process, such as a simulated store."""

    def begin(self, fault: Fault) -> None:
        """Begin a fault."""
        fault.begin()

    def end(self, fault: Fault) -> None:
        """Undo a fault."""
        fault.end()


def fault_guard(cluster: Cluster | None) -> AbstractContextManager[FaultGuard]:
    """Return a guard that undoes every fault of the cluster, whatever happens to this process."""
    return nullcontext(Unguarded()) if cluster is None else guarded(cluster)


class FaultNotes(Protocol):
    """Records faults as they happen; a recorder is one."""

    def begin_fault(self, fault: str, node: str) -> RecordedFault:
        """Record that a fault is active at a node from now on."""
        ...

    def end_fault(self, noted: RecordedFault) -> None:
        """Record that it ends now."""
        ...


class _ActiveFault(NamedTuple):
    """A fault that is not undone yet, with its records, one a node."""

    fault: Fault
    records: list[RecordedFault]


class Timeline:
    """The faults of one drill under one load; `run` is a session of the clock.

    `watchers` are called with each record when its fault begins and when it ends.
    """

    def __init__(
        self,
        steps: Sequence[DrillStep],
        cluster: Cluster,
        notes: FaultNotes,
        clock: Clock,
        log: Callable[[str], None],
        watchers: Sequence[Callable[[RecordedFault], None]] = (),
    ) -> None:
        self.faults: list[RecordedFault] = []
        """Every fault so far; the end of an active one is None."""
        self.guard: FaultGuard = Unguarded()
        self.before_healing: Callable[[], None] = lambda: None
        """Called before each fault is undone."""
        self.failure: ClusterError | ClientError | None = None
        """Why the drill could not be completed."""
        self.cut_short = False
        """Whether the load ended before the drill did."""
        self._steps = sorted(steps, key=lambda step: step.after)
        self._cluster = cluster
        self._notes = notes
        self._clock = clock
        self._log = log
        self._watchers = watchers
        self._active: list[_ActiveFault] = []
        self._late_ns = 0
        """How much later than planned the faults so far have begun."""

    @property
    def healed_ns(self) -> int | None:
        """When the last fault ended; None while one is active."""
        ends = [one.end for one in self.faults]
        return None if not ends or None in ends else max(end for end in ends if end is not None)

    def run(self, start_ns: int, fault_s: float, over: Over) -> None:
        """Perform the steps, whose `after` counts from `start_ns`; stop early if the load is `over`.

        A `ClusterError` stops the drill too and becomes its `failure`. Active faults are undone in any case.
        """
        self._late_ns = 0
        try:
            for moment, act in self._actions(start_ns, fault_s):
                if not self._wait(moment + self._late_ns, over):
                    self.cut_short = True
                    break
                act(moment, over)
        except (ClusterError, ClientError) as error:
            self.failure = error
            self._log(f"the drill cannot continue: {error}")
        finally:
            self._undo_all()

    def _actions(self, start_ns: int, fault_s: float) -> list[tuple[int, Action]]:
        """Return what to do at which moment, in order: the begin and the end of each step.

        A step that breaks nodes one after another is a single action, since each waits for the one before. Faults that
        end at the same time end in the reverse order of their begin, before any other fault begins.
        """
        actions: list[tuple[int, int, Action]] = []
        for number, step in enumerate(self._steps, start=1):
            begin, lasts_s = start_ns + round(step.after * NS), fault_s if step.lasts is None else step.lasts
            if step.on == "each":
                actions.append((begin, number, partial(self._roll, step, lasts_s)))
                continue
            begun: list[Fault] = []
            actions.append((begin, number, partial(self._begin_step, step, begun)))
            actions.append((begin + round(lasts_s * NS), -number, partial(self._end_step, begun)))
        return [(moment, act) for moment, _, act in sorted(actions, key=lambda action: action[:2])]

    def _roll(self, step: DrillStep, lasts_s: float, _due_ns: int, over: Over) -> None:
        """Break one group of nodes after another."""
        for nodes in self._target(step, over):
            if over():
                self.cut_short = True
                return
            fault = self._begin(step, nodes)
            self._wait(self._clock.now() + round(lasts_s * NS), over)
            self._end(fault)

    def _begin_step(self, step: DrillStep, begun: list[Fault], due_ns: int, over: Over) -> None:
        """Begin a fault, which may take seconds: what follows is as much later, so that it lasts as long as planned."""
        begun.extend(self._begin(step, nodes) for nodes in self._target(step, over))
        self._late_ns = max(self._late_ns, self._clock.now() - due_ns)

    def _end_step(self, begun: Sequence[Fault], _due_ns: int, _over: Over) -> None:
        for fault in begun:
            self._end(fault)

    def _target(self, step: DrillStep, over: Over) -> Sequence[TargetNodes]:
        """Return the nodes that a step targets; wait a little in case an election is in progress."""
        deadline_ns = self._clock.now() + round(TARGET_TIMEOUT_S * NS)
        while True:
            try:
                return resolve_target(self._cluster, step.on)
            except NoTarget:
                if over() or self._clock.now() >= deadline_ns:
                    raise
            self._clock.sleep(POLL_S)

    def _begin(self, step: DrillStep, nodes: Sequence[str]) -> Fault:
        fault = FAULTS[step.fault].make(self._cluster, nodes, step.parameters)
        self._log(f"{fault.name}: {', '.join(nodes)}")
        records = [self._notes.begin_fault(fault.name, node) for node in nodes]
        self.faults.extend(records)
        self._active.append(_ActiveFault(fault, records))
        self._show(records)
        self.guard.begin(fault)
        return fault

    def _end(self, fault: Fault) -> None:
        self.before_healing()
        self._log(f"undoing {fault.name}: {', '.join(fault.nodes)}")
        self.guard.end(fault)
        (active,) = (one for one in self._active if one.fault is fault)
        self._active = [one for one in self._active if one is not active]
        for record in active.records:
            self._notes.end_fault(record)
        self._show(active.records)
        self._log(f"{fault.name} is over: {', '.join(fault.nodes)}")

    def _show(self, records: Sequence[RecordedFault]) -> None:
        for record in records:
            for watch in self._watchers:
                watch(record)

    def _undo_all(self) -> None:
        """Undo the active faults, the newest first: it hit a cluster that the others had changed."""
        for fault, _ in reversed(self._active):
            try:
                self._end(fault)
            except Exception as error:  # noqa: BLE001 # whatever it is, undo the others; the guard tries this one again
                message = f"{', '.join(fault.nodes)}: {fault.name} was not undone: {error or type(error).__name__}"
                self.failure = self.failure or ClusterError(message)
                self._log(message)

    def _wait(self, moment: int, over: Over) -> bool:
        """Wait for a moment; return False if the load is over before."""
        while (left := moment - self._clock.now()) > 0:
            if over():
                return False
            self._clock.sleep(min(POLL_S, left / NS))
        return True
