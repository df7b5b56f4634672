"""Where the nodes of a cluster are, and how a program gets there: on loopback, or in a network of their own."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from stalewatch.clusters.local import ports
from stalewatch.clusters.protocol import Progress


class Network(Protocol):
    """The network that a cluster's nodes listen in; they are known by their names."""

    def host(self, name: str) -> str:
        """Return a node's address, without a port."""
        ...

    def enter(self, name: str) -> Sequence[str]:
        """Return the words before a command line that let it run where the node is, as the same process."""
        ...

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return for every wanted port itself or another that is free, all different; the nodes share an address."""
        ...

    def is_free(self, name: str, port: int) -> bool:
        """Say whether a node could listen there now."""
        ...

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Make the network, or mend it; `clear` ends all servers: nobody reaches those of a network that is gone."""
        ...

    def remove(self, progress: Progress) -> None:
        """Remove it; no server runs there any more. Nothing where there is none."""
        ...


class Loopback(NamedTuple):
    """This machine's own addresses, which are always there; ports may be taken by other programs."""

    hosts: Mapping[str, str]

    def host(self, name: str) -> str:
        """Return the node's loopback address."""
        return self.hosts[name]

    def enter(self, name: str) -> Sequence[str]:
        """Return nothing: every program is there."""
        return ()

    def choose(self, names: Iterable[str], wanted: Sequence[int]) -> list[int]:
        """Return ports that are free; raise `PortTaken` where there are none."""
        return ports.choose(wanted, *{self.host(name) for name in names})

    def is_free(self, name: str, port: int) -> bool:
        """Say whether a node could listen there now."""
        return ports.is_free(port, self.host(name))

    def prepare(self, progress: Progress, clear: Callable[[], None]) -> None:
        """Do nothing."""

    def remove(self, progress: Progress) -> None:
        """Do nothing."""
