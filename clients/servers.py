"""What a database's servers say of themselves: who leads, who is there, and how far each is behind."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class NodeState(NamedTuple):
    """One server: its address HOST:PORT, whether it takes the writes and is in service, and how far it is behind.

    `lag_s` is by how many seconds its newest write is older than the newest of all servers; None where nobody knows,
    as of a server that is down.
    """

    node: str
    primary: bool
    healthy: bool
    lag_s: float | None


class Servers(Protocol):
    """A database's servers, asked beside the load, by one process for all."""

    def look(self) -> Sequence[NodeState]:
        """Return the state of every server; raise `Silent` where none answers, `Unreachable` where none ever will."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class Claims(Protocol):
    """Which of a database's servers say that they lead, each asked for itself; used by one thread a server."""

    @property
    def nodes(self) -> Sequence[str]:
        """The servers, each HOST:PORT."""
        ...

    def ask(self, node: str) -> int | None:
        """Return the term in which it says that it leads, None where it says that it does not.

        Raises `Silent` where it says nothing. One that surely does not run does not lead.
        """
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class Silent(Exception):
    """No server answered this time."""
