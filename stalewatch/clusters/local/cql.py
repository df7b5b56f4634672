"""Whether a Cassandra node answers clients, and whether it reaches all others."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from stalewatch.clusters.local.packages import Lazy

if TYPE_CHECKING:
    import cassandra
    import cassandra.cluster as driver
    from cassandra import policies, query
else:
    cassandra = Lazy("cassandra")
    driver = Lazy("cassandra.cluster")
    policies = Lazy("cassandra.policies")
    query = Lazy("cassandra.query")

Probe = Callable[[str], bool]

_PROTOCOL = 5  # of Cassandra from 4.0 on
_CONNECT_S = 2.0
_ANSWER_S = 3.0

_LOCAL = ("SELECT key FROM system.local", "ONE")
# Of a keyspace that every ring has, with three replicas; no such row is there.
_EVERYWHERE = (
    "SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = 'stalewatch' AND view_name = 'none'",
    "ALL",
)


def serves(address: str) -> bool:
    """Say whether the node answers clients."""
    return _answers(address, *_LOCAL)


def reaches_all(address: str) -> bool:
    """Say whether every replica answers this node."""
    return _answers(address, *_EVERYWHERE)


def _answers(address: str, text: str, level: str) -> bool:
    host, _, port = address.rpartition(":")
    cluster = driver.Cluster(
        [(host, int(port))],
        execution_profiles={
            driver.EXEC_PROFILE_DEFAULT: driver.ExecutionProfile(
                load_balancing_policy=policies.WhiteListRoundRobinPolicy([host]),
                retry_policy=policies.FallthroughRetryPolicy(),
                consistency_level=getattr(cassandra.ConsistencyLevel, level),
                request_timeout=_ANSWER_S,
            )
        },
        connect_timeout=_CONNECT_S,
        control_connection_timeout=_CONNECT_S,
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
        executor_threads=1,
        protocol_version=_PROTOCOL,
    )
    try:
        cluster.connect().execute(query.SimpleStatement(text))
    except Exception:  # noqa: BLE001 # whatever it is, the node is not there yet
        return False
    else:
        return True
    finally:
        cluster.shutdown()
