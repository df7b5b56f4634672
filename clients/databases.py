"""Every database that load can be put on: how to choose its options, and how to open it. A new one is one row.

Each database's modules, and so its driver, are loaded only where it is asked for.
"""

from collections.abc import Callable
from typing import NamedTuple

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, chosen
from stalewatch.clients.protocol import Client
from stalewatch.clients.servers import Claims, Servers
from stalewatch.history.clock import Clock, RealClock
from stalewatch.simulator import flags as clients_memory_flags
from stalewatch.simulator.simulated_time import SimulatedClock

SPARE_CONNECTIONS = 20
"""Connections of a pool beyond one a session, for what is done beside the sessions."""


class Database(NamedTuple):
    """What the commands know of a database.

    `open` takes the parsed arguments, the most sessions at a time, the seed and the clock. `addresses` names the
    options that say where the servers are; where none of them is given, the local cluster is meant. `clock` makes the
    clock of a run in one process. `servers` takes the parsed arguments, for who asks the servers about themselves, and
    so does `claims`, of a database that has one leader at a time.
    """

    help: str
    options: Callable[[], tuple[Option, ...]]
    open: Callable[[object, int, int, Clock], Client]
    addresses: tuple[str, ...] = ()
    clock: Callable[[], Clock] = RealClock
    servers: Callable[[object], Servers] | None = None
    claims: Callable[[object], Claims] | None = None

    def lacks_address(self, arguments: object) -> bool:
        """Tell whether nothing says where the servers are (raises `BadAddress` for an address that makes no sense)."""
        options = [option for option in self.options() if option.name in self.addresses]
        return bool(options) and all(value is None for value in chosen(options, arguments).values())


def _memory(arguments: object, _users: int, seed: int, clock: Clock) -> Client:
    from stalewatch.simulator.client import MemoryClient  # noqa: PLC0415

    return MemoryClient(clients_memory_flags.options_from(arguments, seed), clock)


def _mongo_options() -> tuple[Option, ...]:
    from stalewatch.clients.mongodb.options import OPTIONS  # noqa: PLC0415

    return OPTIONS


def _mongo(arguments: object, users: int, _seed: int, clock: Clock) -> Client:
    from stalewatch.clients.mongodb.client import MongoDatabaseClient  # noqa: PLC0415
    from stalewatch.clients.mongodb.options import options_from  # noqa: PLC0415

    return MongoDatabaseClient(options_from(arguments, pool_size=users + SPARE_CONNECTIONS), clock)


def _cassandra_options() -> tuple[Option, ...]:
    from stalewatch.clients.cassandra.options import OPTIONS  # noqa: PLC0415

    return OPTIONS


def _cassandra(arguments: object, _users: int, _seed: int, clock: Clock) -> Client:
    from stalewatch.clients.cassandra.client import CassandraDatabaseClient  # noqa: PLC0415
    from stalewatch.clients.cassandra.options import options_from  # noqa: PLC0415

    return CassandraDatabaseClient(options_from(arguments), clock)


def _cassandra_servers(arguments: object) -> Servers:
    from stalewatch.clients.cassandra.servers import CassandraServers  # noqa: PLC0415

    return CassandraServers(arguments)


def _couch_options() -> tuple[Option, ...]:
    from stalewatch.clients.couchdb.options import OPTIONS  # noqa: PLC0415

    return OPTIONS


def _couch(arguments: object, _users: int, seed: int, clock: Clock) -> Client:
    from stalewatch.clients.couchdb.options import options_from  # noqa: PLC0415

    options = options_from(arguments, seed)
    try:
        from stalewatch.clients.couchdb.client import CouchClient  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise BadAddress(f"loading CouchDB needs a package: pip install {error.name}") from None
    return CouchClient(options, clock)


def _mongo_servers(arguments: object) -> Servers:
    from stalewatch.clients.mongodb.servers import MongoServers  # noqa: PLC0415

    return MongoServers(arguments)


def _mongo_claims(arguments: object) -> Claims:
    from stalewatch.clients.mongodb.claims import MongoClaims  # noqa: PLC0415

    return MongoClaims(arguments)


def _couch_servers(arguments: object) -> Servers:
    from stalewatch.clients.couchdb.servers import CouchServers  # noqa: PLC0415

    return CouchServers(arguments)


DATABASES: dict[str, Database] = {
    "mongo": Database(
        "a MongoDB replica set: a single leader with followers",
        _mongo_options,
        _mongo,
        addresses=("mongo_uri",),
        servers=_mongo_servers,
        claims=_mongo_claims,
    ),
    "cassandra": Database(
        "a Cassandra ring: no leader, quorums",
        _cassandra_options,
        _cassandra,
        addresses=("hosts",),
        servers=_cassandra_servers,
    ),
    "couch": Database(
        "two CouchDB leaders: both take writes, and conflicts arise",
        _couch_options,
        _couch,
        addresses=("couch_a", "couch_b"),
        servers=_couch_servers,
    ),
    "memory": Database(
        "a simulated store with a known truth, in simulated time",
        lambda: clients_memory_flags.OPTIONS,
        _memory,
        clock=SimulatedClock,
    ),
}
