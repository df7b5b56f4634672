"""The keyspace and the tables of registers, lists and counters, and the write paths of registers.

A register is a row whose value is one column, a tuple that starts with the version. Columns of a row can come from
different writes if these have the same timestamp; the parts of one column cannot, and of two such writes the greater
value wins, which is the newer version. A list is a partition with a row per item, a counter a row that is updated
conditionally; their tables are found or created only when lists or counters are used.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from cassandra.cluster import Session

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.preconditions import TableLayout, check_keyspace, check_table
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Answer, Value
from stalewatch.history.operation import Depends

REGISTERS = TableLayout("", {"k": "text", "d": "frozen<tuple<bigint, text, text, bigint, text, text>>"}, "k")
"""The key; version, author, the three parts of the dependency, and padding."""

LISTS = TableLayout("_lists", {"k": "text", "i": "text"}, "k, i")
"""The list, and the item."""

COUNTERS = TableLayout("_counters", {"k": "text", "n": "bigint"}, "k")
"""The counter, and the id drawn last."""

DEFAULT_REPLICAS = 3
SCHEMA_CHANGE_S = 20.0
"""Time limit of a schema change; a busy ring needs seconds."""

_NEW_TABLE = {"read_repair": "BLOCKING", "speculative_retry": "NEVER"}

StoredValue = tuple[int, str, str | None, int | None, str | None, str | None]
Values = tuple[object, ...]


class TableSettings(NamedTuple):
    """Settings in force: replicas of each key by data center, and the properties of the table that affect reads."""

    replicas: Mapping[str, str]
    read_repair: str
    speculative_retry: str

    def report(self) -> dict[str, object]:
        """Return the settings as results print them."""
        replicas = ", ".join(f"{name} {count}" for name, count in sorted(self.replicas.items()))
        return {**self._asdict(), "replicas": replicas}


def stored(value: Value) -> StoredValue:
    """Return a value as the tuple that is stored."""
    depends = value.depends
    if depends is None:
        return (value.version, value.author, None, None, None, value.payload or None)
    return (value.version, value.author, depends.key, depends.version, depends.cause, value.payload or None)


def dependency(found: StoredValue) -> Depends | None:
    """Return what a stored value depends on."""
    key, version = found[2], found[3]
    return None if key is None or version is None else Depends(key=key, version=version, cause=found[4])


class WritePath(NamedTuple):
    """The CQL texts and values to bind for registers; one path for each rule that decides which of two writes wins.

    The functions take the key, the stored value, and the time in microseconds.
    """

    write: str
    create: str
    delete: str
    write_values: Callable[[str, StoredValue, int], Values]
    create_values: Callable[[str, StoredValue, int], Values]
    delete_values: Callable[[str, int], Values]
    answer: Callable[[Any, str], Answer]
    """Returns the answer of a write, given the row in its response and the node."""


def _applied(_: None, node: str) -> Answer:
    return Answer("ok", None, node)


def _applied_if_newer(row: tuple[Any, ...], node: str) -> Answer:
    """Return the result of a condition: applied, superseded by what is stored, or failed because there is no row."""
    if row[0]:
        return Answer(node=node)
    current = row[1] if len(row) > 1 else None
    return Answer("fail", node=node, error="missing") if current is None else Answer(node=node, superseded=True)


_INSERT = "INSERT INTO {table} (k, d) VALUES (?, ?)"
_DELETE = "DELETE FROM {table} WHERE k = ?"

# Cassandra keeps the value with the greatest timestamp, in whatever order writes arrive. Here that is the time at which
# the write began, which the recorder takes in the same step as the version, so that it rises with the version. If two
# writes begin in the same microsecond, the greater value wins, and a value starts with its version.
BY_VERSION = WritePath(
    write=f"{_INSERT} USING TIMESTAMP ?",
    create=f"{_INSERT} USING TIMESTAMP ?",
    delete="DELETE FROM {table} USING TIMESTAMP ? WHERE k = ?",
    write_values=lambda key, value, time_us: (key, value, time_us),
    create_values=lambda key, value, time_us: (key, value, time_us),
    delete_values=lambda key, time_us: (time_us, key),
    answer=_applied,
)
BY_SERVER_CLOCK = WritePath(
    write=_INSERT,
    create=_INSERT,
    delete=_DELETE,
    write_values=lambda key, value, _: (key, value),
    create_values=lambda key, value, _: (key, value),
    delete_values=lambda key, _: (key,),
    answer=_applied,
)
# Paxos assigns the timestamps of conditional writes: if any write of a key is conditional, all must be.
BY_CONDITION = WritePath(
    write="UPDATE {table} SET d = ? WHERE k = ? IF d < ?",
    create=f"{_INSERT} IF NOT EXISTS",
    delete=f"{_DELETE} IF EXISTS",
    write_values=lambda key, value, _: (value, key, value),
    create_values=lambda key, value, _: (key, value),
    delete_values=lambda key, _: (key,),
    answer=_applied_if_newer,
)


def write_path(options: CassandraClientOptions) -> WritePath:
    """Return the write path that the options ask for."""
    if options.lwt:
        return BY_CONDITION
    return BY_SERVER_CLOCK if options.timestamps == "server" else BY_VERSION


def ensure_registers(
    session: Session, options: CassandraClientOptions, data_centers: Mapping[str, int]
) -> TableSettings:
    """Find or create the keyspace and the table of registers, apply the options, and return the settings in force.

    `data_centers` are their names with the number of nodes. Raises `ClientError` for a keyspace or table that does not
    fit, and driver exceptions.
    """
    replicas = _find_keyspace(session, options) or _create_keyspace(session, options, data_centers)
    properties = _find_table(session, options, REGISTERS) or _create_table(session, options, REGISTERS)
    wanted = {
        "read_repair": options.read_repair and options.read_repair.upper(),
        "speculative_retry": options.speculative_retry,
    }
    changed = {name: value for name, value in wanted.items() if value and not _same(value, properties[name])}
    if changed:
        _change(session, f"ALTER TABLE {quoted(options)} WITH {_properties(changed)}")
    return TableSettings(replicas, **{**properties, **changed})


def ensure_table(session: Session, options: CassandraClientOptions, layout: TableLayout) -> str:
    """Find or create another table, and return its quoted name; raise `ClientError` for one that does not fit.

    Not to be called by several processes at once: each might create the table, and one of the two would be dropped
    along with its rows.
    """
    if _find_table(session, options, layout) is None:
        _create_table(session, options, layout)
    return quoted(options, layout)


def quoted(options: CassandraClientOptions, layout: TableLayout = REGISTERS) -> str:
    """Return the name of a table for a statement: quoted, it may have upper case, or be a reserved word."""
    return f'"{options.keyspace}"."{options.table}{layout.suffix}"'


def shown(options: CassandraClientOptions, layout: TableLayout = REGISTERS) -> str:
    """Return the name of a table for a message."""
    return f"{options.keyspace}.{options.table}{layout.suffix}"


def _same(one: str, other: str) -> bool:
    return one.upper().removesuffix("ERCENTILE") == other.upper().removesuffix("ERCENTILE")


def _find_keyspace(session: Session, options: CassandraClientOptions) -> Mapping[str, str] | None:
    query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"
    row = _first(session, query, [options.keyspace])
    if row is None:
        return None
    check_keyspace(options.keyspace, row[0])
    found = {name: value for name, value in row[0].items() if name != "class"}
    if options.rf is not None and set(found.values()) != {str(options.rf)}:
        shown = ", ".join(f"{name} {value}" for name, value in sorted(found.items()))
        raise BadAddress(
            f"--rf {options.rf}: the keyspace {options.keyspace} exists with a different number of replicas ({shown}); "
            "use another --keyspace, or omit --rf"
        )
    return found


def _create_keyspace(
    session: Session, options: CassandraClientOptions, data_centers: Mapping[str, int]
) -> Mapping[str, str]:
    replicas = options.rf or DEFAULT_REPLICAS
    for name, nodes in data_centers.items():
        if nodes < replicas:
            raise BadAddress(
                f"--rf {replicas}: the data center {name} has only {nodes} nodes; give a smaller --rf, or add nodes"
            )
    placement = ", ".join(f"'{name}': {replicas}" for name in data_centers)
    _change(
        session,
        f'CREATE KEYSPACE IF NOT EXISTS "{options.keyspace}" '
        f"WITH replication = {{'class': 'NetworkTopologyStrategy', {placement}}}",
    )
    return dict.fromkeys(data_centers, str(replicas))


def _find_table(session: Session, options: CassandraClientOptions, layout: TableLayout) -> dict[str, str] | None:
    _await_agreement(session)  # else this node may know of a table, but not yet of all its columns
    found = check_table(session, options.keyspace, f"{options.table}{layout.suffix}", layout)
    if found is None:
        return None
    missing = [name for name in _NEW_TABLE if name not in found]
    if missing:
        raise ClientError(f"the servers' tables have no property {missing[0]}: a run needs Cassandra 4.0 or newer")
    return {name: found[name] for name in _NEW_TABLE}


def _create_table(session: Session, options: CassandraClientOptions, layout: TableLayout) -> dict[str, str]:
    _change(
        session,
        f"CREATE TABLE IF NOT EXISTS {quoted(options, layout)} ({_columns(layout)}, PRIMARY KEY ({layout.key})) "
        f"WITH {_properties(_NEW_TABLE)}",
    )
    return dict(_NEW_TABLE)


def _change(session: Session, text: str) -> None:
    """Change the schema, and wait until all nodes that are up agree on it."""
    session.execute(text, timeout=SCHEMA_CHANGE_S)
    _await_agreement(session)  # the driver waits by itself only if it keeps a copy of the schema


def _await_agreement(session: Session) -> None:
    session.cluster.control_connection.wait_for_schema_agreement(wait_time=SCHEMA_CHANGE_S)


def _columns(layout: TableLayout) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in layout.columns.items())


def _properties(properties: Mapping[str, str]) -> str:
    return " AND ".join(f"{name} = '{value}'" for name, value in properties.items())


def _first(session: Session, text: str, values: Iterable[str]) -> Any:  # noqa: ANN401 # a row
    return session.execute(text, values).one()
