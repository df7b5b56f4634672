"""Connections to a ring: opened and checked before the first operation, with the nodes and the prepared statements."""

import logging
import secrets
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from typing import Any, NamedTuple

from cassandra import ConsistencyLevel, DriverException, OperationTimedOut, Timeout
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import (
    EXEC_PROFILE_DEFAULT,
    Cluster,
    DefaultConnection,
    ExecutionProfile,
    NoHostAvailable,
    ResponseFuture,
    ResultSet,
)
from cassandra.connection import Connection, ConnectionException, ProtocolError
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    LoadBalancingPolicy,
    RetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.pool import Host
from cassandra.query import PreparedStatement, tuple_factory

from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.options import COORDINATORS, CassandraClientOptions, address, host_port
from stalewatch.clients.cassandra.preconditions import check_hosts
from stalewatch.clients.cassandra.schema import Values, ensure_registers, quoted, write_path
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.preload import key_exists

CONNECT_S = 2.0
ALL_CONNECT_S = 5.0
RECONNECT_S = 0.5
HEARTBEAT_S = 5.0
"""A frozen node is detected after two heartbeats. With the driver's default of 30 s, every request to it would time out
for a minute."""

BATCH_CONCURRENCY = 32
BATCH_ATTEMPTS = 4

# Nodes that go down and come back appear in the history as errors; without this, each is also a warning on stderr.
logging.getLogger("cassandra").addHandler(logging.NullHandler())

_MAJORITY = {"ONE": "QUORUM", "TWO": "QUORUM", "LOCAL_ONE": "LOCAL_QUORUM"}
"""The level of reads that a majority answers, by a weaker level."""

_POLL_S = 0.02
_TIMEOUTS = (Timeout, OperationTimedOut)
_NOT_EXECUTED = DriverException()


LARGEST_FRAME = 32 << 20
"""Bytes of the largest message from a node; Cassandra itself accepts 16 MB unless configured otherwise."""


class BoundedFrames:
    """A mixin for the driver's connections that closes one whose node announces a message of more than `LARGEST_FRAME`.

    The driver would keep whatever arrives, up to 2 GB, even after the request has timed out.
    """

    def _read_frame_header(self) -> Any:  # noqa: ANN401 # the driver's
        """Read the next message's header if it is complete, and return the position after all that arrived."""
        position = super()._read_frame_header()  # type: ignore[misc] # the driver's, which ships no type information
        frame = self._current_frame  # type: ignore[has-type] # as above
        if frame is not None and frame.end_pos > LARGEST_FRAME:
            self._current_frame = None
            error = ProtocolError(f"a message of {frame.end_pos:,} bytes, but {LARGEST_FRAME:,} are the most")
            self.defunct(error)  # type: ignore[attr-defined] # as above
        return position


class WholeSegments(BoundedFrames):
    """A mixin for the driver's connections that reads segments arriving in pieces (PYTHON-1337, as of 3.30).

    Since protocol 5, nodes send segments, each with a header of six bytes. If fewer bytes have arrived, the driver
    leaves its buffer positioned at the end when it keeps the unread rest, so it keeps nothing. It then takes the next
    bytes for a header: either their checksum is wrong and the connection is dropped, or it waits in vain for a segment
    of the wrong length. In measurements that looks like a node outage. Twenty sessions that read 5 kB values under
    gevent hit it within seconds, again and again.

    The headers of compressed segments differ, and the driver mistakes their length too; our clients do not compress.
    """

    def _process_segment_buffer(self) -> None:
        """Consume the next segment if it is complete; else keep all of it."""
        super()._process_segment_buffer()  # type: ignore[misc] # the driver's, which ships no type information
        buffer = self._io_buffer  # type: ignore[attr-defined] # as above
        if not buffer.has_consumed_segment:
            buffer.io_buffer.seek(0)


class RingNodes:
    """The nodes of a ring as the driver sees them; raises `BadAddress` for options that name an unknown node."""

    def __init__(self, cluster: Cluster, options: CassandraClientOptions) -> None:
        self._cluster = cluster
        self._options = options
        # By identity, which is cheaper than the driver's hash; keeping the host keeps its identity from being reused.
        self._names: dict[int, tuple[str, Host]] = {}
        self._sessions = count()
        self._coordinator = None if options.coordinator in COORDINATORS else self._find(options.coordinator)
        self._reader = None if options.read_from is None else self._find(options.read_from)

    def all(self) -> list[Host]:
        """Return all nodes, ordered by address."""
        return sorted(self._cluster.metadata.all_hosts(), key=self.name)

    def eligible(self) -> list[Host]:
        """Return the nodes that may receive requests, ordered by address."""
        wanted = self._options.data_center
        return [host for host in self.all() if wanted in (None, host.datacenter)]

    def data_centers(self) -> Mapping[str, int]:
        """Return the number of nodes in each data center."""
        return Counter(host.datacenter for host in self.all())

    def name(self, host: Host) -> str:
        """Return the HOST:PORT by which histories name a node."""
        known = self._names.get(id(host))
        if known is None:
            known = self._names[id(host)] = (host_port(host.endpoint.address, host.endpoint.port), host)
        return known[0]

    def replicas(self, key: str) -> list[Host]:
        """Return the nodes that hold a key; they are known only with `CassandraClientOptions.by_token`."""
        return list(self._cluster.metadata.get_replicas(self._options.keyspace, key.encode()))

    def coordinators(self) -> tuple[Host | None, Host | None]:
        """Return the nodes for the next session's writes and for its reads; None lets the driver choose."""
        number, nodes = next(self._sessions), self.eligible()
        first, second = nodes[number % len(nodes)], nodes[(number + 1) % len(nodes)]
        pairs = {"any": (None, None), "token": (None, None), "pinned": (first, first), "split": (first, second)}
        writer, reader = pairs.get(self._options.coordinator, (self._coordinator, self._coordinator))
        return writer, self._reader or reader

    def _find(self, text: str) -> Host:
        place, port = address(text)
        try:
            places = {found[4][0] for found in socket.getaddrinfo(place, port, type=socket.SOCK_STREAM)}
        except (OSError, UnicodeError) as error:
            raise BadAddress(f"{text}: {error}") from None
        for host in self.all():
            if host.endpoint.port == port and host.endpoint.address in places:
                return host
        raise BadAddress(f"{text} is not a node of the ring, which has {', '.join(map(self.name, self.all()))}")


class RegisterStatements(NamedTuple):
    """The prepared statements for registers, each with its consistency level."""

    read: PreparedStatement
    read_quorum: PreparedStatement
    """At a level that a majority answers, or the level of reads if that is as strong."""
    write: PreparedStatement
    create: PreparedStatement
    delete: PreparedStatement
    read_all_replicas: PreparedStatement
    read_serial: PreparedStatement
    """Completes a conditional write that was interrupted."""


class CassandraAccess:
    """An open connection to a ring whose keyspace and table exist, with the statements for registers prepared."""

    def __init__(self, options: CassandraClientOptions, cluster: Cluster) -> None:
        self.options = options
        self.cluster = cluster
        self.session = cluster.connect()
        self.session.use_client_timestamp = False
        self.session._default_timeout = options.timeout_s  # noqa: SLF001 # preparing a statement has no other
        self.nodes = RingNodes(cluster, options)
        self._await_connections()
        self.table = ensure_registers(self.session, options, self.nodes.data_centers())
        self.statements = self._register_statements()
        if options.by_token:
            cluster.refresh_keyspace_metadata(options.keyspace)  # it may be new

    def _await_connections(self) -> None:
        """Wait for a connection to every node that is not down; the driver itself waits only for the first."""
        deadline = time.monotonic() + ALL_CONNECT_S
        while time.monotonic() < deadline:
            connected = self.session.get_pool_state()
            if all(host in connected or host.is_up is False for host in self.nodes.eligible()):
                return
            time.sleep(_POLL_S)

    @property
    def serial_level(self) -> str:
        """The level of conditions: within one data center if reads ask for that, else across all."""
        return "LOCAL_SERIAL" if self.options.read_cl == "LOCAL_SERIAL" else "SERIAL"

    def servers(self) -> list[str]:
        """Return the versions of the ring's nodes."""
        return sorted(
            {f"Cassandra {host.release_version}" for host in self.cluster.metadata.all_hosts() if host.release_version}
        )

    def prepare(self, text: str, level: str) -> PreparedStatement:
        """Return a prepared statement with a consistency level."""
        statement = self.session.prepare(text)
        statement.consistency_level = ConsistencyLevel.name_to_value[level]
        statement.serial_consistency_level = ConsistencyLevel.name_to_value[self.serial_level]
        return statement

    def _register_statements(self) -> RegisterStatements:
        options, path = self.options, write_path(self.options)
        table = quoted(options)
        # A server caches prepared statements by their text, with the table's properties as of then or of its last
        # start, so a changed read repair would have no effect. Every client therefore uses a text of its own.
        read = f"SELECT d FROM {table} WHERE k = ? /* {secrets.token_hex(4)} */"  # noqa: S608 # validated names
        return RegisterStatements(
            read=self.prepare(read, options.read_cl),
            read_quorum=self.prepare(read, _MAJORITY.get(options.read_cl, options.read_cl)),
            write=self.prepare(path.write.format(table=table), options.write_cl),
            create=self.prepare(path.create.format(table=table), "ALL"),
            delete=self.prepare(path.delete.format(table=table), "QUORUM"),
            read_all_replicas=self.prepare(read, "ALL"),
            read_serial=self.prepare(read, self.serial_level),
        )

    def execute_each(self, statement: PreparedStatement, values: Sequence[Values]) -> list[ResultSet]:
        """Execute an idempotent statement for each of the values; retry time-outs, raise other driver exceptions."""
        results: list[ResultSet | Exception] = [_NOT_EXECUTED] * len(values)
        for _ in range(BATCH_ATTEMPTS):
            left = [number for number, result in enumerate(results) if isinstance(result, Exception)]
            again = self._execute_all(statement, [values[number] for number in left])
            for number, result in zip(left, again, strict=True):
                if isinstance(result, Exception) and not isinstance(result, _TIMEOUTS):
                    raise result
                results[number] = result
        found = [result for result in results if not isinstance(result, Exception)]
        if len(found) < len(results):
            raise next(result for result in results if isinstance(result, Exception))
        return found

    def _execute_all(self, statement: PreparedStatement, values: Sequence[Values]) -> list[ResultSet | Exception]:
        """Execute a statement for each of the values, some at a time, and return what each ended with, in order.

        The driver's `execute_concurrent` counts callbacks (as of 3.30). A response that arrives while the client's
        time-out is being handled causes two, the error and the result: then it returns a result too many, or returns
        before another statement has ended and attributes the results to the wrong statements.
        """
        ended: list[ResultSet | Exception] = []
        under_way: deque[ResponseFuture] = deque()
        for one in values:
            if len(under_way) == BATCH_CONCURRENCY:
                ended.append(_end(under_way.popleft()))
            under_way.append(self.session.execute_async(statement, one))
        ended.extend(map(_end, under_way))
        return ended

    def refuse_existing(
        self,
        keys: Sequence[str],
        table: str,
        read: PreparedStatement,
        exists: Callable[[Any], bool] = lambda row: row is not None,
    ) -> None:
        """Raise `ClientError` if `read` finds any of the keys in a table, and driver exceptions."""
        for key, rows in zip(keys, self.execute_each(read, [(key,) for key in keys]), strict=True):
            if exists(rows.one()):
                raise key_exists(key, table, "--table")

    def close(self) -> None:
        """Close the connections."""
        self.cluster.shutdown()


def _end(future: ResponseFuture) -> ResultSet | Exception:
    """Wait for the end of a statement, and return its result or exception."""
    try:
        return future.result()
    except Exception as error:  # noqa: BLE001 # the driver's documentation names no common class
        return error


def connect(options: CassandraClientOptions) -> CassandraAccess:
    """Connect, create the keyspace and table if missing, and prepare statements; raise `ClientError` on failure."""
    options.check()
    check_hosts(options)
    with ExitStack() as undo, explained(options):
        cluster = open_cluster(options)
        undo.callback(cluster.shutdown)
        _check_ring(cluster, options)
        access = CassandraAccess(options, cluster)
        undo.pop_all()
    return access


def _check_ring(cluster: Cluster, options: CassandraClientOptions) -> None:
    """Raise `BadAddress` if one of `--hosts` is a node of another ring, which the driver would drop silently.

    A node may be known to the ring by another address. One that does not answer is left to the driver.
    """
    cluster.connect().shutdown()
    known = list(cluster.metadata.all_hosts())
    places = {(host.endpoint.address, host.endpoint.port) for host in known}
    for place, port in options.contact_points:
        if (place, port) in places:
            continue
        alone = open_cluster(replace(options, hosts=host_port(place, port), coordinator="any", data_center=None))
        try:
            name, host_id = alone.connect().execute("SELECT cluster_name, host_id FROM system.local").one()
        except (DriverException, NoHostAvailable, ConnectionException):
            continue
        finally:
            alone.shutdown()
        if host_id not in {host.host_id for host in known}:
            nodes = ", ".join(sorted(host_port(*place) for place in places))
            raise BadAddress(
                f"--hosts names nodes of two rings: {host_port(place, port)} is in {name!r}, but not in "
                f"{cluster.metadata.cluster_name!r} of {nodes}; name nodes of one ring"
            )


def open_cluster(options: CassandraClientOptions) -> Cluster:
    """Return the driver's cluster, not connected yet; raise `BadAddress` for unusable options."""
    # The driver needs to know the replicas of a key only if requests go to them.
    by_token = options.by_token
    return Cluster(
        options.contact_points,
        execution_profiles={EXEC_PROFILE_DEFAULT: _profile(options)},
        auth_provider=PlainTextAuthProvider(options.username, options.password) if options.username else None,
        ssl_context=options.tls_files.context() if options.encrypted else None,
        connect_timeout=CONNECT_S,
        control_connection_timeout=CONNECT_S,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_S,
        schema_metadata_enabled=by_token,
        token_metadata_enabled=by_token,
        application_name="stalewatch",
        connection_class=_connection_class(),
        compression=False,  # else it would depend on which packages happen to be installed
    )


def _connection_class() -> type[Connection]:
    """Return the connection class: our own if gevent is patched in, else the driver's default with whole segments."""
    if "gevent.monkey" in sys.modules:
        from gevent import monkey  # noqa: PLC0415 # it may not be installed

        if monkey.is_module_patched("socket"):
            from stalewatch.clients.cassandra.event_loop import GreenletConnection  # noqa: PLC0415 # as above

            return GreenletConnection
    return type(DefaultConnection.__name__, (WholeSegments, DefaultConnection), {})


def _profile(options: CassandraClientOptions) -> ExecutionProfile:
    policy: LoadBalancingPolicy = RoundRobinPolicy()
    if options.data_center:
        policy = DCAwareRoundRobinPolicy(options.data_center)
    if options.coordinator == "token":
        policy = TokenAwarePolicy(policy, shuffle_replicas=True)
    return ExecutionProfile(
        load_balancing_policy=policy,
        # The driver's default policy would try the next node even if the write may have been applied.
        retry_policy=RetryPolicy() if options.retries else FallthroughRetryPolicy(),
        request_timeout=options.timeout_s,
        row_factory=tuple_factory,
    )
