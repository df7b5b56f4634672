"""The interfaces of a database: one `Client` per process, which opens one `ClientSession` per simulated user.

A new database starts with `ClientSession.read` and `write`, and `Client.session`, `preload` and `final`; lists,
counters, siblings, servers and primary claims are optional. A session raises what its driver raises; the client's error
table (`stalewatch.clients.errors`) then decides whether the operation was certainly not applied (``fail``) or may have
been (``unknown``). A session that knows which node failed returns an `Answer` with the error instead.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from stalewatch.clients.errors import Failure
from stalewatch.clients.options import Option, options_of
from stalewatch.history.clock import Clock, RealClock
from stalewatch.history.operation import Depends, Outcome, Struct


class Value(Struct, frozen=True, gc=False):
    """The value that a write stores: the version, its author, what the author had seen before, and padding.

    `start_ns` is the start of the write, read from the clock together with the version, for databases whose writes
    carry a timestamp.
    """

    version: int
    author: str
    depends: Depends | None = None
    payload: str = ""
    start_ns: int = 0


class Answer(Struct, frozen=True, gc=False):
    """The database's answer to one operation.

    `version` and `siblings` are what a read returned (version 0 if there is no value), or `version` is the id that was
    drawn. `superseded` means that a write found an equal or newer version. `node` is the server that answered, as
    HOST:PORT. `fell_back` is whether a read strategy took its stronger source; None for reads without a strategy.
    `beside` are the versions of the other registers of a document, as the same answer showed them (see `Composite`).
    """

    outcome: Outcome = "ok"
    version: int | None = None
    node: str | None = None
    siblings: list[int] | None = None
    depends: Depends | None = None
    superseded: bool = False
    error: str | None = None
    items: list[str | int] | None = None
    fell_back: bool | None = None
    beside: Mapping[str, int] | None = None


class ClientSession(Protocol):
    """One simulated user's access to the database; used by one thread at a time."""

    def read(self, key: str) -> Answer:
        """Read a register at the read options' level."""

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version; never undo a newer one."""


class RecordedTimes(Protocol):
    """Receives the times of a session's operations, as recorded.

    A client that reads the clock itself sees a write end before its recorded end, and a read start after its recorded
    start: a time since a write would seem longer than in the history.
    """

    def read_starts(self, start: int) -> None:
        """Take note that the read that follows has started at this time (ns)."""

    def write_ended(self, key: str, end: int) -> None:
        """Take note that the last write of the session has ended at this time (ns)."""


@runtime_checkable
class Timed(Protocol):
    """A session some of whose reads depend on the time since its writes; `times` is None if none do."""

    @property
    def times(self) -> RecordedTimes | None:
        """Whom to tell the recorded times."""


class Levels(NamedTuple):
    """The levels at which a client writes and reads, in a word or two each, such as ``w=1`` and ``secondary``."""

    write: str
    read: str


Body = dict[str, Any]
"""A document's content, as JSON; ``v`` is the version of its register."""


@runtime_checkable
class DocumentSession(ClientSession, Protocol):
    """A session that can edit whole documents, as the conflict workload needs."""

    def edit(self, key: str, change: Callable[[Body], Body | None]) -> Answer:
        """Replace a document by the result of `change`, starting over if another edit came first.

        If `change` returns None there is nothing to do, and the answer is superseded.
        """


Resolved = Literal["merged", "single", "disturbed"]
"""The result of resolving a key: its leaves were merged, it had one leaf, or another writer interfered (try again)."""


class Resolver(Protocol):
    """Access to the conflicts that one leader knows of; used by one thread."""

    def suspects(self) -> Iterable[str]:
        """Return the keys changed since the last call that may have siblings, including keys of other runs."""

    def resolve(self, key: str, merge: Callable[[Sequence[Body]], Body]) -> Resolved:
        """Replace all leaves of a key by one that holds the result of `merge`."""

    def close(self) -> None:
        """Close the connection."""


@runtime_checkable
class Siblings(Protocol):
    """A client of a database with several leaders that keeps concurrent versions as siblings."""

    def resolvers(self) -> Sequence[Resolver]:
        """Open one resolver per leader."""

    def leaves(self, key: str) -> Sequence[Body] | None:
        """Return all leaves of a key, the winner first; None while the leaders differ."""


DOCUMENT_SEPARATOR = "#"


@runtime_checkable
class Composite(Protocol):
    """A client that can keep several registers in one document or partition, under keys DOCUMENT#REGISTER.

    Sessions read and write them like others; a read returns the versions of all registers, in one request to one node.
    """

    def create_documents(self, documents: Sequence[str], registers: Sequence[str], payload: str) -> None:
        """Create documents of registers at version 0, as `Client.preload` creates keys; raise `ClientError`."""

    def remove_documents(self, documents: Sequence[str], registers: Sequence[str]) -> None:
        """Delete the run's own documents; one that does not exist is no error."""


@runtime_checkable
class LedgerSession(ClientSession, Protocol):
    """A session that can append to lists."""

    def append(self, key: str, item: str) -> Answer:
        """Append an item, which nobody else appends, to a list; send it once."""


@runtime_checkable
class Ledger(Protocol):
    """A client of a database that keeps lists of unique items; its sessions are `LedgerSession`."""

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create empty lists, at the strongest level; raise `ClientError` for a key that exists."""

    def final_items(self, key: str) -> Answer:
        """Read all the items of a list, at the level that proves loss; raise what the driver raises."""

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete the run's own lists, with all their items."""


@runtime_checkable
class DrawingSession(ClientSession, Protocol):
    """A session that can draw ids."""

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter; it is the answer's `version`."""


@runtime_checkable
class Counters(Protocol):
    """A client of a database with counters; its sessions are `DrawingSession`."""

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, at the strongest level; raise `ClientError` for a key that exists."""

    def remove_counters(self, keys: Sequence[str]) -> None:
        """Delete the run's own counters."""


@runtime_checkable
class Leaving(Protocol):
    """A client whose set-up outlives the run, such as replication between servers."""

    def leave(self) -> Sequence[str]:
        """Remove the set-up if so chosen, once the run's keys are deleted; return lines about what stays.

        Raises `ClientError`. One process of a run calls it, whether or not it has prepared anything.
        """


class PausedReplication(NamedTuple):
    """Replication that does not run now: what a server says about it, and in how many seconds it tries again.

    `retry_s` is None if it never will.
    """

    said: str
    retry_s: float | None


@runtime_checkable
class SchedulesReplication(Protocol):
    """A client of a database whose servers say when they try again to replicate."""

    def paused_replication(self) -> PausedReplication | None:
        """Return the replication that stays down longest; None if all runs, or nothing is known.

        Raises `ClientError`.
        """


@runtime_checkable
class KnowsPermanence(Protocol):
    """A client that knows errors after which a final read is never going to succeed."""

    @property
    def permanent_errors(self) -> Collection[str]:
        """The labels of errors that no waiting ends, as `Client.explain` or a final read's answer gives them."""


class Leftover(NamedTuple):
    """One thing that a killed run left: the name of the run (None if several may use it), its place, and its key."""

    run: str | None
    place: str
    key: str


class Leftovers(Protocol):
    """Access to what killed runs left; it connects in its constructor, and creates nothing."""

    def find(self) -> Iterable[Leftover]:
        """Return what runs left or still use; raise a `ClientError`."""

    def remove(self, found: Sequence[Leftover]) -> None:
        """Delete it; raise a `ClientError`."""

    def close(self) -> None:
        """Close the connections."""


class Client(Protocol):
    """One process's access to one database: connections, schema, preload, final reads, cleanup."""

    database: str
    """The name of the database's row, such as ``mongo``."""

    clock: Clock
    """The clock that times this client's operations."""

    def prepare(self) -> None:
        """Connect and create what is missing, or raise a `stalewatch.clients.errors.ClientError`."""

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, at the strongest level; raise `ClientError` for a key that exists."""

    def session(self, name: str) -> ClientSession:
        """Open a session."""

    def final(self, key: str) -> Answer:
        """Read everything that the key holds, at the level that proves loss; raise what the driver raises."""

    def explain(self, error: BaseException) -> Failure:
        """Return the outcome of an operation that ended in an exception."""

    def settings(self) -> dict[str, object]:
        """Return the levels and driver settings in force, without credentials, for reports."""

    def levels(self) -> Levels:
        """Return the levels in force, which name the operations."""

    def remove(self, keys: Sequence[str]) -> None:
        """Delete the run's own keys; a key that does not exist is no error."""

    def close(self) -> None:
        """Close the connections."""


class NodeState(NamedTuple):
    """One server: its address HOST:PORT, whether it accepts writes, whether it is in service, and its lag.

    `lag_s` is how many seconds its newest write is older than the newest of all servers; None if unknown, as for a
    server that is down.
    """

    node: str
    primary: bool
    healthy: bool
    lag_s: float | None


class Servers(Protocol):
    """A database's servers, polled during the load by one process for all workers."""

    def look(self) -> Sequence[NodeState]:
        """Return the state of every server; raise `NoServerAnswers`, or `Unreachable` if none ever will."""

    def close(self) -> None:
        """Close the connections."""


class PrimaryClaims(Protocol):
    """The servers that claim to be the primary, each asked individually; used by one thread per server."""

    @property
    def nodes(self) -> Sequence[str]:
        """The servers, each HOST:PORT."""

    def ask(self, node: str) -> int | None:
        """Return the term in which the server claims to lead, None if it does not; raise `NoServerAnswers`.

        A server that is certainly not running does not lead.
        """

    def close(self) -> None:
        """Close the connections."""


class NoServerAnswers(Exception):
    """No server answered this time."""


class Database(NamedTuple):
    """One row of the table of databases.

    `options` is a dataclass of `stalewatch.clients.options.option` fields. `open` takes an instance of it, the largest
    number of concurrent sessions, the seed and the clock. `addresses` names the option fields that say where the
    servers are. `clock` makes the clock of a run in one process. `servers` and `claims` open what polls the servers;
    `claims` is for databases with one leader at a time. `connections_per_user` returns the most connections that the
    driver keeps for one session with these options, in open files. `leftovers` names the class that finds what killed
    runs left; `cluster`, `lab_cluster` and `compose_cluster` name the classes of the clusters that can be started and
    broken; all as MODULE:CLASS.
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
    connections_per_user: Callable[[Any], int] = lambda _options: 1
    leftovers: str | None = None
    cluster: str | None = None
    lab_cluster: str | None = None
    compose_cluster: str | None = None

    def lacks_address(self, options: object) -> bool:
        """Return whether to use the local cluster: there is one, and the options do not say where the servers are."""
        if self.cluster is None or not self.addresses:
            return False
        return all(getattr(options, field) is None for field in self.addresses)

    def flags(self) -> tuple[Option, ...]:
        """Return the command-line options."""
        return options_of(self.options)
