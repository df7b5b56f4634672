"""What a cluster is to those who start it, break it and measure it, and the errors of doing so.

A node is named by its address, HOST:PORT, as in the histories: what an operation says it was answered by can be
killed as it stands there. Cutting and delaying links need more rights than these, and so are a protocol of their own.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

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


class Links(Protocol):
    """A cluster whose links can be cut, slowed and made to lose: in a network of its own, with the right to change it.

    What is done to a node's links adds up until `mend` undoes all of it; every method may raise a `ClusterError`.
    """

    def cut(self, node: str, others: Sequence[str], *, clients: bool = False) -> None:
        """Let nothing pass between a node and others, both ways; with `clients` nor between it and anybody else."""
        ...

    def slow(self, node: str, delay_s: float) -> None:
        """Hold back all that goes to and from a node by `delay_s` seconds each way."""
        ...

    def lose(self, node: str, share: float) -> None:
        """Drop a share of what goes to and from a node, chosen at random."""
        ...

    def mend(self, node: str) -> None:
        """Undo all that was done to a node's links; nothing where nothing was."""
        ...


class Disks(Protocol):
    """A cluster whose nodes can lose their disks."""

    def wipe(self, node: str) -> None:
        """End a node at once and delete what it stored; `Cluster.restart` then brings it back with nothing."""
        ...
