"""Doing something to several nodes, and to those of them only that are in a state."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from stalewatch.clusters.protocol import Cluster, ClusterError, State

T = TypeVar("T")


def each(those: Iterable[T], do: Callable[[T], None]) -> None:
    """Do it to each of those, even where it fails at another; then raise what went wrong."""
    troubles: list[ClusterError] = []
    for one in those:
        try:
            do(one)
        except ClusterError as trouble:
            troubles.append(trouble)
    if troubles:
        raise type(troubles[0])("; ".join(map(str, troubles))) from troubles[0]


def in_state(cluster: Cluster, nodes: Sequence[str], state: State) -> list[str]:
    """Return which of the nodes are in that state, as far as their processes go."""
    return [node.address for node in cluster.status() if node.address in nodes and node.state == state]


def revive(cluster: Cluster, nodes: Sequence[str]) -> None:
    """Start those nodes that are dead, and return when they serve."""
    each(in_state(cluster, nodes, "dead"), cluster.restart)
