"""Delay: all that goes to and from nodes takes longer, as over a long distance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stalewatch.faults.isolate import LinkedCluster
from stalewatch.faults.nodes import each
from stalewatch.faults.protocol import Value


@dataclass(frozen=True)
class Delay:
    """A round trip to a node takes twice the parameter ``each_way_s`` longer, for other nodes and clients alike."""

    cluster: LinkedCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "delay"

    def begin(self) -> None:
        """Slow the links of every node."""
        each(self.nodes, lambda node: self.cluster.slow(node, float(self.parameters["each_way_s"])))

    def end(self) -> None:
        """Let everything pass at once again."""
        each(self.nodes, lambda node: self.cluster.mend(node, "slow"))
