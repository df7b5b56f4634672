"""Whom a fault is done to: names for nodes whose roles are known only when the time has come.

Several groups mean one after another, as in a rolling restart; the nodes of one group are met together.
"""

from collections.abc import Callable, Mapping, Sequence

from stalewatch.clusters.protocol import Cluster, ClusterError, UnknownNode

Group = Sequence[str]


class NoTarget(ClusterError):
    """Nobody has the role just now that a fault is meant for."""


def _primary(cluster: Cluster) -> Sequence[Group]:
    return [[_leader(cluster)]]


def _leader(cluster: Cluster) -> str:
    primary = cluster.primary()
    if primary is None:
        raise NoTarget(f"{cluster.database} has no primary just now, so there is none to break")
    return primary


def _replicas(cluster: Cluster) -> list[str]:
    """Return all but the primary; of a cluster without one, all but the first node."""
    nodes = list(cluster.nodes())
    leader = cluster.primary() or nodes[0]
    return [node for node in nodes if node != leader]


def _most(cluster: Cluster) -> list[str]:
    """Return as many nodes as make a majority, the primary among them where there is one."""
    nodes = list(cluster.nodes())
    leader = cluster.primary() or nodes[-1]
    others = [node for node in reversed(nodes) if node != leader]
    return [leader, *others][: len(nodes) // 2 + 1]


TARGETS: Mapping[str, tuple[str, Callable[[Cluster], Sequence[Group]]]] = {
    "primary": ("the node that takes the writes", _primary),
    "replica": ("one node that is not the primary, the last one", lambda cluster: [_replicas(cluster)[-1:]]),
    "replicas": ("all nodes but the primary", lambda cluster: [_replicas(cluster)]),
    "majority": ("more than half of the nodes, the primary among them", lambda cluster: [_most(cluster)]),
    "all": ("all nodes at once", lambda cluster: [list(cluster.nodes())]),
    "each": ("all nodes, one after another", lambda cluster: [[node] for node in cluster.nodes()]),
    "first": ("the first node", lambda cluster: [list(cluster.nodes())[:1]]),
    "last": ("the last node", lambda cluster: [list(cluster.nodes())[-1:]]),
}
"""What each name means, and who that is now."""


def groups(cluster: Cluster, on: str) -> Sequence[Group]:
    """Return whom a name, or a node's own address, stands for now (raises a `ClusterError`)."""
    if on in TARGETS:
        return TARGETS[on][1](cluster)
    if on in cluster.nodes():
        return [[on]]
    raise UnknownNode(
        f"{on}: neither a node ({', '.join(cluster.nodes())}) nor one of {', '.join(TARGETS)}; name one of these"
    )
