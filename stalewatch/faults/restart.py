"""Restart: nodes end in good order and start again, one after another, as in an upgrade."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from stalewatch.clusters.protocol import Cluster
from stalewatch.faults.nodes import revive
from stalewatch.faults.protocol import Value


@dataclass(frozen=True)
class Restart:
    """Each node hands over what it leads, ends, starts and serves before it is the next one's turn."""

    cluster: Cluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "restart"

    def begin(self) -> None:
        """Restart every node; a failure ends it, for an upgrade that goes on after one takes the whole cluster down."""
        for node in self.nodes:
            self.cluster.restart(node)

    def end(self) -> None:
        """Start those that did not come back."""
        revive(self.cluster, self.nodes)
