"""Requests to single nodes of a Cassandra ring: probes by CQL, and the management operations of nodetool.

Management is JMX over HTTP, by the Jolokia agent in every local node. Nodetool itself would start a Java process for
every query, and needs more of Java than small runtimes have.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import ClusterError

if TYPE_CHECKING:
    import cassandra
    import cassandra.cluster as driver
    import requests
    from cassandra import policies, query
else:
    cassandra = Lazy("cassandra")
    driver = Lazy("cassandra.cluster")
    policies = Lazy("cassandra.policies")
    query = Lazy("cassandra.query")
    requests = Lazy("requests")

Probe = Callable[[str], bool]

_PROTOCOL = 5  # of Cassandra 4.0 and later
_CONNECT_S = 2.0
_ANSWER_S = 3.0

_LOCAL = ("SELECT key FROM system.local", "ONE")
# In a keyspace that every ring has, with three replicas; there is no such row.
_EVERYWHERE = (
    "SELECT status FROM system_distributed.view_build_status WHERE keyspace_name = 'stalewatch' AND view_name = 'none'",
    "ALL",
)


def serves(address: str) -> bool:
    """Return whether the node answers clients."""
    return _answers(address, *_LOCAL)


def reaches_all(address: str) -> bool:
    """Return whether every replica answers this node."""
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
    except Exception:  # noqa: BLE001 # whatever the error, the node is not ready
        return False
    else:
        return True
    finally:
        cluster.shutdown()


STORAGE = "org.apache.cassandra.db:type=StorageService"
PROXY = "org.apache.cassandra.db:type=StorageProxy"
HINTS = "org.apache.cassandra.hints:type=HintsService"

ORIGIN = "http://stalewatch"
"""The Origin header that a node requires; a page in a browser cannot send it."""

_MANAGEMENT_TIMEOUT_S = 5.0

_MOVES = {"JoiningNodesWithPort": "J", "LeavingNodesWithPort": "L", "MovingNodesWithPort": "M"}
_MEMBERS = ("LiveNodesWithPort", "EndpointWithPortToHostId", "LoadMapWithPort", "OwnershipWithPort", *_MOVES)


class ManagementError(ClusterError):
    """A node's management interface does not answer, or returned an error."""


class RingMember(NamedTuple):
    """A node as another node sees it, in nodetool's notation.

    `state` is U(p) or D(own), followed by N(ormal), J(oining), L(eaving) or M(oving).
    """

    state: str
    load: str
    owns: str
    id: str


class Management(NamedTuple):
    """The management interface of one node; every method may raise `ManagementError`."""

    host: str
    port: int

    def read(self, bean: str, *attributes: str) -> dict[str, Any]:
        """Return attributes of a managed bean by name."""
        found: dict[str, Any] = self._request({"type": "read", "mbean": bean, "attribute": list(attributes)})
        return found

    def write(self, bean: str, attribute: str, value: object) -> None:
        """Set an attribute of a managed bean."""
        self._request({"type": "write", "mbean": bean, "attribute": attribute, "value": value})

    def call(self, bean: str, operation: str, *arguments: object) -> Any:  # noqa: ANN401 # what the bean returns
        """Call an operation of a managed bean; the name of an overloaded one includes its signature."""
        return self._request({"type": "exec", "mbean": bean, "operation": operation, "arguments": list(arguments)})

    def members(self) -> Mapping[str, RingMember]:
        """Return every node of the ring as this node sees it, by HOST:PORT of the storage port."""
        found = self.read(STORAGE, *_MEMBERS)
        live, loads = set(found["LiveNodesWithPort"]), found["LoadMapWithPort"]
        moving = {node: letter for name, letter in _MOVES.items() for node in found[name]}
        owned = {node.lstrip("/"): share for node, share in found["OwnershipWithPort"].items()}
        return {
            node: RingMember(
                ("U" if node in live else "D") + moving.get(node, "N"),
                loads.get(node, "?"),
                f"{owned[node]:.1%}" if node in owned else "?",
                host_id,
            )
            for node, host_id in found["EndpointWithPortToHostId"].items()
        }

    def _request(self, request: Mapping[str, object]) -> Any:  # noqa: ANN401 # JSON
        where = f"{self.host}:{self.port}"
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy between this process and a local node
                session.headers["Origin"] = ORIGIN
                answer = session.post(f"http://{where}/jolokia/", json=request, timeout=_MANAGEMENT_TIMEOUT_S).json()
        except requests.RequestException as error:
            raise ManagementError(
                f"the node's management at {where} does not answer: {type(error).__name__}"
            ) from error
        if answer["status"] != requests.codes.ok:
            raise ManagementError(f"the node at {where} refused {request['mbean']}: {answer.get('error')}")
        return answer["value"]
