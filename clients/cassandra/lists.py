"""Lists in Cassandra: a partition a list, a row an item.

Rows of different items do not touch each other, whatever their timestamps are, so nothing but a replica that lost it,
or never had it, makes an item disappear. There is no empty partition: a list exists from its first item on.
"""

from collections.abc import Sequence

from cassandra.cluster import ResponseFuture
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.batches import for_each
from stalewatch.clients.cassandra.connection import Access, prepared, serial
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.schema import LISTS, ensure
from stalewatch.clients.cassandra.writes import Values
from stalewatch.clients.errors import ClientError


class Lists:
    """The lists of one table, which is created where it is missing (raises what the driver raises, or `ClientError`).

    `append`: the statement that appends; with `values` bound to it.
    """

    append: PreparedStatement

    def __init__(self, access: Access, options: CassandraClientOptions) -> None:
        self._session = access.session
        self._timed = not options.lwt and options.timestamps != "server"
        self._lwt = options.lwt
        self._table = table = ensure(access.session, options, LISTS)

        def statement(text: str, level: str) -> PreparedStatement:
            return prepared(access.session, options, text, level)

        time = " USING TIMESTAMP ?" if self._timed else ""
        condition = " IF NOT EXISTS" if options.lwt else ""
        items = f"SELECT i FROM {table} WHERE k = ?"  # noqa: S608 # a name that was looked at
        self.append = statement(f"INSERT INTO {table} (k, i) VALUES (?, ?){condition}{time}", options.write_cl)  # noqa: S608 # as above
        self._look = statement(f"{items} LIMIT 1", "ALL")
        self._all = statement(items, "ALL")
        self._agree = statement(items, serial(options))
        self._delete = statement(f"DELETE FROM {table}{time} WHERE k = ?", "QUORUM")  # noqa: S608 # as above

    def values(self, key: str, item: str, time_us: int) -> Values:
        """Return what is bound to `append`; the time is not used where the servers give it."""
        return (key, item, time_us) if self._timed else (key, item)

    def refuse_existing(self, keys: Sequence[str]) -> None:
        """Raise `ClientError` for a list that has items already."""
        found = for_each(self._session, self._look, [(key,) for key in keys])
        for key, rows in zip(keys, found, strict=True):
            if rows.one() is not None:
                raise ClientError(
                    f"the list {key!r} exists already in {self._table}: another run's leftovers; delete them, or use "
                    "another --table"
                )

    def final(self, key: str) -> tuple[list[str | int], ResponseFuture]:
        """Return all items that any replica has, and who coordinated the first page of them.

        What a conditional append left unfinished is finished first.
        """
        if self._lwt:
            list(self._session.execute(self._agree, (key,)))
        future = self._session.execute_async(self._all, (key,))
        return [item for (item,) in future.result()], future

    def remove(self, keys: Sequence[str], time_us: int) -> None:
        """Delete lists."""
        for_each(self._session, self._delete, [(time_us, key) if self._timed else (key,) for key in keys])
