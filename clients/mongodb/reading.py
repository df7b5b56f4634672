"""How sessions read documents, by the read strategy: from the primary for a while, causally, or from one member."""

from collections.abc import Callable
from functools import partial
from random import choice
from typing import Protocol

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import ExecutionTimeout
from pymongo.read_preferences import Nearest, ReadPreference
from pymongo.server_selectors import Selection
from pymongo.topology_description import TopologyDescription

from stalewatch.clients.mongodb.address import Document, node_name
from stalewatch.clients.mongodb.connection import MongoConnection
from stalewatch.clients.mongodb.errors import explain
from stalewatch.clients.mongodb.options import MongoOptions
from stalewatch.clients.protocol import DOCUMENT_SEPARATOR, Answer, RecordedTimes
from stalewatch.clients.read_strategies import PlainReads, Reads, StickyReads, fallen_back, recorded_times
from stalewatch.history.operation import Depends, replace

MEMBER_WAIT_FRACTION = 0.25
"""The fraction of the client's patience after which a causal read stops waiting for a member that lags."""

Member = tuple[str, int | None]


def read_document(
    documents: Collection[Document], key: str, limit_ms: int | None, session: ClientSession | None = None
) -> Answer:
    """Read a register; a missing document counts as version 0. Raises what the driver raises."""
    name, _, field = key.partition(DOCUMENT_SEPARATOR)
    cursor = documents.find({"_id": name}, limit=-1, max_time_ms=limit_ms, session=session)
    document = next(cursor, None)
    address = cursor.address
    node = None if address is None else node_name(address)
    if document is None:
        return Answer(version=0, node=node)
    value = document[field or "d"]
    depends = value.get("depends")
    return Answer(
        version=value["v"],
        node=node,
        depends=None if depends is None else Depends(**depends),
        beside=_beside(name, document) if field else None,
    )


def _beside(name: str, document: Document) -> dict[str, int]:
    """Return the versions of all registers of a document, by key."""
    return {f"{name}{DOCUMENT_SEPARATOR}{field}": value["v"] for field, value in document.items() if field != "_id"}


class MongoReads(Reads, Protocol):
    """How one session reads; `causal` is the driver's session that its writes must use too."""

    @property
    def causal(self) -> ClientSession | None:
        """The driver's session, if there is one."""

    @property
    def times(self) -> RecordedTimes | None:
        """What must know the recorded times of the session's operations, if anything."""


class _WithoutSession:
    """The reads of strategies that need no session of the driver."""

    def __init__(self, reads: Reads) -> None:
        self.read, self.wrote = reads.read, reads.wrote
        self.causal = None
        self.times = recorded_times(reads)


class CausalReads:
    """Reads in a causally consistent session of the driver: a member answers once it has all that the session has seen.

    A member that does not get there in time is given up, and the primary is asked. The operation time that a session
    has seen says nothing about which writes a failover rolls back: only with majority reads and writes do all four
    session guarantees survive one.
    """

    def __init__(self, connection: MongoConnection) -> None:
        self.causal, self.times = connection.client.start_session(causal_consistency=True), None
        self._reads, self._primary = connection.reads, _at_primary(connection)
        # A session belongs to one client; the one that reads from a single member has another.
        self._reader = connection.direct.start_session(causal_consistency=True) if connection.direct else self.causal
        self._patience_ms = connection.patience_ms
        alternative = connection.direct or connection.reads.read_preference != ReadPreference.PRIMARY
        self._wait_ms = int(self._patience_ms * MEMBER_WAIT_FRACTION) if alternative else None
        self._explain = partial(explain, retries=connection.retries)

    def read(self, key: str) -> Answer:
        """Read from an eligible member, or from the primary if that member lags too far behind."""
        if self._wait_ms is None:
            return replace(read_document(self._reads, key, self._patience_ms, self.causal), fell_back=False)
        _hand_on(self.causal, self._reader)
        try:
            answer = read_document(self._reads, key, self._wait_ms, self._reader)
        except ExecutionTimeout:
            return fallen_back(lambda: read_document(self._primary, key, self._patience_ms, self.causal), self._explain)
        _hand_on(self._reader, self.causal)
        return replace(answer, fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing: the driver's session has taken note."""


def _hand_on(one: ClientSession, other: ClientSession) -> None:
    """Let a session know the times that another one has seen."""
    if one is not other and one.cluster_time is not None and one.operation_time is not None:
        other.advance_cluster_time(one.cluster_time)
        other.advance_operation_time(one.operation_time)


class OneMember(Nearest):
    """A read preference that only one member fulfills, whatever its state."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.member = member

    def __call__(self, selection: Selection) -> Selection:
        """Select the member."""
        found = [server for server in selection.server_descriptions if server.address == self.member]
        return selection.with_server_descriptions(found)


class PinnedMemberReads:
    """Reads all keys from one member, chosen at random among the eligible ones, until it is no longer eligible."""

    def __init__(self, connection: MongoConnection, limit_ms: int | None) -> None:
        self._client, self._reads, self._limit_ms = connection.client, connection.reads, limit_ms
        self._preference = connection.reads.read_preference
        self._seen: TopologyDescription | None = None
        self._member: Member | None = None
        self._documents = connection.reads

    def read(self, key: str) -> Answer:
        """Read from the session's member; if that is another one than before, the read fell back."""
        before = self._member
        topology = self._client.topology_description
        if topology is not self._seen:
            self._seen = topology
            self._pin(topology)
        moved = before not in {None, self._member}
        return _marked(lambda: read_document(self._documents, key, self._limit_ms), moved=moved)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing."""

    def _pin(self, topology: TopologyDescription) -> None:
        """Choose a member if there is none yet, or the old one has gone and there are others."""
        selected = self._preference(Selection.from_topology_description(topology))
        if self._member in {server.address for server in selected.server_descriptions}:
            return
        near = topology.apply_selector(self._preference)  # like the driver, none that is much slower than the fastest
        if near:
            self._member = choice(near).address
            self._documents = self._reads.with_options(read_preference=OneMember(self._member))


def _marked(ask: Callable[[], Answer], *, moved: bool) -> Answer:
    return fallen_back(ask, explain) if moved else replace(ask(), fell_back=False)


def _at_primary(connection: MongoConnection) -> Collection[Document]:
    """Return the collection at the read concern of reads, but at the primary, by the client that writes."""
    return connection.writes.with_options(
        read_concern=connection.reads.read_concern, read_preference=ReadPreference.PRIMARY
    )


def reads(connection: MongoConnection, options: MongoOptions, now: Callable[[], int]) -> MongoReads:
    """Return how a new session reads, by the options."""
    # A linearizable read waits for a majority, and must not outlast the client's time-out.
    linearizable = connection.reads.read_concern.level == "linearizable"
    limit_ms = connection.patience_ms if linearizable else None
    failure = partial(explain, retries=connection.retries)
    primary = _at_primary(connection)

    def plain(key: str) -> Answer:
        return read_document(connection.reads, key, limit_ms)

    def from_primary(key: str) -> Answer:
        return fallen_back(lambda: read_document(primary, key, limit_ms), failure)

    match options.read_strategy:
        case "token":
            return CausalReads(connection)
        case "sticky":
            return _WithoutSession(StickyReads(plain, from_primary, now, options.sticky_seconds))
        case "pinned" if connection.direct is None:
            return _WithoutSession(PinnedMemberReads(connection, limit_ms))
        case "pinned":
            return _WithoutSession(PlainReads(lambda key: replace(plain(key), fell_back=False)))
        case _:
            return _WithoutSession(PlainReads(plain))
