"""The table of databases. A built-in database is one row; other packages add rows by the entry point group below.

This imports each row's options; a driver is imported when its client is opened.
"""

import importlib.metadata
import pkgutil
import warnings
from collections.abc import Iterator, Mapping

from stalewatch.clients.protocol import Database

ENTRY_POINTS = "stalewatch.databases"
"""Each entry point is named after its database and refers to a `Database`, as in ``redis = my_package:DATABASE``."""

BUILT_IN: Mapping[str, str] = {
    "mongo": "stalewatch.clients.mongodb:DATABASE",
    "cassandra": "stalewatch.clients.cassandra:DATABASE",
    "couch": "stalewatch.clients.couchdb:DATABASE",
    "memory": "stalewatch.simulator:DATABASE",
}


def discover() -> dict[str, Database]:
    """Return the built-in databases and those of installed packages, by name."""
    built_in = {name: pkgutil.resolve_name(row) for name, row in BUILT_IN.items()}
    return {**built_in, **{row.name: row for row in _installed()}}


def _installed() -> Iterator[Database]:
    """Yield the rows of installed packages; warn about one that cannot be used, so that the others still can be."""
    for entry in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            yield _loaded(entry)
        except Exception as error:  # noqa: BLE001 # importing a package may raise anything
            warnings.warn(
                f"the database {entry.name!r} ({entry.value}) is left out: {type(error).__name__}: {error}",
                stacklevel=1,
            )


def _loaded(entry: importlib.metadata.EntryPoint) -> Database:
    row = entry.load()
    if not isinstance(row, Database):
        raise TypeError(f"it refers to an object of the class {type(row).__name__}, not to a Database")
    if row.name != entry.name or row.name in BUILT_IN:
        raise ValueError(f"its row is called {row.name!r}: use the entry point's name, and no built-in one")
    return row


DATABASES: Mapping[str, Database] = discover()

BREAKABLE = tuple(name for name, row in DATABASES.items() if row.cluster is not None or name == "memory")
"""The databases that drills can break: those with a cluster, and the simulator."""
