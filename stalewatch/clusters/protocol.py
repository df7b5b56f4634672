"""The cluster interface that commands, faults and drills use, and the errors it raises.

A node is identified by its address, HOST:PORT, as in histories: the address of the node that answered an operation can
be passed to `kill` as it is. Capabilities that only some clusters have are separate protocols, to be tested for with
`isinstance`.
"""

import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

State = Literal["running", "paused", "dead"]

Progress = Callable[[str], None]
"""Called with one line for each step of an operation that may take a while."""


class ClusterError(Exception):
    """A failed operation on a cluster; the message says what failed, at which node, and what to do next."""


class MissingProgram(ClusterError):
    """A required program is not installed, or does not run on this machine."""


class MissingPackage(ClusterError):
    """A Python package that only local clusters need is not installed."""


class MissingLibrary(ClusterError):
    """A system library that an installed program needs is missing."""


class PortTaken(ClusterError):
    """Another program listens on a node's port."""


class NoMemory(ClusterError):
    """Not enough free memory for the servers."""


class DiskFull(ClusterError):
    """Not enough free disk space for the data."""


class Unwritable(ClusterError):
    """The clusters' folder is not writable."""


class ServerDied(ClusterError):
    """A server exited by itself; the message quotes the end of its log."""


class NotReady(ClusterError):
    """The servers run, but the cluster was not ready in time."""


class NotRunning(ClusterError):
    """The operation needs a running server."""


class Busy(ClusterError):
    """Another command holds the cluster's lock."""


class UnknownNode(ClusterError):
    """No node of this cluster has that address."""


class NotAllowed(ClusterError):
    """This process lacks the required privileges."""


class Unable(ClusterError):
    """This cluster does not support the operation; the message names one that does."""


class NodeStatus(NamedTuple):
    """The state of one node's process, and its role as reported by the database.

    `role` is the database's own term (None if the node does not answer). `healthy` means that the node serves clients
    and the other nodes see it. `lag_s` is its lag behind the primary (None if unknown). `note` is anything else that
    affects measurements at this node.
    """

    name: str
    address: str
    pid: int | None
    state: State
    role: str | None = None
    healthy: bool = False
    lag_s: float | None = None
    note: str = ""


class Recipe(NamedTuple):
    """Instructions for another process to create the same cluster object: a MODULE:CLASS, and its JSON arguments."""

    maker: str
    arguments: Mapping[str, Any]

    def make(self) -> "Cluster":
        """Create the cluster object."""
        cluster: Cluster = pkgutil.resolve_name(self.maker)(**self.arguments)
        return cluster


class Cluster(Protocol):
    """The nodes of one database. Every method may raise a `ClusterError`."""

    database: str
    """``mongo``, ``cassandra`` or ``couch``."""

    def start(self, progress: Progress) -> None:
        """Start every node and wait until all serve; repairs whatever an interrupted start or a fault left behind."""
        ...

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """Stop every node; with `wipe` also delete the data."""
        ...

    def status(self) -> Sequence[NodeStatus]:
        """Return the status of every node; never takes longer than a few seconds."""
        ...

    def uri(self) -> str:
        """Return the address that clients connect to."""
        ...

    def recipe(self) -> Recipe:
        """Return instructions for another process to create the same cluster object."""
        ...

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        ...

    def primary(self) -> str | None:
        """Return the primary's address; None if there is none now, or if the database has no primaries."""
        ...

    def kill(self, node: str) -> None:
        """Kill a node (SIGKILL) and wait until its process is gone; does nothing if it is dead."""
        ...

    def restart(self, node: str) -> None:
        """Start a dead node, or shut a running one down cleanly and start it; return when it serves again."""
        ...

    def pause(self, node: str) -> None:
        """Freeze a node (SIGSTOP): its connections stay open, and nothing answers."""
        ...

    def resume(self, node: str) -> None:
        """Resume a frozen node (SIGCONT)."""
        ...


class Reachable(Cluster, Protocol):
    """A cluster that can configure a client to connect to it, and be reserved for one drill."""

    def reserved(self, progress: Progress) -> AbstractContextManager[None]:
        """Reserve the cluster for this object during a block; raise `Busy` if another command has reserved it."""
        ...

    def ensure(self, progress: Progress) -> None:
        """Start or repair the cluster unless every node is healthy."""
        ...

    def client_options(self) -> Mapping[str, str]:
        """Return the client options that connect to this cluster, by argparse name."""
        ...


LinkFault = Literal["cut", "slow", "lose"]
"""A link fault, named after the method of `Links` that injects it."""


@runtime_checkable
class Links(Protocol):
    """A cluster whose network links can be cut, delayed and made lossy; needs a network that this process controls.

    Faults of a node's links add up until `mend`, except that a new delay replaces the previous one. Every method may
    raise a `ClusterError`.
    """

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Block traffic between a node and other nodes, both ways; with `clients` also between it and all clients."""
        ...

    def slow(self, node: str, delay_s: float) -> None:
        """Delay traffic to and from a node by `delay_s` seconds each way."""
        ...

    def lose(self, node: str, share: float) -> None:
        """Drop a random share of the packets to and from a node."""
        ...

    def mend(self, node: str, *faults: LinkFault) -> None:
        """Remove the given faults from a node's links, by default all; does nothing if there are none."""
        ...


@runtime_checkable
class Disks(Protocol):
    """A cluster whose nodes can lose their disks."""

    def wipe(self, node: str) -> None:
        """Kill a node and delete its data; `Cluster.restart` then starts it empty."""
        ...


@runtime_checkable
class Lags(Protocol):
    """A cluster whose followers can be made to apply writes late."""

    def lag(self, node: str, delay_s: int) -> None:
        """Make a follower apply everything `delay_s` seconds late; 0 turns the delay off."""
        ...


@runtime_checkable
class Stalls(Protocol):
    """A cluster whose followers can stop applying writes while they still answer reads."""

    def stall(self, node: str, *, stalled: bool) -> None:
        """Make a follower stop applying writes, or go on."""
        ...


@runtime_checkable
class Hints(Protocol):
    """A cluster whose nodes store hints: writes that another node missed, to be delivered when it is back."""

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Turn a node's hints on or off; None restores the setting that the cluster was started with."""
        ...


@runtime_checkable
class Replication(Protocol):
    """A cluster whose nodes replicate over individual links, each of which can be removed."""

    def streams(self) -> Collection[tuple[str, str]]:
        """Return every configured link as (source, target) addresses."""
        ...

    def unlink(self, source: str, target: str) -> None:
        """Stop direct replication from one node to another."""
        ...

    def relink(self, source: str, target: str) -> None:
        """Undo `unlink`; does nothing if the link exists."""
        ...
