"""Lists and counters in Cassandra, each in a table of its own next to that of the registers.

A list is a partition with a row per item. Rows of different items do not affect each other, whatever their timestamps,
so an item can disappear only if a replica lost it or never had it. There are no empty partitions: a list exists from
its first item on.

A counter is a row that is incremented by lightweight transactions, whether `--lwt` is on or not. A column of
Cassandra's type counter does not return the result of an increment, and a later read may include the increments of
others, so no id could be drawn from it. Nor could one be drawn by a read and a plain write, at whatever level: two
sessions that read the same number would both take the next one. What remains is a write on condition that the number
has not changed.
"""

from collections.abc import Sequence
from typing import Any

from cassandra.cluster import ResponseFuture
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.connection import CassandraAccess
from stalewatch.clients.cassandra.schema import COUNTERS, LISTS, Values, ensure_table, shown
from stalewatch.clients.protocol import Answer

DRAW_ATTEMPTS = 50
"""Attempts of a draw while other sessions draw first; each attempt takes a few milliseconds."""


class CassandraLists:
    """The table of lists, created if missing; raises driver exceptions and `ClientError`.

    `append` is the statement to execute with `append_values`.
    """

    append: PreparedStatement

    def __init__(self, access: CassandraAccess) -> None:
        options = access.options
        self._access = access
        self._timestamped = not options.lwt and options.timestamps != "server"
        table = ensure_table(access.session, options, LISTS)
        timestamp = " USING TIMESTAMP ?" if self._timestamped else ""
        condition = " IF NOT EXISTS" if options.lwt else ""
        insert = f"INSERT INTO {table} (k, i) VALUES (?, ?){condition}{timestamp}"  # noqa: S608 # a validated name
        items = f"SELECT i FROM {table} WHERE k = ?"  # noqa: S608 # as above
        self.append = access.prepare(insert, options.write_cl)
        self._read_first = access.prepare(f"{items} LIMIT 1", "ALL")
        self._read_all_replicas = access.prepare(items, "ALL")
        self._read_serial = access.prepare(items, access.serial_level)
        self._delete = access.prepare(f"DELETE FROM {table}{timestamp} WHERE k = ?", "QUORUM")  # noqa: S608 # as above

    def append_values(self, key: str, item: str, time_us: int) -> Values:
        """Return the values to bind to `append`; the time is left out if the servers choose the timestamp."""
        return (key, item, time_us) if self._timestamped else (key, item)

    def refuse_existing(self, keys: Sequence[str]) -> None:
        """Raise `ClientError` if any of the lists has items."""
        self._access.refuse_existing(keys, shown(self._access.options, LISTS), self._read_first)

    def final(self, key: str) -> tuple[list[str | int], ResponseFuture]:
        """Return the items that any replica has, and the future of the first page, which knows its coordinator.

        Conditional appends that were interrupted are completed first.
        """
        if self._access.options.lwt:
            list(self._access.session.execute(self._read_serial, (key,)))
        future = self._access.session.execute_async(self._read_all_replicas, (key,))
        return [item for (item,) in future.result()], future

    def remove(self, keys: Sequence[str], time_us: int) -> None:
        """Delete lists."""
        self._access.execute_each(self._delete, [(time_us, key) if self._timestamped else (key,) for key in keys])


class CassandraCounters:
    """The table of counters, created if missing; raises driver exceptions and `ClientError`.

    `increment` is the statement that replaces one number by another; bind the new number, the key and the old number.
    """

    increment: PreparedStatement

    def __init__(self, access: CassandraAccess) -> None:
        self._access = access
        table = ensure_table(access.session, access.options, COUNTERS)
        update = f"UPDATE {table} SET n = ? WHERE k = ? IF n = ?"  # noqa: S608 # a validated name
        self.increment = access.prepare(update, access.options.write_cl)
        self._create = access.prepare(f"INSERT INTO {table} (k, n) VALUES (?, 0) IF NOT EXISTS", "ALL")  # noqa: S608 # as above
        self._read = access.prepare(f"SELECT n FROM {table} WHERE k = ?", "ALL")  # noqa: S608 # as above
        self._delete = access.prepare(f"DELETE FROM {table} WHERE k = ? IF EXISTS", "QUORUM")  # noqa: S608 # as above

    def refuse_existing(self, keys: Sequence[str]) -> None:
        """Raise `ClientError` if any of the counters exists."""
        name = shown(self._access.options, COUNTERS)
        self._access.refuse_existing(keys, name, self._read, lambda row: row is not None and row[0] is not None)

    def create(self, keys: Sequence[str]) -> None:
        """Create counters at 0, on all replicas."""
        self._access.execute_each(self._create, [(key,) for key in keys])

    def remove(self, keys: Sequence[str]) -> None:
        """Delete counters."""
        self._access.execute_each(self._delete, [(key,) for key in keys])


class Draws:
    """The draws of one session: each tries to increment the number seen last; a rejection returns the current one.

    A rejection is certain: if a proposal may have been accepted although another came first, Cassandra answers that the
    result is unknown.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def values(self, key: str) -> Values:
        """Return the values to bind to `CassandraCounters.increment`."""
        seen = self._seen.get(key, 0)
        return (seen + 1, key, seen)

    def answer(self, key: str, row: tuple[Any, ...], node: str) -> Answer:
        """Return the answer to the last attempt: the id, or superseded if another session drew first."""
        drawn = bool(row[0])
        current = self._seen.get(key, 0) + 1 if drawn else row[1] if len(row) > 1 else None
        if current is None:
            return Answer("fail", node=node, error="missing")
        self._seen[key] = current
        return Answer(version=current if drawn else None, node=node, superseded=not drawn)
