"""Does a drill's steps in their time, and notes what was done."""

from collections.abc import Callable, Sequence
from typing import Protocol

from clients.errors import ClientError
from drills.plan import Step
from drills.targets import groups
from history.clock import Clock
from history.operation import Fault as Noted
from replication.faults.kinds import FAULTS
from replication.faults.protocol import Fault
from replication.protocol import Cluster, ClusterError

LOOK_S = 0.05
NS = 1_000_000_000


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
        self.trouble: ClusterError | ClientError | None = None
        """Why the drill could not go on."""
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

    def run(self, at: int, lasts_s: float, over: Callable[[], bool]) -> None:
        """Do the steps, the first `after` counting from the moment `at`; undo what stands where it is `over` before.

        A `ClusterError` ends the drill and stands in `trouble`; what stands is undone then too.
        """
        try:
            for moment, act in self._acts(at, lasts_s):
                if not self._wait(moment, over):
                    break
                act(over)
        except (ClusterError, ClientError) as error:
            self.trouble = error
            self._tell(f"the drill cannot go on: {error}")
        finally:
            self._undo()

    def _acts(self, at: int, lasts_s: float) -> list[tuple[int, Callable[[Callable[[], bool]], None]]]:
        """Return what is to be done, in order: the begin of each step and its end.

        One whose nodes are met one after another is a single act: each waits for the one before.
        """
        acts: list[tuple[int, Callable[[Callable[[], bool]], None]]] = []
        for step in self._steps:
            start, lasts = at + round(step.after * NS), lasts_s if step.lasts is None else step.lasts
            if step.on == "each":
                acts.append((start, lambda over, step=step, lasts=lasts: self._rolling(step, lasts, over)))  # type: ignore[misc]
                continue
            mine: list[Fault] = []
            acts.append((start, lambda _, step=step, mine=mine: mine.extend(self._begun(step))))  # type: ignore[misc]
            acts.append((start + round(lasts * NS), lambda _, mine=mine: self._ended(mine)))  # type: ignore[misc]
        return sorted(acts, key=lambda act: act[0])

    def _rolling(self, step: Step, lasts_s: float, over: Callable[[], bool]) -> None:
        for nodes in groups(self._cluster, step.on):
            fault = self._begin(step, nodes)
            self._wait(self._clock.now() + round(lasts_s * NS), over)
            self._end(fault)
            if over():
                return

    def _begun(self, step: Step) -> list[Fault]:
        return [self._begin(step, nodes) for nodes in groups(self._cluster, step.on)]

    def _ended(self, faults: Sequence[Fault]) -> None:
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
            except (ClusterError, ClientError) as error:  # the guard tries again, and says where it cannot
                self.trouble = self.trouble or error
                self._tell(str(error))

    def _wait(self, moment: int, over: Callable[[], bool]) -> bool:
        """Wait for a moment; return False where it is over before."""
        while (left := moment - self._clock.now()) > 0:
            if over():
                return False
            self._clock.sleep(min(LOOK_S, left / NS))
        return True
