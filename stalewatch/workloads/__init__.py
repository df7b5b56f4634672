"""Workloads: what the sessions of a run do. A new workload is one row of `WORKLOADS`.

The class of a workload is imported when it is first used. Several names, separated by commas, make a mix.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from stalewatch.clients.protocol import Answer, ClientSession

Perform = Callable[[str | None, int | None], object]
"""Performs an operation on a key, or on one that the session chooses; takes the key and when it was due (ns)."""


class Session(Protocol):
    """One simulated user."""

    def step(self, due: int | None = None) -> None:
        """Perform one operation; `due` (ns) is when it should have started, in an open loop."""
        ...

    def operations(self) -> Mapping[str, Perform]:
        """Return what the session can do, by kind: ``read``, ``write``, ``append``, ``draw``."""
        ...


class Workload(Protocol):
    """What the sessions of one run do, which background tasks run with them, and how the final state is read."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys that the workload creates, uses and deletes."""
        ...

    def keys_by_kind(self) -> Mapping[str, Sequence[str]]:
        """Return the keys for each kind of operation."""
        ...

    def preload(self) -> None:
        """Create the keys, at the strongest level (raises a `stalewatch.clients.errors.ClientError`)."""
        ...

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session; `opened` is the database session to use, if the user already has one."""
        ...

    def start_background(self) -> None:
        """Start background tasks."""
        ...

    def stop_background(self) -> None:
        """Stop background tasks, if there are any."""
        ...

    def written_keys(self) -> list[str]:
        """Return the keys with an acknowledged write, in order: those that need a final read."""
        ...

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read everything that a key holds, at the level that proves loss (raises what the driver raises).

        A document may stand for several registers and lists of the history; each answer comes with the name of one.
        """
        ...

    def remove(self) -> None:
        """Delete the keys (raises a `stalewatch.clients.errors.ClientError`)."""
        ...

    def extra_results(self) -> Mapping[str, object]:
        """Return the results beyond the guarantees, after the run has ended."""
        ...


class WorkloadSpec(NamedTuple):
    """A row of the table of workloads.

    `workload` is a class as MODULE:CLASS; its arguments are a client, a recorder, the run's keys and the `LoadOptions`.
    `exact` is whether the lost writes that it counts are all there are, not just a lower bound; None if it counts none.
    `kinds` are the kinds of operations that its sessions perform.
    """

    help: str
    workload: str
    exact: bool | None = False
    kinds: tuple[str, ...] = ("read", "write")


WORKLOADS: Mapping[str, WorkloadSpec] = {
    "register": WorkloadSpec("keys that hold one value", "stalewatch.workloads.register:RegisterWorkload"),
    "causal": WorkloadSpec(
        "posts, and followups and comments that depend on them", "stalewatch.workloads.causal:CausalWorkload"
    ),
    "ledger": WorkloadSpec(
        "unique items appended to lists, so that every loss is counted",
        "stalewatch.workloads.ledger:LedgerWorkload",
        exact=True,
        kinds=("append",),
    ),
    "sequence": WorkloadSpec(
        "ids drawn from the database's own counters",
        "stalewatch.workloads.ledger:SequenceWorkload",
        exact=None,
        kinds=("draw",),
    ),
    "conflict": WorkloadSpec(
        "documents with a register, a counter, a basket and fields, edited at several leaders",
        "stalewatch.workloads.conflict:ConflictWorkload",
    ),
}

UNMIXABLE = "conflict"
"""Its documents hold a register and lists of their own, under the keys that other workloads would use."""


def workload_names(text: str) -> tuple[str, ...]:
    """Return the workloads of NAME,...; raise ValueError for an unknown name or an impossible mix."""
    names = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise ValueError(f"unknown workload {unknown[0]!r}; choose one or more of {','.join(WORKLOADS)}")
    if len(set(names)) < len(names):
        raise ValueError("names a workload twice")
    if UNMIXABLE in names and len(names) > 1:
        raise ValueError(f"{UNMIXABLE} cannot be mixed with others: its documents already hold registers and lists")
    return names


def lost_writes_exact(names: Sequence[str]) -> bool | None:
    """Return whether the lost writes that these workloads count are all there are; None if they count none."""
    known = [WORKLOADS[name].exact for name in names if WORKLOADS[name].exact is not None]
    return all(known) if known else None
