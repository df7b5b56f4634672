"""Kill: nodes end at once, without a chance to tell anybody; undone by starting them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stalewatch.clusters.protocol import Cluster
from stalewatch.faults.nodes import each, revive
from stalewatch.faults.protocol import Value


@dataclass(frozen=True)
class Kill:
    """SIGKILL: what a node had promised but kept in memory alone is gone; its peers see the connections close."""

    cluster: Cluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "kill"

    def begin(self) -> None:
        """Kill every node, one right after another."""
        each(self.nodes, self.cluster.kill)

    def end(self) -> None:
        """Start those that are dead."""
        revive(self.cluster, self.nodes)
