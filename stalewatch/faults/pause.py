"""Pause: nodes stand still, as in a long collection of garbage or a move of their machine, and then go on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stalewatch.clusters.protocol import Cluster
from stalewatch.faults.nodes import each, in_state
from stalewatch.faults.protocol import Value


@dataclass(frozen=True)
class Pause:
    """SIGSTOP: connections stay open, nothing answers; after SIGCONT a node believes what it believed before."""

    cluster: Cluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "pause"

    def begin(self) -> None:
        """Freeze every node."""
        each(self.nodes, self.cluster.pause)

    def end(self) -> None:
        """Let those that are frozen go on."""
        each(in_state(self.cluster, self.nodes, "paused"), self.cluster.resume)
