"""Which cluster a drill breaks: the local one, one in a network of its own, that of Compose, or a simulated store."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import parse_options
from stalewatch.clients.protocol import Client
from stalewatch.clusters.compose.clusters import CLUSTERS
from stalewatch.clusters.local_clusters import cluster
from stalewatch.clusters.protocol import Cluster, Reachable
from stalewatch.drills.plan import BadDrill, Drill
from stalewatch.drills.targets import TARGETS
from stalewatch.drills.timeline import Guard, Unguarded
from stalewatch.faults.catalogue import FAULTS, LINKS, BadParameter
from stalewatch.faults.guardian import guarded
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.cluster import MemoryCluster

Tell = Callable[[str], None]


@contextmanager
def at_hand(arguments: argparse.Namespace, drill: Drill, tell: Tell) -> Iterator[Reachable | None]:
    """Have the cluster to break whole while the block runs, its address in the arguments; None for a simulated one.

    It goes on running after the block, but for a lab that was made for it: that is taken down again. Raises a
    `ClusterError` where it cannot be had, `BadDrill` where a fault cannot be done to it, and `BadAddress` where an
    address is given: only a cluster whose servers are known here can be broken.
    """
    database = DATABASES[arguments.database]
    if not database.addresses:
        yield None
        return
    if not database.lacks_address(parse_options(database.options, arguments)):
        raise BadAddress(
            f"a drill breaks the local {arguments.database} cluster, or with --compose the one of the Compose file; "
            "it cannot break servers that it knows by their address alone: leave the address out"
        )
    if arguments.lab and arguments.compose:
        raise BadDrill("--lab and --compose: choose one of the two networks")
    found = _found(arguments, drill)
    require(drill, found)
    made_here = not arguments.compose and _is_lab(arguments, drill) and _is_down(found)
    try:
        found.ensure(tell)
        vars(arguments).update(found.client_options())
        yield found
    finally:
        if made_here:
            tell("taking down the lab that was made for this drill (keep one with: stalewatch cluster up ... --lab)")
            found.stop(tell)


def _is_lab(arguments: argparse.Namespace, drill: Drill) -> bool:
    return bool(arguments.lab) or needs_links(drill)


def _is_down(found: Reachable) -> bool:
    return all(node.state == "dead" for node in found.status())


def _found(arguments: argparse.Namespace, drill: Drill) -> Reachable:
    if arguments.compose:
        return CLUSTERS[arguments.database]()
    return cluster(arguments.database, lab=_is_lab(arguments, drill))


def needs_links(drill: Drill) -> bool:
    """Tell whether links have to be broken, which takes a network that is ours to break."""
    return any(step.fault in FAULTS and FAULTS[step.fault].needs is LINKS for step in drill.steps)


def require(drill: Drill, found: Cluster) -> None:
    """Raise `BadDrill`, or a `ClusterError`, for a fault that there is not, or that cannot be done to this cluster."""
    for step in drill.steps:
        if step.on not in TARGETS and step.on not in found.nodes():
            roles, nodes = ", ".join(TARGETS), ", ".join(found.nodes())
            raise BadDrill(f"{drill.name}: on = {step.on!r}: one of {roles}, or of the nodes {nodes}, is expected")
        if step.fault not in FAULTS:
            raise BadDrill(f"{drill.name}: there is no fault {step.fault!r}; there are {', '.join(FAULTS)}")
        try:
            FAULTS[step.fault].make(found, [], step.parameters)
        except BadParameter as error:
            raise BadDrill(f"{drill.name}: {step.fault}: {error}") from None


def breakable(found: Cluster | None, client: Client) -> Cluster:
    """Return the cluster, or what breaks the simulated store of a client."""
    if found is not None:
        return found
    assert isinstance(client, MemoryClient)  # noqa: S101 # the one without servers
    return cast("Cluster", MemoryCluster(client))  # by structure, for clients know no clusters


def guard(found: Cluster | None) -> AbstractContextManager[Guard]:
    """Return what undoes every fault of the cluster, whatever happens to this process."""
    return nullcontext(Unguarded()) if found is None else guarded(found)
