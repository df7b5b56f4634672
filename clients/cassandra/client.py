"""Cassandra: registers as rows of a table, lists as partitions of another, counters as rows of a third.

What a row holds stands in `stalewatch.clients.cassandra.schema`, which of two writes wins in `stalewatch.clients.cassandra.writes`, how items
are kept and ids are drawn in `stalewatch.clients.cassandra.lists` and `stalewatch.clients.cassandra.counters`, and what an exception means in
`stalewatch.clients.cassandra.errors`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cassandra
from cassandra.cluster import ResponseFuture, ResultSet
from cassandra.pool import Host
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.batches import for_each
from stalewatch.clients.cassandra.connection import Access, connect
from stalewatch.clients.cassandra.counters import ATTEMPTS, Counters, Drawing
from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.errors import explain
from stalewatch.clients.cassandra.hints import PendingHints
from stalewatch.clients.cassandra.lists import Lists
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.schema import Stored, depends, stored
from stalewatch.clients.cassandra.writes import Values, way
from stalewatch.clients.errors import ClientError, Failure
from stalewatch.clients.protocol import Answer, Levels, Value
from stalewatch.history.clock import Clock

UNSENT_S = 0.05
"""How long a session waits where no node could be sent its request; without it, it would only burn the processor."""


class CassandraDatabaseClient:
    """One process's access to the registers in one table of a ring; it connects in `prepare`."""

    database = "cassandra"

    def __init__(self, options: CassandraClientOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self.way = way(options)
        """How writes are put."""
        self._opened: Access | None = None
        self._hints: PendingHints | None = None
        self._lists: Lists | None = None
        self._counters: Counters | None = None
        self._sessions = 0
        self._behind_us = options.behind_ms * 1000

    def prepare(self) -> None:
        """Connect, and find or create keyspace and table; raise `BadAddress`, `Unreachable` or `ClientError`."""
        if self._opened is None:
            self._opened = connect(self._options)
            self._hints = PendingHints(self._opened.session, self._opened.nodes, self.clock)

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, on all replicas.

        Raises `ClientError` where that fails, such as for a key that exists, and takes back what it had created.
        """
        value, time_us = stored(Value(0, "", payload=payload)), self._now_us() - self._behind_us
        with explained(self._options):
            self._refuse_existing(keys)
        try:
            with explained(self._options):
                self._for_each(self._access.statements.create, [self.way.created(key, value, time_us) for key in keys])
        except ClientError as failure:
            self._take_back(keys, failure, self.remove)
            raise

    def create_lists(self, keys: Sequence[str]) -> None:
        """Make sure that there is room for lists, and none of that name; raise `ClientError` where that fails."""
        with explained(self._options):
            self.lists.refuse_existing(keys)

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, on all replicas; raise `ClientError` where that fails, such as for one that exists."""
        with explained(self._options):
            self.counters.refuse_existing(keys)
        try:
            with explained(self._options):
                self.counters.create(keys)
        except ClientError as failure:
            self._take_back(keys, failure, self.remove_counters)
            raise

    def session(self, name: str) -> "CassandraSession":
        """Open a session; every other one has a clock that is behind where the options ask for such."""
        behind_us = self._behind_us if self._sessions % 2 else 0
        self._sessions += 1
        return CassandraSession(name, self, self._access, behind_us)

    def note_write(self) -> None:
        """Learn that a write was sent."""
        if self._hints is not None and self._options.write_cl == "ANY":
            self._hints.note_any()

    def final(self, key: str) -> Answer:
        """Read the key from all replicas, once no node keeps a write for another; raise what the driver raises.

        What a conditional write left unfinished is finished first.
        """
        access, reason = self._access, self._pending()
        if reason is not None:
            return Answer("unknown", error=reason)
        if self._options.lwt:
            access.session.execute(access.statements.agree, (key,))
        future = access.session.execute_async(access.statements.look, (key,))
        return _shown(future.result().one(), access.nodes.name(future.coordinator_host))

    def final_items(self, key: str) -> Answer:
        """Read a list from all replicas, once no node keeps an item for another; raise what the driver raises."""
        reason = self._pending()
        if reason is not None:
            return Answer("unknown", error=reason)
        items, future = self.lists.final(key)
        return Answer(items=items, node=self._access.nodes.name(future.coordinator_host))

    def _pending(self) -> str | None:
        """Return why a final read would prove nothing yet, in a word; None where it would."""
        return None if self._hints is None else self._hints.reason()

    def explain(self, error: BaseException) -> Failure:
        """Say what an exception means for the operation that it ended."""
        return explain(error, lwt=self._options.lwt, retries=self._options.retries)

    def explain_draw(self, error: BaseException) -> Failure:
        """Say what an exception means for a draw, which is always conditional."""
        return explain(error, lwt=True, retries=self._options.retries)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys; raise `ClientError` where that fails."""
        time_us = self._now_us()
        with explained(self._options):
            self._for_each(self._access.statements.delete, [self.way.deleted(key, time_us) for key in keys])

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists; raise `ClientError` where that fails."""
        with explained(self._options):
            self.lists.remove(keys, self._now_us())

    def remove_counters(self, keys: Sequence[str]) -> None:
        """Delete these counters; raise `ClientError` where that fails."""
        with explained(self._options):
            self.counters.remove(keys)

    @property
    def lists(self) -> Lists:
        """The lists; the first look at them makes their table where it is missing."""
        if self._lists is None:
            self._lists = Lists(self._access, self._options)
        return self._lists

    @property
    def counters(self) -> Counters:
        """The counters; the first look at them makes their table where it is missing."""
        if self._counters is None:
            self._counters = Counters(self._access, self._options)
        return self._counters

    def settings(self) -> dict[str, object]:
        """Return the levels and the driver's settings in force, without any credentials, for reports."""
        options, access = self._options, self._access
        return {
            "hosts": ", ".join(map(access.nodes.name, access.nodes.all())),
            "keyspace": options.keyspace,
            "table": options.table,
            **access.table.settings(),
            "write_cl": options.write_cl,
            "read_cl": options.read_cl,
            "lwt": options.lwt,
            "coordinator": options.coordinator,
            "read_from": options.read_from,
            "timestamps": "agreement" if options.lwt else options.timestamps,
            "retries": options.retries,
            "timeout_s": options.timeout_s,
            "protocol_version": access.cluster.protocol_version,
            "reactor": access.cluster.connection_class.__name__,
            "driver": f"cassandra-driver {cassandra.__version__}",
        }

    def levels(self) -> Levels:
        """Return the consistency levels of writes and reads."""
        return Levels(f"{self._options.write_cl}{' LWT' if self._options.lwt else ''}", self._options.read_cl)

    def close(self) -> None:
        """Drop the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _access(self) -> Access:
        if self._opened is None:
            raise RuntimeError("CassandraDatabaseClient: call prepare() first")
        return self._opened

    def _now_us(self) -> int:
        return self.clock.now() // 1000

    def _for_each(self, statement: PreparedStatement, values: Sequence[Values]) -> list[ResultSet]:
        return for_each(self._access.session, statement, values)

    def _refuse_existing(self, keys: Sequence[str]) -> None:
        for key, found in zip(
            keys, self._for_each(self._access.statements.look, [(key,) for key in keys]), strict=True
        ):
            if found.one() is not None:
                raise ClientError(
                    f"key {key!r} exists already in {self._options.keyspace}.{self._options.table}: another run's "
                    "leftovers; delete them, or use another --table"
                )

    def _take_back(self, keys: Sequence[str], failure: ClientError, remove: Callable[[Sequence[str]], None]) -> None:
        try:
            remove(keys)
        except ClientError as error:
            failure.add_note(f"some of {len(keys)} keys, which were being created, are left behind: {error}")


class CassandraSession:
    """One simulated user; sessions of a process share the driver's connections.

    An operation that the driver ends with an exception is answered, not raised: only here it is known which node it
    had been sent to.
    """

    def __init__(self, name: str, client: CassandraDatabaseClient, access: Access, behind_us: int) -> None:
        self.name = name
        route = access.nodes.route()
        self._execute = access.session.execute_async
        self._read, self._write = access.statements.read, access.statements.write
        self._reader, self._writer = route.reads, route.writes
        self._node = access.nodes.name
        self._client = client
        self._written, self._result = client.way.written, client.way.result
        self._behind_us = behind_us
        self._drawing = Drawing()

    def read(self, key: str) -> Answer:
        """Read a register as the read options say; no row shows as version 0."""
        future = self._execute(self._read, (key,), host=self._reader)
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # the client's table says what each means
            return self._failed(error, future.attempted_hosts, self._client.explain)
        return _shown(row, self._node(future.coordinator_host))

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version, at the time at which the write began."""
        values = self._written(key, stored(value), value.start_ns // 1000 - self._behind_us)
        future = self._execute(self._write, values, host=self._writer)
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # as above
            return self._failed(error, future.attempted_hosts, self._client.explain)
        finally:
            self._client.note_write()
        return self._result(row, self._node(future.coordinator_host))

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list, at the time at which that begins."""
        lists, time_us = self._client.lists, self._client.clock.now() // 1000 - self._behind_us
        future = self._execute(lists.append, lists.values(key, item, time_us), host=self._writer)
        # A conditional append that finds its item there is the driver's second attempt.
        answer = self._answer(future, lambda _row, node: Answer(node=node))
        self._client.note_write()
        return answer

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter, begun anew where another session was faster; a contended one fails."""
        answer = Answer()
        for _ in range(ATTEMPTS):
            values = self._drawing.values(key)
            future = self._execute(self._client.counters.raise_from, values, host=self._writer)
            answer = self._answer(future, partial(self._drawing.result, key), self._client.explain_draw)
            if not answer.superseded:
                return answer
        return Answer("fail", node=answer.node, error="contended")

    def _answer(
        self,
        future: ResponseFuture,
        understood: Callable[[Any, str], Answer],
        explain: Callable[[BaseException], Failure] | None = None,
    ) -> Answer:
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # the client's table says what each means
            return self._failed(error, future.attempted_hosts, explain or self._client.explain)
        return understood(row, self._node(future.coordinator_host))

    def _failed(self, error: Exception, sent: Sequence[Host], explain: Callable[[BaseException], Failure]) -> Answer:
        if not sent:
            self._client.clock.sleep(UNSENT_S)
        failure = explain(error)
        return Answer(failure.outcome, node=self._node(sent[-1]) if sent else None, error=failure.error)


def _shown(row: tuple[Stored] | None, node: str) -> Answer:
    """Return what a read showed; a row without a value is what a deletion leaves of a conditional write."""
    value = None if row is None else row[0]
    if value is None:
        return Answer(version=0, node=node)
    return Answer("ok", value[0], node, None, None if value[2] is None else depends(value))
