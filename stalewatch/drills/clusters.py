"""The cluster that a drill breaks, and the fault targets: roles that are resolved to nodes when a step starts."""

import argparse
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import parse_options
from stalewatch.clients.protocol import Client
from stalewatch.clusters.protocol import Cluster, ClusterError, Reachable, UnknownNode
from stalewatch.drills.catalogue import BadDrill, Drill
from stalewatch.faults.catalogue import FAULTS, LINKS, BadParameter
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.cluster import MemoryCluster

Log = Callable[[str], None]
TargetNodes = Sequence[str]


@contextmanager
def prepared_cluster(arguments: argparse.Namespace, drill: Drill, log: Log) -> Iterator[Reachable | None]:
    """Yield the cluster to break, started and healthy, with its address set in the arguments; None for a simulated one.

    It keeps running after the block, except for a lab that was started for this drill. During the block no other
    command may break, start or stop it. Raises a `ClusterError` if another drill has it or it cannot be started,
    `BadDrill` if it cannot suffer one of the faults, and `BadAddress` if the arguments hold an
    address: stalewatch can break only clusters whose servers it controls.
    """
    database = DATABASES[arguments.database]
    if not database.addresses:
        yield None
        return
    if not database.lacks_address(parse_options(database.options, arguments)):
        raise BadAddress(
            f"a drill breaks the local {database.name} cluster, or with --compose the one of the Compose file, but not "
            "servers that it knows only by their address; leave the address out"
        )
    lab = bool(arguments.lab) or needs_links(drill)
    cluster = _cluster(arguments, lab=lab)
    require(drill, cluster)
    with cluster.reserved(log):
        started_here = lab and not arguments.compose and all(node.state == "dead" for node in cluster.status())
        try:
            cluster.ensure(log)
            vars(arguments).update(cluster.client_options())
            yield cluster
        finally:
            if started_here:
                log("stopping the lab that was started for this drill (to keep one: stalewatch cluster up ... --lab)")
                cluster.stop(log)


def _cluster(arguments: argparse.Namespace, *, lab: bool) -> Reachable:
    database = DATABASES[arguments.database]
    if arguments.lab and arguments.compose:
        raise BadDrill("--lab and --compose: choose one of them")
    where, name = (
        ("in Compose", database.compose_cluster)
        if arguments.compose
        else ("in a lab", database.lab_cluster)
        if lab
        else ("on this machine", database.cluster)
    )
    if name is None:
        raise BadDrill(f"{database.name} has no cluster {where} that stalewatch can break")
    return cast("Reachable", pkgutil.resolve_name(name)())


def needs_links(drill: Drill) -> bool:
    """Return whether the drill breaks links, which takes an isolated network."""
    return any(step.fault in FAULTS and FAULTS[step.fault].needs is LINKS for step in drill.steps)


def require(drill: Drill, cluster: Cluster) -> None:
    """Raise `BadDrill`, or a `ClusterError`, for a fault that does not exist or that this cluster cannot suffer."""
    for step in drill.steps:
        if step.on not in TARGETS and step.on not in cluster.nodes():
            roles, nodes = ", ".join(TARGETS), ", ".join(cluster.nodes())
            raise BadDrill(f"{drill.name}: on = {step.on!r} is no target; choose from {roles}, or a node: {nodes}")
        if step.on == "primary" and isinstance(cluster, MemoryCluster) and cluster.primary() is None:
            raise BadDrill(f"{drill.name}: this simulated store has no primary; use --topology leader")
        if step.fault not in FAULTS:
            raise BadDrill(f"{drill.name}: there is no fault {step.fault!r}; choose from {', '.join(FAULTS)}")
        try:
            FAULTS[step.fault].make(cluster, [], step.parameters)
        except BadParameter as error:
            raise BadDrill(f"{drill.name}: {step.fault}: {error}") from None


def breakable(cluster: Cluster | None, client: Client) -> Cluster:
    """Return the cluster; without one, an object that breaks the simulated store of the client."""
    if cluster is not None:
        return cluster
    assert isinstance(client, MemoryClient)  # noqa: S101 # the only database without servers
    return cast("Cluster", MemoryCluster(client))  # it has the operations that faults use


class NoTarget(ClusterError):
    """No node has the role that a fault targets at the moment."""


def _primary(cluster: Cluster) -> str:
    primary = cluster.primary()
    if primary is None:
        raise NoTarget(f"{cluster.database} has no primary at the moment, so it cannot be broken")
    return primary


def _replicas(cluster: Cluster) -> list[str]:
    """Return all nodes except the primary; without a primary, all except the first."""
    nodes = list(cluster.nodes())
    primary = cluster.primary() or nodes[0]
    return [node for node in nodes if node != primary]


def _majority(cluster: Cluster) -> list[str]:
    """Return enough nodes for a majority, including the primary if there is one."""
    nodes = list(cluster.nodes())
    primary = cluster.primary() or nodes[-1]
    others = [node for node in reversed(nodes) if node != primary]
    return [primary, *others][: len(nodes) // 2 + 1]


TARGETS: Mapping[str, Callable[[Cluster], Sequence[TargetNodes]]] = {
    "primary": lambda cluster: [[_primary(cluster)]],
    "replica": lambda cluster: [_replicas(cluster)[-1:]],
    "replicas": lambda cluster: [_replicas(cluster)],
    "majority": lambda cluster: [_majority(cluster)],
    "all": lambda cluster: [list(cluster.nodes())],
    "each": lambda cluster: [[node] for node in cluster.nodes()],
    "first": lambda cluster: [list(cluster.nodes())[:1]],
    "last": lambda cluster: [list(cluster.nodes())[-1:]],
}
"""The nodes that have each role at the moment.

The nodes of one group are broken together, several groups one after another, as in a rolling restart.
"""


def resolve_target(cluster: Cluster, on: str) -> Sequence[TargetNodes]:
    """Return the groups of nodes that have a role at the moment, or a node by its address (raises a `ClusterError`)."""
    if on in TARGETS:
        return TARGETS[on](cluster)
    if on in cluster.nodes():
        return [[on]]
    raise UnknownNode(f"no target {on}; choose from {', '.join(TARGETS)}, or a node: {', '.join(cluster.nodes())}")
