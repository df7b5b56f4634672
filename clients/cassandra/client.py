"""The Cassandra client: registers as rows of one table, lists as partitions of another, counters as rows of a third.

`schema` describes rows and decides which of two writes wins, `lists_and_counters` how items are kept and ids are drawn,
and `errors` what an exception means.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cassandra
from cassandra.cluster import ResponseFuture
from cassandra.pool import Host
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.connection import CassandraAccess, connect
from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.errors import PERMANENT, explain
from stalewatch.clients.cassandra.lists_and_counters import DRAW_ATTEMPTS, CassandraCounters, CassandraLists, Draws
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.reading import reads, warn_of_other_replicas
from stalewatch.clients.cassandra.schema import StoredValue, dependency, shown, stored, write_path
from stalewatch.clients.cassandra.servers import PendingHints
from stalewatch.clients.errors import Failure
from stalewatch.clients.preload import removed_on_failure
from stalewatch.clients.protocol import Answer, Levels, Value
from stalewatch.clients.read_strategies import recorded_times
from stalewatch.history.clock import Clock

UNSENT_S = 0.05
"""How long a session pauses if no node could be sent its request; without a pause it would only burn CPU."""


class CassandraDatabaseClient:
    """One process's access to the registers, lists and counters of a ring; it connects in `prepare`."""

    database = "cassandra"
    permanent_errors = PERMANENT

    def __init__(self, options: CassandraClientOptions, clock: Clock) -> None:
        self.clock = clock
        self._options = options
        self.write_path = write_path(options)
        self._opened: CassandraAccess | None = None
        self._hints: PendingHints | None = None
        self._lists: CassandraLists | None = None
        self._counters: CassandraCounters | None = None
        self._sessions = 0
        self._skew_us = options.clock_skew_ms * 1000

    def prepare(self) -> None:
        """Connect, and create keyspace and table if missing; raise `BadAddress`, `Unreachable` or `ClientError`."""
        if self._opened is None:
            self._opened = connect(self._options)
            self._hints = PendingHints(self._opened.session, self._opened.nodes, self.clock)
            if self._options.read_strategy == "pinned":
                warn_of_other_replicas(self._opened)

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key at version 0, on all replicas.

        Raises `ClientError` if that fails, as for a key that exists, and deletes what it had created.
        """
        access, create, options = self._access, self.write_path.create_values, self._options
        value, time_us = stored(Value(0, "", payload=payload)), self._now_us() - self._skew_us
        with explained(options):
            access.refuse_existing(keys, shown(options), access.statements.read_all_replicas)
        with removed_on_failure(self.remove) as created, explained(options):
            created.extend(keys)  # even those whose creation times out, since it may be applied
            access.execute_each(access.statements.create, [create(key, value, time_us) for key in keys])

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create the table of lists if missing; raise `ClientError` if that fails, or if any of the lists exists."""
        with explained(self._options):
            self.lists.refuse_existing(keys)

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create counters at 0, on all replicas; raise `ClientError` if that fails, as for a counter that exists."""
        with explained(self._options):
            self.counters.refuse_existing(keys)
        with removed_on_failure(self.remove_counters) as created, explained(self._options):
            created.extend(keys)
            self.counters.create(keys)

    def session(self, name: str) -> "CassandraSession":
        """Open a session; every other one has a slow clock if the options ask for skewed clocks."""
        number, self._sessions = self._sessions, self._sessions + 1
        return CassandraSession(name, self, self._access, number, self._skew_us if number % 2 else 0)

    def note_write(self) -> None:
        """Take note that a write was sent."""
        if self._hints is not None and self._options.write_cl == "ANY":
            self._hints.note_any()

    def final(self, key: str) -> Answer:
        """Read the key from all replicas, once no node keeps hints; raise driver exceptions.

        A conditional write that was interrupted is completed first.
        """
        access, reason = self._access, self._unproven()
        if reason is not None:
            return Answer("unknown", error=reason)
        if self._options.lwt:
            access.session.execute(access.statements.read_serial, (key,))
        future = access.session.execute_async(access.statements.read_all_replicas, (key,))
        return _shown(future.result().one(), access.nodes.name(future.coordinator_host))

    def final_items(self, key: str) -> Answer:
        """Read a list from all replicas, once no node keeps hints; raise driver exceptions."""
        reason = self._unproven()
        if reason is not None:
            return Answer("unknown", error=reason)
        items, future = self.lists.final(key)
        return Answer(items=items, node=self._access.nodes.name(future.coordinator_host))

    def _unproven(self) -> str | None:
        """Return in one word why a final read would prove nothing yet, or None."""
        return None if self._hints is None else self._hints.reason()

    def explain(self, error: BaseException) -> Failure:
        """Return what an exception means for the operation that it ended."""
        return explain(error, lwt=self._options.lwt, retries=self._options.retries)

    def explain_draw(self, error: BaseException) -> Failure:
        """Return what an exception means for a draw, which is always conditional."""
        return explain(error, lwt=True, retries=self._options.retries)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete these keys; raise `ClientError` if that fails."""
        time_us, values = self._now_us(), self.write_path.delete_values
        with explained(self._options):
            self._access.execute_each(self._access.statements.delete, [values(key, time_us) for key in keys])

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete these lists; raise `ClientError` if that fails."""
        with explained(self._options):
            self.lists.remove(keys, self._now_us())

    def remove_counters(self, keys: Sequence[str]) -> None:
        """Delete these counters; raise `ClientError` if that fails."""
        with explained(self._options):
            self.counters.remove(keys)

    @property
    def lists(self) -> CassandraLists:
        """The lists; the first access creates their table if it is missing."""
        if self._lists is None:
            self._lists = CassandraLists(self._access)
        return self._lists

    @property
    def counters(self) -> CassandraCounters:
        """The counters; the first access creates their table if it is missing."""
        if self._counters is None:
            self._counters = CassandraCounters(self._access)
        return self._counters

    def settings(self) -> dict[str, object]:
        """Return the levels and driver settings in force, without credentials, for reports."""
        options, access = self._options, self._access
        return {
            "hosts": ", ".join(map(access.nodes.name, access.nodes.all())),
            "keyspace": options.keyspace,
            "table": options.table,
            **access.table.report(),
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
            "servers": access.servers(),
            "driver": f"cassandra-driver {cassandra.__version__}",
        }

    def levels(self) -> Levels:
        """Return the consistency levels of writes and reads."""
        return Levels(f"{self._options.write_cl}{' LWT' if self._options.lwt else ''}", self._options.read_cl)

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def _access(self) -> CassandraAccess:
        if self._opened is None:
            raise RuntimeError("CassandraDatabaseClient: call prepare() first")
        return self._opened

    def _now_us(self) -> int:
        return self.clock.now() // 1000


class CassandraSession:
    """One simulated user; the sessions of a process share the driver's connections.

    An operation that the driver ends with an exception returns an answer instead of raising, because only here is it
    known which node the request was sent to.
    """

    def __init__(
        self, name: str, client: CassandraDatabaseClient, access: CassandraAccess, number: int, skew_us: int
    ) -> None:
        self.name = name
        self._execute = access.session.execute_async
        self._write = access.statements.write
        self._writer, reader = access.nodes.coordinators()
        self._reads = reads(self._ask, access, client.clock, number=number, reader=reader, writer=self._writer)
        self.times = recorded_times(self._reads)
        self._node = access.nodes.name
        self._client = client
        self._write_values, self._write_answer = client.write_path.write_values, client.write_path.answer
        self._skew_us = skew_us
        self._draws = Draws()

    def read(self, key: str) -> Answer:
        """Read a register as the read options say; a missing row is version 0."""
        return self._reads.read(key)

    def _ask(self, key: str, statement: PreparedStatement, host: Host | None) -> Answer:
        future = self._execute(statement, (key,), host=host)
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # the error table classifies it
            return self._failed(error, future.attempted_hosts, self._client.explain)
        return _shown(row, self._node(future.coordinator_host))

    def write(self, key: str, value: Value) -> Answer:
        """Raise a register to the value's version, with the time at which the write began as its timestamp."""
        answer = None
        try:
            answer = self._raise(key, value)
        finally:
            self._reads.wrote(key, value.version, answer)
        return answer

    def _raise(self, key: str, value: Value) -> Answer:
        values = self._write_values(key, stored(value), value.start_ns // 1000 - self._skew_us)
        future = self._execute(self._write, values, host=self._writer)
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # as above
            return self._failed(error, future.attempted_hosts, self._client.explain)
        finally:
            self._client.note_write()
        return self._write_answer(row, self._node(future.coordinator_host))

    def append(self, key: str, item: str) -> Answer:
        """Append an item to a list, with the current time as its timestamp."""
        lists, time_us = self._client.lists, self._client.clock.now() // 1000 - self._skew_us
        future = self._execute(lists.append, lists.append_values(key, item, time_us), host=self._writer)
        # A conditional append that finds its item in the list is the driver's second attempt.
        answer = self._answer(future, lambda _row, node: Answer(node=node), self._client.explain)
        self._client.note_write()
        return answer

    def draw(self, key: str) -> Answer:
        """Draw the next id of a counter, trying again if another session was faster; a contended draw fails."""
        answer = Answer()
        for _ in range(DRAW_ATTEMPTS):
            future = self._execute(self._client.counters.increment, self._draws.values(key), host=self._writer)
            answer = self._answer(future, partial(self._draws.answer, key), self._client.explain_draw)
            if not answer.superseded:
                return answer
        return Answer("fail", node=answer.node, error="contended")

    def _answer(
        self,
        future: ResponseFuture,
        answer: Callable[[Any, str], Answer],
        explain: Callable[[BaseException], Failure],
    ) -> Answer:
        try:
            row = future.result().one()
        except Exception as error:  # noqa: BLE001 # the error table classifies it
            return self._failed(error, future.attempted_hosts, explain)
        return answer(row, self._node(future.coordinator_host))

    def _failed(self, error: Exception, sent: Sequence[Host], explain: Callable[[BaseException], Failure]) -> Answer:
        if not sent:
            self._client.clock.sleep(UNSENT_S)
        failure = explain(error)
        return Answer(failure.outcome, node=self._node(sent[-1]) if sent else None, error=failure.error)


def _shown(row: tuple[StoredValue] | None, node: str) -> Answer:
    """Return what a read showed; deleting a conditional write can leave a row without a value."""
    value = None if row is None else row[0]
    if value is None:
        return Answer(version=0, node=node)
    return Answer("ok", value[0], node, None, None if value[2] is None else dependency(value))
