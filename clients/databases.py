"""The table of databases. A built-in database is one row; other packages add rows by the entry point group below.

A row's options are imported here, its driver only when a client is opened.
"""

import importlib.metadata
import pkgutil
from collections.abc import Mapping

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
    """Return the built-in databases and those of installed packages, by name; a built-in one cannot be replaced."""
    others = {one.name: one.load() for one in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    return {**others, **{name: pkgutil.resolve_name(row) for name, row in BUILT_IN.items()}}


DATABASES: Mapping[str, Database] = discover()
