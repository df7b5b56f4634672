"""Every workload: what a run's sessions do. A new one is one row.

A workload's module is loaded only where it is asked for. Several names with commas between them are a mix.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stalewatch.clients.protocol import Answer, Client, ClientSession

if TYPE_CHECKING:  # they know the options, which know this table
    from stalewatch.recording.recorder import Recorder
    from stalewatch.workloads.options import LoadOptions


class Session(Protocol):
    """One simulated user."""

    def step(self, due: int | None = None) -> None:
        """Do one operation; `due` (ns) is when it should have started, in an open loop."""
        ...


class Workload(Protocol):
    """What the sessions of one run do, what goes on beside them, and how it is looked at in the end."""

    @property
    def keys(self) -> Sequence[str]:
        """What it creates, uses and deletes."""
        ...

    def preload(self) -> None:
        """Create the keys, at the strongest level (raises a `stalewatch.clients.errors.ClientError`)."""
        ...

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session; `opened` is the database's, where the same user does something else beside it."""
        ...

    def start_background(self) -> None:
        """Begin what goes on beside the sessions."""
        ...

    def stop_background(self) -> None:
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

    def remove(self) -> None:
        """Delete the keys (raises a `stalewatch.clients.errors.ClientError`)."""
        ...

    def extra_results(self) -> Mapping[str, object]:
        """Return what the workload knows beyond the guarantees, once the run is over."""
        ...


class Kind(NamedTuple):
    """A row: what it is, and what makes it of a client, a recorder, the run's keys and the options.

    `exact` says whether the lost writes that it counts are all that there are, or a lower bound; None where it has
    none to lose.
    """

    help: str
    make: "Callable[[Client, Recorder, Sequence[str], LoadOptions], Workload]"
    exact: bool | None = False


def _register(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from stalewatch.workloads.register import RegisterWorkload  # noqa: PLC0415

    return RegisterWorkload(client, recorder, keys, options)


def _conflict(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from stalewatch.workloads.conflict import ConflictWorkload  # noqa: PLC0415

    return ConflictWorkload(client, recorder, keys, options)


def _ledger(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from stalewatch.workloads.ledger import LedgerWorkload  # noqa: PLC0415

    return LedgerWorkload(client, recorder, keys, options)


def _sequence(client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    from stalewatch.workloads.sequence import SequenceWorkload  # noqa: PLC0415

    return SequenceWorkload(client, recorder, keys, options)


WORKLOADS: Mapping[str, Kind] = {
    "register": Kind("keys that hold one value", _register),
    "ledger": Kind("unique items appended to lists, of which each loss is counted", _ledger, exact=True),
    "sequence": Kind("ids drawn from the database's own counters", _sequence, exact=None),
    "conflict": Kind("documents with a register, a counter, a basket and fields, edited at several leaders", _conflict),
}

ALONE = "conflict"
"""Its documents hold a register and lists themselves, under the keys that others would use."""


def names(text: str) -> tuple[str, ...]:
    """Return the workloads of NAME,...; raise ValueError for a name that is none, or a mix that cannot be."""
    found = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in found if name not in WORKLOADS]:
        raise ValueError(f"no workload {unknown[0]!r}; there are {', '.join(WORKLOADS)}, several with commas between")
    if len(set(found)) < len(found):
        raise ValueError("names a workload twice")
    if ALONE in found and len(found) > 1:
        raise ValueError(f"{ALONE} cannot be mixed with others: its documents hold registers and lists already")
    return found


def make(text: str, client: Client, recorder: "Recorder", keys: Sequence[str], options: "LoadOptions") -> Workload:
    """Return the workload of that name, or the mix of those names (raises `stalewatch.clients.errors.BadAddress`)."""
    workloads = [WORKLOADS[name].make(client, recorder, keys, options) for name in names(text)]
    if len(workloads) == 1:
        return workloads[0]
    from stalewatch.workloads.mix import Mix  # noqa: PLC0415

    return Mix(workloads, client, options)


def exact(workloads: Sequence[str]) -> bool | None:
    """Tell whether the lost writes that these workloads count are all that there are; None where they have none."""
    known = [WORKLOADS[name].exact for name in workloads if WORKLOADS[name].exact is not None]
    return all(known) if known else None
