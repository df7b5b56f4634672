"""One drill in one process: faults beside the load, what watches the servers meanwhile, and what all that measured."""

import argparse
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import ClientError
from stalewatch.clusters.protocol import ClusterError, Reachable
from stalewatch.commands.outputs import tell
from stalewatch.drills import broken
from stalewatch.drills.chosen import Chosen
from stalewatch.drills.figures import Load, figures
from stalewatch.drills.observers import UNSEEN, Observers
from stalewatch.drills.recovery import NS
from stalewatch.drills.timeline import LOOK_S, Cut, Timeline
from stalewatch.engine.single import SingleRun, opened
from stalewatch.faults.guardian import NotUndone
from stalewatch.history.operation import Fault
from stalewatch.recording.evidence import Evidence
from stalewatch.workloads.options import LoadOptions


class Drilled(NamedTuple):
    """A drill that is over."""

    findings: Findings
    result: dict[str, Any]
    received: list[int]
    """The exit codes that signals ask for."""

    trouble: ClusterError | ClientError | None
    """Why the drill could not be done to its end."""


def drilled(arguments: argparse.Namespace, load: LoadOptions, chosen: Chosen, cluster: Reachable | None) -> Drilled:
    """Do the drill and return what it came to; `cluster` is None for a simulated store.

    Raises a `ClientError` or a `ClusterError` where it cannot begin.
    """
    with opened(arguments, load) as one:
        scene = Scene(arguments, chosen, cluster, one)
        try:
            one.perform(scene.beside())
        except NotUndone as error:  # what was measured until then stands
            scene.timeline.trouble = error
        findings, result = one.result(scene.figures())
    return Drilled(findings, result, one.received, scene.timeline.trouble)


class Scene:
    """What a drill has beside the load of a run."""

    def __init__(
        self, arguments: argparse.Namespace, chosen: Chosen, cluster: Reachable | None, one: SingleRun
    ) -> None:
        self._arguments = arguments
        self._chosen = chosen
        self._cluster = cluster
        self._one = one
        self._evidence = Evidence()
        self._observers: Observers | None = None
        self._begun = False
        self._over = threading.Event()
        breakable = broken.breakable(cluster, one.client)
        broken.require(chosen.drill, breakable)
        self.timeline = Timeline(
            chosen.drill.steps,
            breakable,
            one.recorder,
            one.client.clock,
            tell,
            [self._note],
        )
        one.recorder.listeners.append(self._evidence)
        one.run.companions["drill"] = self._run

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Watch the servers while the block runs, and see to it that whatever was broken is mended after it."""
        one, cluster = self._one, self._cluster
        if cluster is not None:
            self._observers = Observers(
                one.client.database, self._arguments, cluster.nodes(), one.run.name, one.client.clock, tell
            )
            self.timeline.before_healing = self._observers.rest
        try:
            with broken.guard(cluster) as self.timeline.guard:
                yield
                self._await_timeline()
        finally:
            if self._observers is not None:
                self._observers.close(lambda: one.run.interrupted)

    def _await_timeline(self) -> None:
        """Wait until whoever breaks has mended everything: two who mend at a time would disturb each other.

        An interrupted load does not wait so long for its sessions. Another Ctrl-C ends this; the guardian mends then.
        """
        while self._begun and not self._over.wait(LOOK_S):
            pass

    def _run(self, begun: int, over: Callable[[], bool]) -> None:
        self._begun = True
        one, timeline = self._one, self.timeline
        try:
            timeline.run(begun + round(self._chosen.at * NS), self._chosen.lasts, over)
            if timeline.cut and not one.run.interrupted:
                timeline.trouble = timeline.trouble or Cut("the load ended before the drill did; give --duration more")
        finally:
            if self._observers is not None:
                self._observers.heal(timeline.healed)
            if self._arguments.after_s is not None:
                one.run.end_at(one.client.clock.now() + round(self._arguments.after_s * NS))
            self._over.set()

    def _note(self, fault: Fault) -> None:
        show = self._one.faults.begin if fault.end is None else self._one.faults.end
        show(fault.fault, fault.node or "")

    def figures(self) -> dict[str, Any]:
        """Return what the drill measured."""
        one = self._one
        self._evidence.decided(one.recorder.found_at_the_end)
        load = Load(one.recorder.counting_from_ns, one.run.ended_ns)
        read_finally = self._evidence.read_finally and one.run.final_reads_s is not None
        observed = self._observers.figures() if self._observers else UNSEEN
        return {
            "drill": self._chosen.drill.name,
            "drill_trouble": self.timeline.trouble and str(self.timeline.trouble),
            **figures(self._evidence, self.timeline.noted, load, read_finally=read_finally),
            **observed,
        }
