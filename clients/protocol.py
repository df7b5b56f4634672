"""What stalewatch asks of a database: a `Client` a process, which opens a `ClientSession` a simulated user.

A new database starts with `ClientSession.read` and `write`, and `Client.session`, `preload` and `final`. A session
raises whatever its driver raises; the client's error table (`stalewatch.clients.errors`) then says whether the operation was
certainly not applied (``fail``) or may have been (``unknown``). One that knows the node answers so itself.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from stalewatch.clients.errors import Failure
from stalewatch.clients.options import Option, options_of
from stalewatch.history.clock import Clock, RealClock
from stalewatch.history.operation import Depends, Outcome, Struct


class Value(Struct, frozen=True, gc=False):
    """What a write stores: the version, who wrote it, what its author had seen before, and padding.

    `start_ns` is when the write began, taken in one step with the version, for databases whose writes carry a time.
    """

    version: int
    author: str
    depends: Depends | None = None
    payload: str = ""
    start_ns: int = 0


class Answer(Struct, frozen=True, gc=False):
    """What the database said of one operation.

    `version` and `siblings` are what a read showed (0 for no value), or `version` is the id that was drawn;
    `superseded` says that a write met an equal or newer version; `node` is the server that answered, as HOST:PORT.
    """

    outcome: Outcome = "ok"
    version: int | None = None
    node: str | None = None
    siblings: list[int] | None = None
    depends: Depends | None = None
    superseded: bool = False
    error: str | None = None
    items: list[str | int] | None = None


class ClientSession(Protocol):
    """One simulated user's view of the database; used by one thread at a time."""

    def read(self, key: str) -> Answer:
        """Read a register as the read options say."""
        ...

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; never undo a newer one."""
        ...


class Levels(NamedTuple):
    """At which levels a client writes and reads, in a word or two each, such as ``w=1`` and ``secondary``."""

    write: str
    read: str


Body = dict[str, Any]
"""A document's content, as JSON; ``v`` is the version of its register."""


@runtime_checkable
class DocumentSession(ClientSession, Protocol):
    """A session that can edit whole documents: the extra power that the conflict workload needs."""

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace a document by what `change` makes of it, begun anew when another edit came first.

        None from `change` means that nothing is to be done (the answer is superseded).
        """
        ...


Resolved = Literal["merged", "single", "disturbed"]
"""What became of a key: its leaves were merged, there was one alone, or somebody intervened: it must be tried again."""


class Resolver(Protocol):
    """Access to the conflicts that one leader knows; used by one thread."""

    def suspects(self) -> Iterable[str]:
        """Return the keys with changes since the last call that may have siblings, other runs' keys too."""
        ...

    def resolve(self, key: str, merge: Callable[[Sequence[Body]], Body]) -> Resolved:
        """Replace all leaves of a key by one that holds what `merge` makes of them."""
        ...

    def close(self) -> None:
        """Drop the connection."""
        ...


@runtime_checkable
class Siblings(Protocol):
    """A client of a database with several leaders that keeps concurrent versions side by side."""

    def resolvers(self) -> Sequence[Resolver]:
        """Open a resolver a leader."""
        ...

    def leaves(self, key: str) -> Sequence[Body] | None:
        """Return all that the leaders hold of a key, the winner first; None while they do not agree."""
        ...


@runtime_checkable
class LedgerSession(ClientSession, Protocol):
    """A session that can append to lists."""

    def append(self, key: str, item: str) -> Answer:
        """Append an item, which nobody else appends, to a list; sent once."""
        ...


@runtime_checkable
class Ledger(Protocol):
    """A client of a database that keeps lists of unique items; its sessions are `LedgerSession`."""

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, at the strongest level; a key that exists is an error."""
        ...

    def final_items(self, key: str) -> Answer:
        """Read all the items of a list, at the level that proves loss (raises what the driver raises)."""
        ...

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete the run's own lists, with all their items."""
        ...


@runtime_checkable
class DrawingSession(ClientSession, Protocol):
    """A session that can draw ids."""

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter; it is the answer's `version`."""
        ...


@runtime_checkable
class Counters(Protocol):
    """A client of a database that counts: its sessions are `DrawingSession`."""

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, at the strongest level; a key that exists is an error."""
        ...

    def remove_counters(self, keys: Sequence[str]) -> None:
        """Delete the run's own counters."""
        ...


class Client(Protocol):
    """One process's access to one database: connections, schema, preload, final reads, cleaning up."""

    database: str
    """``mongo``, ``cassandra``, ``couch`` or ``memory``."""

    clock: Clock
    """Where the times of this client's operations come from."""

    def prepare(self) -> None:
        """Connect and create what is missing, or raise a `stalewatch.clients.errors.ClientError`."""
        ...

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, at the strongest level; a key that exists is an error."""
        ...

    def session(self, name: str) -> ClientSession:
        """Open a session."""
        ...

    def final(self, key: str) -> Answer:
        """Read all that the key holds, at the level that proves loss (raises what the driver raises)."""
        ...

    def explain(self, error: BaseException) -> Failure:
        """Say what an exception means for the operation that it ended."""
        ...

    def settings(self) -> dict[str, object]:
        """Return the levels and driver settings in force, without credentials, for reports."""
        ...

    def levels(self) -> Levels:
        """Return the levels in force, to name operations by."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Delete the run's own keys."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class NodeState(NamedTuple):
    """One server: its address HOST:PORT, whether it accepts writes, whether it is in service, and its lag.

    `lag_s` is by how many seconds its newest write is older than the newest of all servers; None if unknown, as for a
    server that is down.
    """

    node: str
    primary: bool
    healthy: bool
    lag_s: float | None


class Servers(Protocol):
    """A database's servers, polled beside the load by one process for all."""

    def look(self) -> Sequence[NodeState]:
        """Return the state of every server; raise `NoServerAnswers`, or `Unreachable` if none ever will."""
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class PrimaryClaims(Protocol):
    """Which servers claim to be the leader, each asked for itself; used by one thread a server."""

    @property
    def nodes(self) -> Sequence[str]:
        """The servers, each HOST:PORT."""
        ...

    def ask(self, node: str) -> int | None:
        """Return the term in which the server claims to lead, None if it does not; raise `NoServerAnswers`.

        A server that is certainly not running does not lead.
        """
        ...

    def close(self) -> None:
        """Drop the connections."""
        ...


class NoServerAnswers(Exception):
    """No server answered this time."""


class Database(NamedTuple):
    """One row of the table of databases.

    `options` is a dataclass of `stalewatch.clients.options.option` fields; `open` takes an instance, the largest number
    of sessions at a time, the seed and the clock. `addresses` names the fields that say where the servers are; if none
    of them is set, the local cluster is meant. `clock` makes the clock of a run in one process. `servers` and `claims`
    open what polls the servers; `claims` is for databases that have one leader at a time. `cluster`, `lab_cluster` and
    `compose_cluster` name classes as MODULE:CLASS.
    """

    name: str
    label: str
    help: str
    options: type
    open: Callable[[Any, int, int, Clock], Client]
    addresses: tuple[str, ...] = ()
    default_port: int | None = None
    clock: Callable[[], Clock] = RealClock
    servers: Callable[[Any], Servers] | None = None
    claims: Callable[[Any], PrimaryClaims] | None = None
    cluster: str | None = None
    lab_cluster: str | None = None
    compose_cluster: str | None = None

    def lacks_address(self, options: object) -> bool:
        """Return whether nothing says where the servers are."""
        return bool(self.addresses) and all(getattr(options, field) is None for field in self.addresses)

    def flags(self) -> tuple[Option, ...]:
        """Return the options of the command line."""
        return options_of(self.options)
