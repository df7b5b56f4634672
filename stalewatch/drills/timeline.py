"""Does a drill's steps in their time, and notes what was done."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from stalewatch.clients.errors import ClientError
from stalewatch.clusters.protocol import Cluster, ClusterError
from stalewatch.drills.plan import Step
from stalewatch.drills.recovery import NS
from stalewatch.drills.targets import Group, NoTarget, groups
from stalewatch.faults.catalogue import FAULTS
from stalewatch.faults.catalogue import PlannedFault as Fault
from stalewatch.history.clock import Clock
from stalewatch.history.operation import Fault as Noted

LOOK_S = 0.05
PATIENCE_S = 15.0
"""How long a step waits for somebody who has the role that it is meant for."""


Over = Callable[[], bool]
"""Says that the load is over."""

Act = Callable[[Over], None]


class Cut(ClusterError):
    """The load was over before the drill was."""


class Guard(Protocol):
    """Begins and ends faults, and knows which stand."""

    def begin(self, fault: Fault) -> None:
        """Begin a fault."""
        ...

    def end(self, fault: Fault) -> None:
        """Undo a fault."""
        ...


class Unguarded:
    """Begins and ends faults of what ends with this process, such as a simulated store."""

    def begin(self, fault: Fault) -> None:
        """Begin a fault."""
        fault.begin()

    def end(self, fault: Fault) -> None:
        """Undo a fault."""
        fault.end()


class Notes(Protocol):
    """Notes what is broken, as it happens: a recorder does."""

    def begin_fault(self, fault: str, node: str) -> Noted:
        """Note that a fault is on at a node from now on."""
        ...

    def end_fault(self, noted: Noted) -> None:
        """Note that it is over now."""
        ...


Watcher = Callable[[Noted], None]
"""Is told when a fault has begun at a node, and again when it has an end."""


class Timeline:
    """One drill's faults over one load; `run` does them, in a session of the clock of their own."""

    def __init__(
        self,
        steps: Sequence[Step],
        cluster: Cluster,
        notes: Notes,
        clock: Clock,
        tell: Callable[[str], None],
        watchers: Sequence[Watcher] = (),
    ) -> None:
        self.noted: list[Noted] = []
        """What was done to whom; the end of what still stands is None."""
        self.guard: Guard = Unguarded()
        self.before_healing: Callable[[], None] = lambda: None
        """Is called before each fault is undone."""
        self.trouble: ClusterError | ClientError | None = None
        """Why the drill could not go on."""
        self.cut = False
        """The load was over before the drill was."""
        self._steps = sorted(steps, key=lambda step: step.after)
        self._cluster = cluster
        self._notes = notes
        self._clock = clock
        self._tell = tell
        self._watchers = watchers
        self._standing: list[tuple[Fault, list[Noted]]] = []

    @property
    def begun(self) -> int | None:
        """When the first fault began."""
        return min((one.start for one in self.noted), default=None)

    @property
    def healed(self) -> int | None:
        """When the last fault ended; None while one stands."""
        ends = [one.end for one in self.noted]
        return None if not ends or None in ends else max(end for end in ends if end is not None)

    def run(self, at: int, lasts_s: float, over: Over) -> None:
        """Do the steps, the first `after` counting from the moment `at`; undo what stands where it is `over` before.

        A `ClusterError` ends the drill and stands in `trouble`; what stands is undone then too.
        """
        try:
            for moment, act in self._acts(at, lasts_s):
                if not self._wait(moment, over):
                    self.cut = True
                    break
                act(over)
        except (ClusterError, ClientError) as error:
            self.trouble = error
            self._tell(f"the drill cannot go on: {error}")
        finally:
            self._undo()

    def _acts(self, at: int, lasts_s: float) -> list[tuple[int, Act]]:
        """Return what is to be done, in order: the begin of each step and its end.

        One whose nodes are met one after another is a single act: each waits for the one before. What ends at the same
        time ends in the reverse order of its begin, before anything else begins.
        """
        acts: list[tuple[int, int, Act]] = []
        for place, step in enumerate(self._steps, start=1):
            start, lasts = at + round(step.after * NS), lasts_s if step.lasts is None else step.lasts
            if step.on == "each":
                acts.append((start, place, partial(self._rolling, step, lasts)))
                continue
            mine: list[Fault] = []
            acts.append((start, place, partial(self._begin_all, step, mine)))
            acts.append((start + round(lasts * NS), -place, partial(self._end_all, mine)))
        return [(moment, act) for moment, _, act in sorted(acts, key=lambda act: act[:2])]

    def _rolling(self, step: Step, lasts_s: float, over: Over) -> None:
        for nodes in self._groups(step, over):
            if over():
                self.cut = True
                return
            fault = self._begin(step, nodes)
            self._wait(self._clock.now() + round(lasts_s * NS), over)
            self._end(fault)

    def _begin_all(self, step: Step, begun: list[Fault], over: Over) -> None:
        begun.extend(self._begin(step, nodes) for nodes in self._groups(step, over))

    def _groups(self, step: Step, over: Over) -> Sequence[Group]:
        """Return whom the step is for; wait a little where an election is still under way."""
        patience_ends = self._clock.now() + round(PATIENCE_S * NS)
        while True:
            try:
                return groups(self._cluster, step.on)
            except NoTarget:
                if over() or self._clock.now() >= patience_ends:
                    raise
            self._clock.sleep(LOOK_S)

    def _end_all(self, faults: Sequence[Fault], _over: Over) -> None:
        for fault in faults:
            self._end(fault)

    def _begin(self, step: Step, nodes: Sequence[str]) -> Fault:
        fault = FAULTS[step.fault].make(self._cluster, nodes, step.parameters)
        self._tell(f"{fault.name}: {', '.join(nodes)}")
        noted = [self._notes.begin_fault(fault.name, node) for node in nodes]
        self.noted.extend(noted)
        self._standing.append((fault, noted))
        self._show(noted)
        self.guard.begin(fault)
        return fault

    def _end(self, fault: Fault) -> None:
        self.before_healing()
        self._tell(f"undoing {fault.name}: {', '.join(fault.nodes)}")
        self.guard.end(fault)
        (place,) = (place for place, (standing, _) in enumerate(self._standing) if standing is fault)
        _, noted = self._standing.pop(place)
        for one in noted:
            self._notes.end_fault(one)
        self._show(noted)
        self._tell(f"{fault.name} is over: {', '.join(fault.nodes)}")

    def _show(self, noted: Sequence[Noted]) -> None:
        for one in noted:
            for watch in self._watchers:
                watch(one)

    def _undo(self) -> None:
        """Undo what stands, the newest first: it was done to what the others had left."""
        for fault, _ in reversed(list(self._standing)):
            try:
                self._end(fault)
            except Exception as error:  # noqa: BLE001 # whatever it is, the others are undone; the guard tries again
                told = f"{', '.join(fault.nodes)}: {fault.name} was not undone: {error or type(error).__name__}"
                self.trouble = self.trouble or ClusterError(told)
                self._tell(told)

    def _wait(self, moment: int, over: Over) -> bool:
        """Wait for a moment; return False where it is over before."""
        while (left := moment - self._clock.now()) > 0:
            if over():
                return False
            self._clock.sleep(min(LOOK_S, left / NS))
        return True
