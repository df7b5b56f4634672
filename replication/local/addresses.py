"""Where the local cluster of a database is, as options of its client; it is started when needed."""

from collections.abc import Callable, Mapping

from replication.local import cassandra, couch, mongo
from replication.protocol import Progress

LOCAL: Mapping[str, Callable[[Progress], Mapping[str, str]]] = {
    "mongo": lambda progress: {"mongo_uri": mongo.ensure(progress)},
    "cassandra": lambda progress: {"hosts": cassandra.ensure(progress)},
    "couch": couch.ensure,
}
"""A row a database: the names are those of the client's options, as argparse makes them of the flags."""


def addresses(database: str, progress: Progress) -> Mapping[str, str]:
    """Return the options that lead to the local cluster, which is started, or mended, when it is not whole.

    Raises a `replication.protocol.ClusterError` where it cannot be had.
    """
    return LOCAL[database](progress)
