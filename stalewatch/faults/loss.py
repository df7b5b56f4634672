"""Loss: a share of all packets to and from nodes is dropped, as by a worn cable or a full queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stalewatch.faults.isolate import LinkedCluster
from stalewatch.faults.nodes import each
from stalewatch.faults.protocol import Value


@dataclass(frozen=True)
class Loss:
    """Each way loses the parameter ``share`` of its packets; TCP sends them again, later and later."""

    cluster: LinkedCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "loss"

    def begin(self) -> None:
        """Make the links of every node lose."""
        each(self.nodes, lambda node: self.cluster.lose(node, float(self.parameters["share"])))

    def end(self) -> None:
        """Let everything pass again."""
        each(self.nodes, lambda node: self.cluster.mend(node, "lose"))
