"""Where the local cluster of a database is, as options of its client; it is started when needed."""

from collections.abc import Mapping

from stalewatch.clusters.local_clusters import cluster
from stalewatch.clusters.protocol import Progress


def addresses(database: str, progress: Progress, *, lab: bool = False) -> Mapping[str, str]:
    """Return the options that lead to the local cluster, which is started, or mended, when it is not whole.

    The names are those of the client's options, as argparse makes them of the flags. With `lab` it is the cluster in a
    network of its own. Raises a `stalewatch.clusters.protocol.ClusterError` where it cannot be had.
    """
    found = cluster(database, lab=lab)
    found.ensure(progress)
    return found.client_options()
