"""The keyspace, and the tables that hold registers, lists and counters: found, or created where they are missing.

A register is a row. Its value is one column, a tuple with the version first: columns of a row can come from different
writes where these have the same timestamp, the parts of one column cannot, and of two such writes the greater value
wins, which is that of the newer version. A list is a partition with a row an item, a counter a row that is changed on
condition; their tables are looked for when there are to be lists or counters.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cassandra.cluster import Session

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Value
from stalewatch.history.operation import Depends


class Layout(NamedTuple):
    """A table: what its name ends in, its columns, and its primary key."""

    suffix: str
    columns: Mapping[str, str]
    key: str


REGISTERS = Layout("", {"k": "text", "d": "frozen<tuple<bigint, text, text, bigint, text, text>>"}, "k")
"""The key; version, author, the three parts of the dependency, padding."""

LISTS = Layout("_lists", {"k": "text", "i": "text"}, "k, i")
"""The list, the item."""

COUNTERS = Layout("_counters", {"k": "text", "n": "bigint"}, "k")
"""The counter, the last id that was drawn."""

NEW_REPLICAS = 3
CHANGE_S = 20.0
"""How long a change of the schema may take; a busy ring needs seconds."""

_NEW_TABLE = {"read_repair": "BLOCKING", "speculative_retry": "NEVER"}

Stored = tuple[int, str, str | None, int | None, str | None, str | None]


class Table(NamedTuple):
    """What is in force: replicas of each key by data center, and the table's properties that matter to reads."""

    replicas: Mapping[str, str]
    read_repair: str
    speculative_retry: str

    def settings(self) -> dict[str, object]:
        """Return them for reports."""
        replicas = ", ".join(f"{name} {count}" for name, count in sorted(self.replicas.items()))
        return {"replicas": replicas, **{name: value for name, value in self._asdict().items() if name != "replicas"}}


def stored(value: Value) -> Stored:
    """Return a value as it is stored."""
    depends = value.depends
    if depends is None:
        return (value.version, value.author, None, None, None, value.payload or None)
    return (value.version, value.author, depends.key, depends.version, depends.cause, value.payload or None)


def depends(found: Stored) -> Depends | None:
    """Return what a stored value depends on."""
    key, version = found[2], found[3]
    return None if key is None or version is None else Depends(key=key, version=version, cause=found[4])


def prepare(session: Session, options: CassandraClientOptions, data_centers: Mapping[str, int]) -> Table:
    """Find or create keyspace and table, and set what the options ask for; raise `ClientError` where it cannot be so.

    `data_centers` are the names, and how many nodes each has.
    """
    replicas = _keyspace(session, options) or _create_keyspace(session, options, data_centers)
    properties = _table(session, options, REGISTERS) or _create_table(session, options, REGISTERS)
    wanted = {
        "read_repair": options.read_repair and options.read_repair.upper(),
        "speculative_retry": options.speculative_retry,
    }
    changed = {name: value for name, value in wanted.items() if value and not _alike(value, properties[name])}
    if changed:
        _change(session, f"ALTER TABLE {options.keyspace}.{options.table} WITH {_properties(changed)}")
    return Table(replicas, **{**properties, **changed})


def ensure(session: Session, options: CassandraClientOptions, layout: Layout) -> str:
    """Find or create a table beside that of the registers, and return its name; raise `ClientError` where it cannot be.

    Not by several processes at once: each might create it, and one of the two would be dropped with what it holds.
    """
    if _table(session, options, layout) is None:
        _create_table(session, options, layout)
    return _name(options, layout)


def _name(options: CassandraClientOptions, layout: Layout) -> str:
    return f"{options.keyspace}.{options.table}{layout.suffix}"


def _alike(one: str, other: str) -> bool:
    return one.upper().removesuffix("ERCENTILE") == other.upper().removesuffix("ERCENTILE")


def _keyspace(session: Session, options: CassandraClientOptions) -> Mapping[str, str] | None:
    row = _first(
        session, "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s", [options.keyspace]
    )
    if row is None:
        return None
    found = {name: value for name, value in row[0].items() if name != "class"}
    if options.rf is not None and set(found.values()) != {str(options.rf)}:
        shown = ", ".join(f"{name} {value}" for name, value in sorted(found.items()))
        raise BadAddress(
            f"--rf {options.rf}: the keyspace {options.keyspace} exists with another number of replicas ({shown}); "
            "use another --keyspace, or leave --rf out"
        )
    return found


def _create_keyspace(
    session: Session, options: CassandraClientOptions, data_centers: Mapping[str, int]
) -> Mapping[str, str]:
    replicas = options.rf or NEW_REPLICAS
    for name, nodes in data_centers.items():
        if nodes < replicas:
            raise BadAddress(
                f"--rf {replicas}: the data center {name} has {nodes} nodes only; give a smaller --rf, or add nodes"
            )
    placed = ", ".join(f"'{name}': {replicas}" for name in data_centers)
    _change(
        session,
        f"CREATE KEYSPACE IF NOT EXISTS {options.keyspace} "
        f"WITH replication = {{'class': 'NetworkTopologyStrategy', {placed}}}",
    )
    return dict.fromkeys(data_centers, str(replicas))


def _table(session: Session, options: CassandraClientOptions, layout: Layout) -> dict[str, str] | None:
    where = "WHERE keyspace_name = %s AND table_name = %s"
    name = [options.keyspace, f"{options.table}{layout.suffix}"]
    row = _first(session, f"SELECT read_repair, speculative_retry FROM system_schema.tables {where}", name)  # noqa: S608 # words of this module
    if row is None:
        return None
    columns = session.execute(f"SELECT column_name, type FROM system_schema.columns {where}", name)  # noqa: S608 # as above
    if dict(columns) != layout.columns:
        raise ClientError(
            f"the table {_name(options, layout)} exists with other columns than {_columns(layout)}: use another --table"
        )
    return {"read_repair": row[0], "speculative_retry": row[1]}


def _create_table(session: Session, options: CassandraClientOptions, layout: Layout) -> dict[str, str]:
    _change(
        session,
        f"CREATE TABLE IF NOT EXISTS {_name(options, layout)} ({_columns(layout)}, PRIMARY KEY ({layout.key})) "
        f"WITH {_properties(_NEW_TABLE)}",
    )
    return dict(_NEW_TABLE)


def _change(session: Session, text: str) -> None:
    """Change the schema, and wait until all nodes that are up know of it."""
    session.execute(text, timeout=CHANGE_S)
    # The driver waits by itself only where it keeps a copy of the schema.
    session.cluster.control_connection.wait_for_schema_agreement(wait_time=CHANGE_S)


def _columns(layout: Layout) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in layout.columns.items())


def _properties(properties: Mapping[str, str]) -> str:
    return " AND ".join(f"{name} = '{value}'" for name, value in properties.items())


def _first(session: Session, text: str, values: Iterable[str]) -> Any:  # noqa: ANN401 # a row
    return session.execute(text, values).one()
