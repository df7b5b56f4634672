"""Link down: leaders no longer send each other what was written to them, while clients reach both."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from stalewatch.clusters.protocol import Cluster, Replication
from stalewatch.faults.nodes import each
from stalewatch.faults.protocol import Value

_SOURCE, _TARGET = 0, 1

WAYS: Mapping[str, Sequence[int]] = {"both": (_SOURCE, _TARGET), "out": (_SOURCE,), "in": (_TARGET,)}
"""Which ends of a link count, by the parameter ``way``: it is meant where one of the nodes is at such an end."""


class ReplicatingCluster(Cluster, Replication, Protocol):
    """A cluster whose replication links can be taken down."""


@dataclass(frozen=True)
class LinkDown:
    """The links to and from the nodes are removed, or those of the parameter ``way`` alone: ``out`` or ``in``."""

    cluster: ReplicatingCluster
    nodes: Sequence[str]
    parameters: Mapping[str, Value]
    name: ClassVar[str] = "link"

    def begin(self) -> None:
        """Take the links down."""
        each(self._links(), lambda link: self.cluster.unlink(*link))

    def end(self) -> None:
        """Put up those that are down."""
        each(self._links(), lambda link: self.cluster.relink(*link))

    def _links(self) -> Iterator[tuple[str, str]]:
        ends = WAYS[str(self.parameters["way"])]
        return (link for link in self.cluster.streams() if any(link[end] in self.nodes for end in ends))
