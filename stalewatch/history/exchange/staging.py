"""Operations on disk while they are numbered and sorted, so that memory does not grow with a file.

SQLite is the sorter: a database without a name is a temporary file, which is deleted when it is closed.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from stalewatch.history.operation import Outcome

CACHE_KIB = 8192
BATCH = 2000
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1

_TABLES = """
    CREATE TABLE call (seq INTEGER PRIMARY KEY, line INTEGER, kind TEXT, session TEXT, key TEXT, value TEXT,
                       start INTEGER, "end" INTEGER, outcome TEXT, node TEXT, error TEXT);
    CREATE TABLE number (key TEXT, value TEXT, version INTEGER, PRIMARY KEY (key, value)) WITHOUT ROWID;
    CREATE TABLE sorted (first INTEGER, second INTEGER, seq INTEGER PRIMARY KEY, data BLOB);
"""


class Call(NamedTuple):
    """One invocation with its completion, as another tool recorded it; the model says what its value is."""

    line: int
    kind: str
    session: str
    key: str
    value: str | None
    start: int
    end: int | None
    outcome: Outcome
    node: str | None = None
    error: str | None = None


class OutOfRange(ValueError):
    """A number that needs more than 64 bits."""


class Staging:
    """A temporary database of calls, of the numbers of their values, and of data to be sorted."""

    def __init__(self) -> None:
        self.database = sqlite3.connect("", isolation_level=None)
        self.database.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; PRAGMA cache_size=-{CACHE_KIB};"
            + _TABLES
        )
        self._calls: list[Call] = []
        self._data: list[tuple[int, int, bytes]] = []

    def add(self, call: Call) -> None:
        """Keep a call."""
        if not (_SMALLEST <= call.start <= _LARGEST and _SMALLEST <= (call.end or 0) <= _LARGEST):
            raise OutOfRange("a time needs more than 64 bits")
        self._calls.append(call)
        if len(self._calls) >= BATCH:
            self.flush()

    def add_sorted(self, first: int, second: int, data: bytes) -> None:
        """Keep data to be returned by `sorted`."""
        if not _SMALLEST <= first <= _LARGEST:
            raise OutOfRange("a time needs more than 64 bits")
        self._data.append((first, second, data))
        if len(self._data) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Write to the database what was added."""
        if not self._calls and not self._data:
            return
        names = 'line, kind, session, key, value, start, "end", outcome, node, error'
        with _Transaction(self.database):
            self.database.executemany(f"INSERT INTO call ({names}) VALUES ({', '.join('?' * 10)})", self._calls)  # noqa: S608 # constants
            self.database.executemany("INSERT INTO sorted (first, second, data) VALUES (?, ?, ?)", self._data)
        self._calls.clear()
        self._data.clear()

    def sorted(self) -> Iterator[tuple[int, bytes]]:
        """Yield the second number and the data, by both numbers, then in the order in which they were added."""
        rows = self.rows("SELECT second, data FROM sorted ORDER BY first, second, seq")
        yield from map(tuple, rows)  # not from the cursor, which would be closed, maybe too late

    def rows(self, query: str, *parameters: object) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        self.flush()
        return iter(self.database.execute(query, parameters))

    def run(self, statement: str, rows: Iterable[tuple[object, ...]] | None = None) -> None:
        """Run a statement, once or for each row."""
        self.flush()
        with _Transaction(self.database):
            if rows is None:
                self.database.execute(statement)
            else:
                self.database.executemany(statement, rows)

    def close(self) -> None:
        """Delete the database."""
        self.database.close()

    def __enter__(self) -> Self:
        """Return the staging."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Delete the database."""
        self.close()


class _Transaction:
    """A transaction around many statements: each alone would be one."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN")

    def __exit__(self, kind: object, *_error: object) -> None:
        self._database.execute("COMMIT" if kind is None else "ROLLBACK")
