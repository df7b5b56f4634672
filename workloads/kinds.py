"""Every workload: what a run's sessions do. A new one is one row.

A workload's module is loaded only where it is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from clients.protocol import Answer, Client

if TYPE_CHECKING:  # they know the options, which know this table
    from workloads.options import LoadOptions
    from workloads.recorder import Recorder


class Session(Protocol):
    """One simulated user."""

    def step(self, due: int | None = None) -> None:
        """Do one operation; `due` (ns) is when it should have started, in an open loop."""
        ...


class Workload(Protocol):
    """What the sessions of one run do, what goes on beside them, and how it is looked at in the end."""

    def session(self, name: str) -> Session:
        """Open a session."""
        ...

    def start(self) -> None:
        """Begin what goes on beside the sessions."""
        ...

    def stop(self) -> None:
        """End what goes on beside the sessions; nothing where nothing does."""
        ...

    def written_keys(self) -> list[str]:
        """Return the keys with an acknowledged write, in order: those that final reads are made of."""
        ...

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read all that a key holds, at the level that proves loss (raises what the driver raises).

        One document may be several registers and lists of the history: the answers come by their names.
        """
        ...

    def result(self) -> Mapping[str, object]:
        """Return what the workload knows beyond the guarantees, once the run is over."""
        ...


class Kind(NamedTuple):
    """A row: what it is, and what makes it of a client, a recorder, the run's keys and the options."""

    help: str
    make: "Callable[[Client, Recorder, Sequence[str], LoadOptions], Workload]"


def _register(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from workloads.register import RegisterWorkload  # noqa: PLC0415

    return RegisterWorkload(client, recorder, keys, options)


def _conflict(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from workloads.conflict import ConflictWorkload  # noqa: PLC0415

    return ConflictWorkload(client, recorder, keys, options)


WORKLOADS: Mapping[str, Kind] = {
    "register": Kind("keys that hold one value", _register),
    "conflict": Kind("documents with a register, a counter, a basket and fields, edited at several leaders", _conflict),
}
