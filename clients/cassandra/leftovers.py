"""What killed runs left in a keyspace: rows of the table, its lists and its counters that are named after their run."""

from collections.abc import Iterable, Sequence

from cassandra import ConsistencyLevel, InvalidRequest
from cassandra.query import SimpleStatement

from stalewatch.clients.cassandra.connection import open_cluster
from stalewatch.clients.cassandra.diagnosis import explained
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.schema import COUNTERS, LISTS, REGISTERS, quoted, shown
from stalewatch.clients.preload import run_of
from stalewatch.clients.protocol import Leftover

PAGE_ROWS = 5000


class CassandraLeftovers:
    """The partitions of runs in the tables that a run may use."""

    def __init__(self, options: CassandraClientOptions) -> None:
        """Connect; raise a `ClientError`."""
        options.check()
        self._options = options
        self._tables = {shown(options, layout): quoted(options, layout) for layout in (REGISTERS, LISTS, COUNTERS)}
        self._cluster = open_cluster(options)
        with explained(options):
            self._session = self._cluster.connect()

    def find(self) -> Iterable[Leftover]:
        """Return the partitions of runs; raise a `ClientError`."""
        with explained(self._options):
            found = [(place, key) for place, table in self._tables.items() for key in self._keys(table)]
        return [Leftover(run, place, key) for place, key in found if (run := run_of(key))]

    def _keys(self, table: str) -> Iterable[str]:
        query = f"SELECT DISTINCT k FROM {table}"  # noqa: S608 # validated names
        try:
            rows = self._session.execute(SimpleStatement(query, fetch_size=PAGE_ROWS, consistency_level=_QUORUM))
        except InvalidRequest:
            return []  # there is no such table
        return [key for (key,) in rows]

    def remove(self, found: Sequence[Leftover]) -> None:
        """Delete the partitions; raise a `ClientError`."""
        with explained(self._options):
            for place, table in self._tables.items():
                delete = self._session.prepare(f"DELETE FROM {table} WHERE k = ?") if _of(found, place) else None  # noqa: S608 # as above
                for one in _of(found, place):
                    assert delete is not None  # noqa: S101 # there is one to delete
                    delete.consistency_level = _QUORUM
                    self._session.execute(delete, (one.key,))

    def close(self) -> None:
        """Close the connections."""
        self._cluster.shutdown()


_QUORUM = ConsistencyLevel.QUORUM


def _of(found: Sequence[Leftover], place: str) -> list[Leftover]:
    return [one for one in found if one.place == place]
