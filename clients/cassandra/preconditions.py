"""Checks, before a run, of what exists already and could falsify its verdict: addresses, the keyspace, the tables.

A table whose rows expire would be reported as losing acknowledged writes; one with another primary key or a static
column keeps fewer values than the run wrote. Each refusal names the object, its property, and what to do.

Not refused, since verdicts stay true: `gc_grace_seconds` of 0 (a deleted row may come back, but a run deletes only
after its final reads; hints expire at once, so replicas stay behind longer, which is what users would see),
`durable_writes` off and `commitlog` settings (a crash loses acknowledged writes, for users too), compaction, caching
and compression (no effect on what a read returns), secondary indexes, and views on the table.
"""

import socket
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cassandra import InvalidRequest
from cassandra.cluster import Session

from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.errors import BadAddress


class TableLayout(NamedTuple):
    """A table: the suffix of its name, its columns with their types, and its primary key."""

    suffix: str
    columns: Mapping[str, str]
    key: str

    @property
    def kinds(self) -> dict[str, tuple[str, str]]:
        """The type and the kind of every column; the first column of the key is the partition key."""
        first, *others = self.key.split(", ")
        kinds = {first: "partition_key", **dict.fromkeys(others, "clustering")}
        return {name: (kind, kinds.get(name, "regular")) for name, kind in self.columns.items()}


_LOCAL = ("LocalStrategy", "EverywhereStrategy")


def check_hosts(options: CassandraClientOptions) -> None:
    """Raise `BadAddress` if two of `--hosts` are one address, or one cannot be an address.

    The driver does not mind a node that is named twice, but usually another one was meant.
    """
    named: dict[frozenset[str], str] = {}
    for host, port in options.contact_points:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            continue  # the driver says which names do not resolve
        places = frozenset(":".join(map(str, place[:2])) for *_, place in found)
        if places in named:
            raise BadAddress(
                f"--hosts names one node twice: {named[places]} and {host}:{port} are both "
                f"{', '.join(sorted(places))}; name each node once"
            )
        named[places] = f"{host}:{port}"


def check_keyspace(name: str, replication: Mapping[str, str]) -> None:
    """Raise `BadAddress` for a keyspace whose replication falsifies verdicts."""
    strategy = replication["class"].rpartition(".")[2]
    if strategy in _LOCAL:
        raise BadAddress(
            f"the keyspace {name} has {strategy}, which is for Cassandra's own tables; use another --keyspace"
        )
    for place, replicas in replication.items():
        if "/" in replicas:
            raise BadAddress(
                f"the keyspace {name} has transient replicas ({place} {replicas}), which drop what they hold, so that "
                "a final read of all replicas proves nothing; use another --keyspace"
            )


def check_table(session: Session, keyspace: str, table: str, layout: TableLayout) -> Mapping[str, Any] | None:
    """Return the properties of a table, or None if there is none.

    Raises `BadAddress` if it does not fit, or if a view has that name, and driver exceptions.
    """
    found = _rows(session, "tables", keyspace, table)
    defect = next(_defects(session, keyspace, table, layout, found[0]), None) if found else None
    if not found and _rows(session, "views", keyspace, table, "view_name"):
        defect = "is a materialized view, which cannot be written"
    if defect is not None:
        raise BadAddress(f"the table {keyspace}.{table} {defect}; use another --table")
    return found[0] if found else None


def _defects(
    session: Session, keyspace: str, table: str, layout: TableLayout, properties: Mapping[str, Any]
) -> Iterator[str]:
    if properties["default_time_to_live"]:
        yield (
            f"has default_time_to_live = {properties['default_time_to_live']}, by which rows expire, which would be "
            "reported as lost"
        )
    columns = _rows(session, "columns", keyspace, table)
    kinds = {row["column_name"]: (row["type"], row["kind"]) for row in columns}
    for name in sorted({*kinds, *layout.kinds}):
        if kinds.get(name) != layout.kinds.get(name):
            has, needs = _column(name, kinds.get(name)), _column(name, layout.kinds.get(name))
            yield f"exists with columns other than a run's: it has {has}, a run needs {needs}"
    for trigger in _rows(session, "triggers", keyspace, table):
        yield f"has the trigger {trigger['trigger_name']}, which may change what a write stores"
    for mask in _rows(session, "column_masks", keyspace, table):
        yield f"masks its column {mask['column_name']}, so that reads do not return what is stored"


def _column(name: str, kind: tuple[str, str] | None) -> str:
    return f"no {name}" if kind is None else f"{name} {kind[0]} ({kind[1].replace('_', ' ')})"


def _rows(
    session: Session, schema_table: str, keyspace: str, table: str, column: str = "table_name"
) -> list[dict[str, Any]]:
    """Return the rows about a table in one of the schema's own tables; nothing if this version has no such table."""
    query = f"SELECT * FROM system_schema.{schema_table} WHERE keyspace_name = %s AND {column} = %s"  # noqa: S608 # constants of this module
    try:
        result = session.execute(query, [keyspace, table])
    except InvalidRequest:
        return []
    return [dict(zip(result.column_names, row, strict=True)) for row in result]
