"""The local clusters of all databases: on loopback, and in network labs."""

from collections.abc import Mapping

from stalewatch.clusters.lab.clusters import CassandraLab, CouchLab, MongoLab
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import Progress

LocalClusterClass = type[MongoCluster | CassandraCluster | CouchCluster]

LOCAL: Mapping[str, LocalClusterClass] = {
    "mongo": MongoCluster,
    "cassandra": CassandraCluster,
    "couch": CouchCluster,
}
LABS: Mapping[str, LocalClusterClass] = {"mongo": MongoLab, "cassandra": CassandraLab, "couch": CouchLab}


def cluster_class(database: str, *, lab: bool = False) -> LocalClusterClass:
    """Return the class of a database's cluster: on loopback, or with `lab` in a network lab."""
    return (LABS if lab else LOCAL)[database]


def cluster(database: str, *, lab: bool = False) -> LocalCluster:
    """Return a database's cluster with the settings of its last start."""
    return cluster_class(database, lab=lab)()


def addresses(database: str, progress: Progress, *, lab: bool = False) -> Mapping[str, str]:
    """Start or repair a local cluster if necessary, and return the client options that connect to it.

    The options' names are those of argparse. Raises a `ClusterError` if the cluster cannot be started.
    """
    found = cluster(database, lab=lab)
    found.ensure(progress)
    return found.client_options()
