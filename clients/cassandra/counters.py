"""Counters in Cassandra: a row a counter, raised by lightweight transactions.

A column of Cassandra's type counter does not say what an increment made of it, and a read after it may show the
increments of others too: no id could be drawn from one. Nor from a read and a plain write, whatever their levels: of
two sessions that read the same number both would take the next one. What remains is a write on condition that the
number still stands. It is a lightweight transaction whether `--lwt` is on or not.
"""

from collections.abc import Sequence
from typing import Any

from cassandra.cluster import Session
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.batches import for_each
from stalewatch.clients.cassandra.connection import Access, prepared
from stalewatch.clients.cassandra.options import CassandraClientOptions
from stalewatch.clients.cassandra.schema import COUNTERS, ensure
from stalewatch.clients.cassandra.writes import Values
from stalewatch.clients.errors import ClientError
from stalewatch.clients.protocol import Answer

ATTEMPTS = 50
"""How often a draw begins anew because another session was faster; each attempt takes some milliseconds."""


class Counters:
    """The counters of one table, which is created where it is missing.

    Raises what the driver raises, or `ClientError`. `raise_from` is the statement that puts a number in the place of
    another: bound to it are the new one, the key, and the number that must stand.
    """

    raise_from: PreparedStatement

    def __init__(self, access: Access, options: CassandraClientOptions) -> None:
        self._session: Session = access.session
        self._table = table = ensure(access.session, options, COUNTERS)

        def statement(text: str, level: str) -> PreparedStatement:
            return prepared(access.session, options, text, level)

        self.raise_from = statement(f"UPDATE {table} SET n = ? WHERE k = ? IF n = ?", options.write_cl)  # noqa: S608 # a name that was looked at
        self._create = statement(f"INSERT INTO {table} (k, n) VALUES (?, 0) IF NOT EXISTS", "ALL")  # noqa: S608 # as above
        self._look = statement(f"SELECT n FROM {table} WHERE k = ?", "ALL")  # noqa: S608 # as above
        self._delete = statement(f"DELETE FROM {table} WHERE k = ? IF EXISTS", "QUORUM")  # noqa: S608 # as above

    def refuse_existing(self, keys: Sequence[str]) -> None:
        """Raise `ClientError` for a counter that exists."""
        for key, rows in zip(keys, for_each(self._session, self._look, [(key,) for key in keys]), strict=True):
            row = rows.one()
            if row is not None and row[0] is not None:
                raise ClientError(
                    f"the counter {key!r} exists already in {self._table}: another run's leftovers; delete them, or "
                    "use another --table"
                )

    def create(self, keys: Sequence[str]) -> None:
        """Create counters at 0, on all replicas."""
        for_each(self._session, self._create, [(key,) for key in keys])

    def remove(self, keys: Sequence[str]) -> None:
        """Delete counters."""
        for_each(self._session, self._delete, [(key,) for key in keys])


class Drawing:
    """One session's draws: it tries to raise what it saw last, and a refusal shows it what stands instead.

    A refusal is certain: where a proposal may have been accepted though another came first, Cassandra says that it does
    not know.
    """

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def values(self, key: str) -> Values:
        """Return what is bound to `Counters.raise_from`."""
        seen = self._seen.get(key, 0)
        return (seen + 1, key, seen)

    def result(self, key: str, row: tuple[Any, ...], node: str) -> Answer:
        """Return what the last attempt came to: the id, or superseded where another session drew first."""
        drawn = bool(row[0])
        stands = self._seen.get(key, 0) + 1 if drawn else row[1] if len(row) > 1 else None
        if stands is None:
            return Answer("fail", node=node, error="missing")
        self._seen[key] = stands
        return Answer(version=stands if drawn else None, node=node, superseded=not drawn)
