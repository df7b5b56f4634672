"""Connections to a ring, proven usable before the first operation."""

import logging
import secrets
import ssl
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

from cassandra import ConsistencyLevel
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, DefaultConnection, ExecutionProfile, Session
from cassandra.connection import Connection
from cassandra.policies import (
    ConstantReconnectionPolicy,
    DCAwareRoundRobinPolicy,
    FallthroughRetryPolicy,
    LoadBalancingPolicy,
    RetryPolicy,
    RoundRobinPolicy,
    TokenAwarePolicy,
)
from cassandra.query import PreparedStatement, tuple_factory

from stalewatch.clients.cassandra import schema as cassandra_schema
from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.nodes import Nodes
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.segments import WholeSegments
from stalewatch.clients.cassandra.writes import way
from stalewatch.clients.errors import BadAddress

CONNECT_S = 2.0
ALL_CONNECT_S = 5.0
RECONNECT_S = 0.5
HEARTBEAT_S = 5.0
"""A frozen node is noticed after two of them; with the driver's half minutes, each request to it costs a time-out."""

# Nodes that go down and come back are in the history, as errors; without this each is a warning on stderr too.
logging.getLogger("cassandra").addHandler(logging.NullHandler())

_POLL_S = 0.02


class Statements(NamedTuple):
    """What a client asks for, prepared, each at its level."""

    read: PreparedStatement
    write: PreparedStatement
    create: PreparedStatement
    delete: PreparedStatement
    look: PreparedStatement
    agree: PreparedStatement
    """A read at SERIAL: it completes what an interrupted conditional write began."""


class Access(NamedTuple):
    """An open way to the registers."""

    cluster: Cluster
    session: Session
    statements: Statements
    table: cassandra_schema.Table
    nodes: Nodes

    def close(self) -> None:
        """Drop the connections."""
        self.cluster.shutdown()


def connect(options: CassandraClientOptions) -> Access:
    """Connect, find or create the table, prepare what is asked for; raise `BadAddress` or `Unreachable`."""
    options.check()
    with ExitStack() as undo:
        with explained(options):
            cluster = open_cluster(options)
            undo.callback(cluster.shutdown)
            session = cluster.connect()
            session.use_client_timestamp = False
            nodes = Nodes(cluster, options)
            _await_all(session, nodes)
            table = cassandra_schema.prepare(session, options, nodes.data_centers())
            statements = _statements(session, options)
        undo.pop_all()
    return Access(cluster, session, statements, table, nodes)


def _await_all(session: Session, nodes: Nodes) -> None:
    """Wait for a connection to each node that is not down: the driver goes on once it has one to any."""
    deadline = time.monotonic() + ALL_CONNECT_S
    while time.monotonic() < deadline:
        connected = session.get_pool_state()
        if all(host in connected or host.is_up is False for host in nodes.eligible()):
            return
        time.sleep(_POLL_S)


def open_cluster(options: CassandraClientOptions) -> Cluster:
    """Return a way to the ring, not connected yet (raises `BadAddress`)."""
    # Whose replicas a key has is only asked for where requests go to them.
    by_token = options.coordinator == "token"
    return Cluster(
        options.contact_points,
        execution_profiles={EXEC_PROFILE_DEFAULT: _profile(options)},
        auth_provider=PlainTextAuthProvider(options.username, options.password) if options.username else None,
        ssl_context=_tls(options) if options.tls else None,
        connect_timeout=CONNECT_S,
        control_connection_timeout=CONNECT_S,
        reconnection_policy=ConstantReconnectionPolicy(RECONNECT_S, max_attempts=None),
        idle_heartbeat_interval=HEARTBEAT_S,
        idle_heartbeat_timeout=HEARTBEAT_S,
        schema_metadata_enabled=by_token,
        token_metadata_enabled=by_token,
        application_name="stalewatch",
        connection_class=_connection(),
        compression=False,  # else it would depend on the packages that happen to be there
    )


def _connection() -> type[Connection]:
    """Return what a connection is: ours for greenlets where gevent is patched in, else the driver's, put right."""
    if "gevent.monkey" in sys.modules:
        from gevent import monkey  # noqa: PLC0415 # it need not be there

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
        # The driver's own would ask the next node, whether or not the write may have been applied.
        retry_policy=RetryPolicy() if options.retries else FallthroughRetryPolicy(),
        request_timeout=options.timeout_s,
        row_factory=tuple_factory,
    )


def _tls(options: CassandraClientOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.tls_ca)
        if options.client_cert:
            context.load_cert_chain(options.client_cert, options.client_key)
    except OSError as error:  # ssl.SSLError is one
        raise BadAddress(f"--tls-ca, --client-cert, --client-key: {error}") from None
    return context


def prepared(session: Session, options: CassandraClientOptions, text: str, level: str) -> PreparedStatement:
    """Return a statement at a level; its conditions are agreed on at the serial level that goes with the options."""
    statement = session.prepare(text)
    statement.consistency_level = ConsistencyLevel.name_to_value[level]
    statement.serial_consistency_level = ConsistencyLevel.name_to_value[serial(options)]
    return statement


def serial(options: CassandraClientOptions) -> str:
    """Return at which level conditions are agreed on: among the nodes of one data center where reads ask for that."""
    return "LOCAL_SERIAL" if options.read_cl == "LOCAL_SERIAL" else "SERIAL"


def _statements(session: Session, options: CassandraClientOptions) -> Statements:
    # A server keeps what it prepared, by its text, with the table's properties of then, or of its last start: an
    # altered read repair would not be in force. So every client brings a text of its own.
    read = f"SELECT d FROM {{table}} WHERE k = ? /* {secrets.token_hex(4)} */"  # noqa: S608 # nobody's words but ours
    writes = way(options)
    table = f"{options.keyspace}.{options.table}"
    wanted = Statements(
        read=(read, options.read_cl),
        write=(writes.write, options.write_cl),
        create=(writes.create, "ALL"),
        delete=(writes.delete, "QUORUM"),
        look=(read, "ALL"),
        agree=(read, serial(options)),
    )
    return Statements(*(prepared(session, options, text.format(table=table), level) for text, level in wanted))
