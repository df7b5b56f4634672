"""Every fault, as a row of one table: its parameters, what it requires of a cluster, how to begin it and how to end it.

A fault stores nothing between begin and end: the process that began it may be killed, and another process then ends it
with an equal object. So `end` looks at the cluster, and does nothing to nodes that are well.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from stalewatch.clusters.protocol import (
    Cluster,
    ClusterError,
    Disks,
    Hints,
    Lags,
    LinkFault,
    Links,
    Replication,
    Stalls,
    State,
    Unable,
    UnknownNode,
)

Value = float | bool | str
"""The value of a parameter, which JSON can represent."""

Parameters = Mapping[str, Value]

Action = Callable[[Any, Sequence[str], Parameters], None]
"""Begins or ends a fault of a cluster's nodes.

Raises a `ClusterError` if that fails at some node, after trying all of them.
"""

T = TypeVar("T")


class BadParameter(ValueError):
    """A parameter that a fault does not have, or an invalid value."""


class Parameter(NamedTuple):
    """A parameter of a fault; `fits` describes the valid values, and tests for them."""

    default: Value
    help: str
    fits: tuple[str, Callable[[Any], bool]] = ("", lambda _: True)

    def read(self, name: str, given: object) -> Value:
        """Return the value, parsed if it is text; raise `BadParameter` if it is invalid."""
        expected, fits = self.fits
        try:
            value = _READ[type(self.default)](given)
        except (KeyError, TypeError, ValueError):
            value = None
        if value is None or not fits(value):
            raise BadParameter(f"{name}={given}: expected {expected or f'a value like {self.default}'} ({self.help})")
        return value


_READ: Mapping[type, Callable[[Any], Value]] = {
    float: float,
    bool: lambda given: {"yes": True, "no": False, "true": True, "false": False}[str(given).lower()],
    str: str,
}


def _is_whole(number: float) -> bool:
    return number > 0 and number.is_integer()


class Requirement(NamedTuple):
    """A capability that a fault needs: its protocol, the problem of a cluster without it, and which cluster has it."""

    capability: type
    problem: str
    advice: str


LINKS = Requirement(Links, "cannot break links", "start it with --lab (needs root)")
DISKS = Requirement(Disks, "cannot lose disks", "use a local cluster")
LAGS = Requirement(Lags, "has no followers that can be made to lag", "use a replica set (mongo)")
STALLS = Requirement(Stalls, "has no followers that can be stalled", "use a replica set (mongo)")
HINTS = Requirement(Hints, "stores no hints", "use a ring (cassandra)")
REPLICATION = Requirement(Replication, "has no replication links to remove", "use CouchDB leaders (couch)")


@dataclass(frozen=True)
class PlannedFault:
    """A fault of certain nodes (HOST:PORT) of a cluster, ready to begin."""

    spec: "FaultSpec"
    cluster: Any
    nodes: Sequence[str]
    parameters: Parameters

    @property
    def name(self) -> str:
        """The fault's name in histories and metrics."""
        return self.spec.name

    def begin(self) -> None:
        """Begin the fault. Raises a `ClusterError` if that fails at some node; `end` undoes a partial fault too."""
        self.spec.begin(self.cluster, self.nodes, self.parameters)

    def end(self) -> None:
        """Undo the fault, and return when the nodes serve again; does nothing to nodes that are well.

        Raises a `ClusterError` if that fails at some node, after trying all of them.
        """
        self.spec.end(self.cluster, self.nodes, self.parameters)


class FaultSpec(NamedTuple):
    """A row of the table of faults."""

    name: str
    help: str
    begin: Action
    end: Action
    parameters: Mapping[str, Parameter] = {}
    needs: Requirement | None = None

    def make(self, cluster: Cluster, nodes: Sequence[str], parameters: Mapping[str, object]) -> PlannedFault:
        """Return this fault of a cluster's nodes, with defaults for parameters that are not given.

        Raises `Unable` if the cluster does not support it, `UnknownNode`, or `BadParameter`.
        """
        self._require(cluster, nodes)
        unknown = parameters.keys() - self.parameters.keys()
        if unknown:
            known = ", ".join(self.parameters) or "none"
            raise BadParameter(f"no parameter {', '.join(sorted(unknown))}: this fault has {known}")
        chosen = {name: one.read(name, parameters.get(name, one.default)) for name, one in self.parameters.items()}
        return PlannedFault(self, cluster, nodes, chosen)

    def _require(self, cluster: Cluster, nodes: Sequence[str]) -> None:
        if self.needs and not isinstance(cluster, self.needs.capability):
            raise Unable(f"this {cluster.database} cluster {self.needs.problem}: {self.needs.advice}")
        unknown = set(nodes) - set(cluster.nodes())
        if unknown:
            raise UnknownNode(
                f"{', '.join(sorted(unknown))}: not a node of the {cluster.database} cluster, whose nodes are "
                f"{', '.join(cluster.nodes())}"
            )


def _each(targets: Iterable[T], act: Callable[[T], None]) -> None:
    """Act on every target, even if it fails for another; then raise all errors as one."""
    errors: list[ClusterError] = []
    for target in targets:
        try:
            act(target)
        except ClusterError as error:
            errors.append(error)
    if errors:
        raise type(errors[0])("; ".join(map(str, errors))) from errors[0]


def _in_state(cluster: Cluster, nodes: Sequence[str], state: State) -> list[str]:
    return [node.address for node in cluster.status() if node.address in nodes and node.state == state]


def _nothing(cluster: object, nodes: Sequence[str], parameters: Parameters) -> None:
    del cluster, nodes, parameters


def _kill(cluster: Cluster, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, cluster.kill)


def _revive(cluster: Cluster, nodes: Sequence[str], _: Parameters) -> None:
    _each(_in_state(cluster, nodes, "dead"), cluster.restart)


def _restart(cluster: Cluster, nodes: Sequence[str], _: Parameters) -> None:
    # The first failure stops it: an upgrade that goes on after a failure takes the whole cluster down.
    for node in nodes:
        cluster.restart(node)


def _pause(cluster: Cluster, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, cluster.pause)


def _resume(cluster: Cluster, nodes: Sequence[str], _: Parameters) -> None:
    _each(_in_state(cluster, nodes, "paused"), cluster.resume)


class _LinkedCluster(Cluster, Links, Protocol):
    pass


def _isolate(cluster: _LinkedCluster, nodes: Sequence[str], parameters: Parameters) -> None:
    others = [node for node in cluster.nodes() if node not in nodes]
    _each(nodes, lambda node: cluster.cut(node, others, clients=bool(parameters["clients"])))


def _mend(fault: LinkFault) -> Action:
    return lambda cluster, nodes, _: _each(nodes, lambda node: cluster.mend(node, fault))


def _delay(cluster: Links, nodes: Sequence[str], parameters: Parameters) -> None:
    _each(nodes, lambda node: cluster.slow(node, float(parameters["each_way_s"])))


def _lose(cluster: Links, nodes: Sequence[str], parameters: Parameters) -> None:
    _each(nodes, lambda node: cluster.lose(node, float(parameters["share"])))


def _lag(cluster: Lags, nodes: Sequence[str], parameters: Parameters) -> None:
    _each(nodes, lambda node: cluster.lag(node, int(parameters["behind_s"])))


def _end_lag(cluster: Lags, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, lambda node: cluster.lag(node, 0))


def _stall(cluster: Stalls, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, lambda node: cluster.stall(node, stalled=True))


class _StallingCluster(Cluster, Stalls, Protocol):
    pass


def _end_stall(cluster: _StallingCluster, nodes: Sequence[str], _: Parameters) -> None:
    # Only at running nodes: one that was restarted applies writes again.
    _each(_in_state(cluster, nodes, "running"), lambda node: cluster.stall(node, stalled=False))


class _HintingCluster(Cluster, Hints, Protocol):
    pass


def _hints_off(cluster: _HintingCluster, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, lambda node: cluster.keep_hints(node, keep=False))


def _restore_hints(cluster: _HintingCluster, nodes: Sequence[str], _: Parameters) -> None:
    # Only at running nodes: one that is started later has the ring's setting anyway.
    _each(_in_state(cluster, nodes, "running"), lambda node: cluster.keep_hints(node, keep=None))


_SOURCE, _TARGET = 0, 1
_WAYS: Mapping[str, Sequence[int]] = {"both": (_SOURCE, _TARGET), "out": (_SOURCE,), "in": (_TARGET,)}
"""By the parameter ``way``: the ends of a link at which one of the nodes must be for the link to be removed."""


def _links_of(cluster: Replication, nodes: Sequence[str], parameters: Parameters) -> Iterator[tuple[str, str]]:
    ends = _WAYS[str(parameters["way"])]
    return (link for link in cluster.streams() if any(link[end] in nodes for end in ends))


def _unlink(cluster: Replication, nodes: Sequence[str], parameters: Parameters) -> None:
    _each(_links_of(cluster, nodes, parameters), lambda link: cluster.unlink(*link))


def _relink(cluster: Replication, nodes: Sequence[str], parameters: Parameters) -> None:
    _each(_links_of(cluster, nodes, parameters), lambda link: cluster.relink(*link))


def _wipe(cluster: Disks, nodes: Sequence[str], _: Parameters) -> None:
    _each(nodes, cluster.wipe)


_CLIENTS = Parameter(default=False, help="whether clients lose these nodes too")
_EACH_WAY_S = Parameter(0.05, "delay in each direction", ("a number above 0, up to 10", lambda s: 0 < s <= 10))  # noqa: PLR2004 # a longer delay is no link
_SHARE = Parameter(0.1, "share of packets in each direction", ("a number above 0, up to 1", lambda p: 0 < p <= 1))
_BEHIND_S = Parameter(3.0, "replication delay", ("a whole number of seconds above 0", _is_whole))
_WAY = Parameter("both", "which links of the nodes", (" or ".join(_WAYS), _WAYS.__contains__))

FAULTS: Mapping[str, FaultSpec] = {
    spec.name: spec
    for spec in (
        FaultSpec("none", "nothing: the drill without its fault", _nothing, _nothing),
        # What a node acknowledged but kept only in memory is lost; its peers see the connections close.
        FaultSpec("kill", "nodes are killed (SIGKILL), and started again", _kill, _revive),
        # As in an upgrade: each node hands over what it leads, stops, starts, and serves before the next one stops.
        FaultSpec("restart", "nodes are shut down cleanly and started, one after another", _restart, _revive),
        # As in a long garbage collection or a virtual machine's migration: connections stay open, and afterwards a
        # node believes what it believed before.
        FaultSpec("pause", "nodes freeze (SIGSTOP), and resume as if no time had passed", _pause, _resume),
        # The isolated nodes still reach each other, and clients reach both sides unless `clients` is set.
        FaultSpec(
            "isolate",
            "nodes are cut off from the others: a network partition",
            _isolate,
            _mend("cut"),
            {"clients": _CLIENTS},
            LINKS,
        ),
        # A round trip takes twice the parameter longer, for other nodes and clients alike.
        FaultSpec(
            "delay",
            "all traffic to and from nodes is delayed",
            _delay,
            _mend("slow"),
            {"each_way_s": _EACH_WAY_S},
            LINKS,
        ),
        # As with a bad cable or a full queue. TCP retransmits lost packets after longer and longer pauses.
        FaultSpec(
            "loss",
            "a share of all packets to and from nodes is dropped",
            _lose,
            _mend("lose"),
            {"share": _SHARE},
            LINKS,
        ),
        # A lagging follower is not elected, and drivers do not read from it: its peers do not list a delayed member.
        FaultSpec("lag", "followers apply all writes late", _lag, _end_lag, {"behind_s": _BEHIND_S}, LAGS),
        # Drivers still read from a stalled follower, which falls behind more and more.
        FaultSpec("stall", "followers apply no writes, and still answer reads", _stall, _end_stall, needs=STALLS),
        # What a node misses while it is down then stays missing until a read or a repair fixes it.
        FaultSpec("hints", "nodes store no hints of what another node missed", _hints_off, _restore_hints, needs=HINTS),
        # Clients still reach both leaders.
        FaultSpec(
            "link",
            "leaders do not send their changes to each other",
            _unlink,
            _relink,
            {"way": _WAY},
            REPLICATION,
        ),
        # What only these nodes stored is lost for good; the other nodes fill them again.
        FaultSpec("wipe", "nodes are killed, lose their disks, and are started empty", _wipe, _revive, needs=DISKS),
    )
}
"""Every fault by its name in drills, histories and metrics."""
