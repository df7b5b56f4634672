"""Every cluster that runs on this machine, by its database: on loopback, or in a lab."""

from collections.abc import Mapping

from stalewatch.clusters.lab.clusters import CassandraLab, CouchLab, MongoLab
from stalewatch.clusters.local.cassandra import CassandraCluster
from stalewatch.clusters.local.cluster import LocalCluster
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster

Kind = type[MongoCluster | CassandraCluster | CouchCluster]

LOCAL: Mapping[str, Kind] = {
    "mongo": MongoCluster,
    "cassandra": CassandraCluster,
    "couch": CouchCluster,
}
"""A new database is one row here and one below."""

LABS: Mapping[str, Kind] = {"mongo": MongoLab, "cassandra": CassandraLab, "couch": CouchLab}


def kind(database: str, *, lab: bool = False) -> Kind:
    """Return the class of a database's cluster: on loopback, or with `lab` in a network of its own."""
    return (LABS if lab else LOCAL)[database]


def cluster(database: str, *, lab: bool = False) -> LocalCluster:
    """Return a database's cluster as it was last started."""
    return kind(database, lab=lab)()
