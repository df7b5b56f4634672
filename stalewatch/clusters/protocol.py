"""What a cluster is to those who start it, break it and measure it, and the errors of doing so.

A node is named by its address, HOST:PORT, as in the histories: what an operation says it was answered by can be
killed as it stands there. What not every cluster can do to its nodes is a small protocol of its own each: `isinstance`
says whether one can.
"""

import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

State = Literal["running", "paused", "dead"]

Progress = Callable[[str], None]
"""Takes one line for each step of what may last longer than a moment."""


class ClusterError(Exception):
    """What went wrong, at which node, and what to do next."""


class MissingProgram(ClusterError):
    """The database's program is not on this machine, or cannot be run here."""


class MissingPackage(ClusterError):
    """A Python package that only local clusters need is not installed."""


class MissingLibrary(ClusterError):
    """The program is there, a system library that it needs is not."""


class PortTaken(ClusterError):
    """Another program listens where a node wants to."""


class NoMemory(ClusterError):
    """The machine has too little memory left for the servers."""


class DiskFull(ClusterError):
    """There is no room for the data."""


class Unwritable(ClusterError):
    """The folder of the clusters cannot be written to."""


class ServerDied(ClusterError):
    """A server ended by itself; the message has its last words and where the rest of its log is."""


class NotReady(ClusterError):
    """The servers run, but the cluster did not come together in time."""


class NotRunning(ClusterError):
    """What was asked for needs a server that runs."""


class Busy(ClusterError):
    """Another command holds the cluster's lock and does not let go."""


class UnknownNode(ClusterError):
    """No node of this cluster has that address."""


class NotAllowed(ClusterError):
    """What was asked for needs rights that this process does not have."""


class Unable(ClusterError):
    """This cluster cannot do what was asked for; the message says which can."""


class NodeStatus(NamedTuple):
    """One node as seen from outside (its process) and from inside (what it and the primary say).

    `role` is the database's own word (None where nothing answers), `healthy` that it serves and the others see it,
    `lag_s` by how many seconds it trails the primary (None where nobody can say), `note` what else a measurement that
    uses the node should know.
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
    """How another process makes an object of the same cluster: a class as MODULE:NAME, and its arguments as JSON."""

    maker: str
    arguments: Mapping[str, Any]

    def make(self) -> "Cluster":
        """Return an object of the cluster."""
        cluster: Cluster = pkgutil.resolve_name(self.maker)(**self.arguments)
        return cluster


class Cluster(Protocol):
    """The nodes of one database. Every method may raise a `ClusterError`."""

    database: str
    """``mongo``, ``cassandra`` or ``couch``."""

    def start(self, progress: Progress) -> None:
        """Bring every node up and wait until they serve; mends whatever state an earlier start or fault left."""
        ...

    def stop(self, progress: Progress, *, wipe: bool = False) -> None:
        """End every node, and with `wipe` delete what they stored."""
        ...

    def status(self) -> Sequence[NodeStatus]:
        """Say how every node is; never waits longer than a few seconds."""
        ...

    def uri(self) -> str:
        """Return what a client connects to."""
        ...

    def recipe(self) -> Recipe:
        """Say how another process makes an object of this cluster."""
        ...

    def nodes(self) -> Sequence[str]:
        """Return every node's address."""
        ...

    def primary(self) -> str | None:
        """Return the address of the node that takes the writes; None when there is none just now, or never one."""
        ...

    def kill(self, node: str) -> None:
        """End a node at once (SIGKILL), and return when it has ended; a dead one stays so."""
        ...

    def restart(self, node: str) -> None:
        """Start a dead node, or end a living one in good order and start it; return when it serves again."""
        ...

    def pause(self, node: str) -> None:
        """Freeze a node (SIGSTOP): its connections stay open and nothing answers."""
        ...

    def resume(self, node: str) -> None:
        """Let a frozen node go on as if no time had passed."""
        ...


LinkTrouble = Literal["cut", "slow", "lose"]
"""What can be done to a node's links, by the method that does it."""


class Reachable(Cluster, Protocol):
    """A cluster that clients are led to, whole: what a drill breaks."""

    def ensure(self, progress: Progress) -> None:
        """Start the cluster, or mend it, when it is not whole."""
        ...

    def client_options(self) -> Mapping[str, str]:
        """Return what leads a client here, by the names of its options as argparse makes them of the flags."""
        ...


@runtime_checkable
class Links(Protocol):
    """A cluster whose links can be cut, slowed and made to lose: in a network of its own, with the right to change it.

    What is done to a node's links adds up until `mend` undoes it, but for a delay, which takes the place of an earlier
    one. Every method may raise a `ClusterError`.
    """

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Let nothing pass between a node and other nodes, both ways; with `clients` nor between it and any client."""
        ...

    def slow(self, node: str, delay_s: float) -> None:
        """Hold back all that goes to and from a node by `delay_s` seconds each way."""
        ...

    def lose(self, node: str, share: float) -> None:
        """Drop a share of what goes to and from a node, chosen at random."""
        ...

    def mend(self, node: str, *troubles: LinkTrouble) -> None:
        """Undo what was done to a node's links: the troubles that are named, or all; nothing where nothing was."""
        ...


@runtime_checkable
class Disks(Protocol):
    """A cluster whose nodes can lose their disks."""

    def wipe(self, node: str) -> None:
        """End a node at once and delete what it stored; `Cluster.restart` then brings it back with nothing."""
        ...


@runtime_checkable
class Lags(Protocol):
    """A cluster whose followers can be made to apply everything late."""

    def lag(self, node: str, delay_s: int) -> None:
        """Make a follower apply everything `delay_s` seconds late; 0: no longer."""
        ...


@runtime_checkable
class Hints(Protocol):
    """A cluster whose nodes keep what another one missed, and hand it over when that one is back."""

    def keep_hints(self, node: str, *, keep: bool | None) -> None:
        """Let a node keep what others miss from now on, or not; None: as the cluster was started with."""
        ...


@runtime_checkable
class Replication(Protocol):
    """A cluster whose nodes send each other changes over replication links, each of which can be taken down."""

    def streams(self) -> Collection[tuple[str, str]]:
        """Return every link that there should be: the address that sends, and the one that is sent to."""
        ...

    def unlink(self, source: str, target: str) -> None:
        """Let the changes of one node reach another no longer on the direct way."""
        ...

    def relink(self, source: str, target: str) -> None:
        """Undo `unlink`; nothing where the link is there."""
        ...
