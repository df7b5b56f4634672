"""Hints off: nodes no longer keep what another one missed, so that only repair brings it there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stalewatch.clusters.protocol import Cluster, Hints
from stalewatch.faults.nodes import each, in_state
from stalewatch.faults.protocol import Value


class HintingCluster(Cluster, Hints, Protocol):
    """A cluster whose nodes keep hints."""


@dataclass(frozen=True)
class HintsOff:
    """What a node misses while it is away stays missing there, where no read or repair mends it."""

    cluster: HintingCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "hints"

    def begin(self) -> None:
        """Let the nodes keep nothing for others."""
        each(self.nodes, lambda node: self.cluster.keep_hints(node, keep=False))

    def end(self) -> None:
        """Let them do as they were started; one that starts later does so by itself."""
        each(in_state(self.cluster, self.nodes, "running"), lambda node: self.cluster.keep_hints(node, keep=None))
