"""How a write is put, by what decides which of two wins: the version, the servers' clocks, or a condition.

Cassandra keeps the value with the greatest timestamp, whatever the order in which writes arrive. By version, that is
the time at which the write began, which the recorder takes in one step with the version: so it rises with it. Where two
begin in the same microsecond the greater value wins, and a value begins with its version.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.schema import Stored
from stalewatch.clients.protocol import Answer

Values = tuple[object, ...]


class Way(NamedTuple):
    """The texts of a write, of the creation of a key and of its deletion, and what is bound to them.

    The functions take the key, the value, and the time in microseconds.
    """

    write: str
    create: str
    delete: str
    written: Callable[[str, Stored, int], Values]
    created: Callable[[str, Stored, int], Values]
    deleted: Callable[[str, int], Values]
    result: Callable[[Any, str], Answer]
    """What the row that answers a write means; it also takes the node."""


def _confirmed(_: None, node: str) -> Answer:
    return Answer("ok", None, node)


def _if_newer(row: tuple[Any, ...], node: str) -> Answer:
    """Return what a condition came to: applied, or refused for what stands there, or for there being no row."""
    if row[0]:
        return Answer(node=node)
    stands = row[1] if len(row) > 1 else None
    return Answer("fail", node=node, error="missing") if stands is None else Answer(node=node, superseded=True)


_INSERT = "INSERT INTO {table} (k, d) VALUES (?, ?)"
_DELETE = "DELETE FROM {table} WHERE k = ?"

BY_VERSION = Way(
    write=f"{_INSERT} USING TIMESTAMP ?",
    create=f"{_INSERT} USING TIMESTAMP ?",
    delete="DELETE FROM {table} USING TIMESTAMP ? WHERE k = ?",
    written=lambda key, value, time_us: (key, value, time_us),
    created=lambda key, value, time_us: (key, value, time_us),
    deleted=lambda key, time_us: (time_us, key),
    result=_confirmed,
)
BY_SERVER = Way(
    write=_INSERT,
    create=_INSERT,
    delete=_DELETE,
    written=lambda key, value, _: (key, value),
    created=lambda key, value, _: (key, value),
    deleted=lambda key, _: (key,),
    result=_confirmed,
)
# Conditional writes get their times from the servers' agreement: where any is used, all must be.
BY_CONDITION = Way(
    write="UPDATE {table} SET d = ? WHERE k = ? IF d < ?",
    create=f"{_INSERT} IF NOT EXISTS",
    delete=f"{_DELETE} IF EXISTS",
    written=lambda key, value, _: (value, key, value),
    created=lambda key, value, _: (key, value),
    deleted=lambda key, _: (key,),
    result=_if_newer,
)


def way(options: CassandraClientOptions) -> Way:
    """Return how the options ask for writes."""
    if options.lwt:
        return BY_CONDITION
    return BY_SERVER if options.timestamps == "server" else BY_VERSION
