"""What Cassandra's nodetool asks a node and orders it, over HTTP: a JMX agent runs in every local node.

Nodetool itself would be a Java process of its own for every question, and needs more of Java than small runtimes have.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.protocol import ClusterError

if TYPE_CHECKING:
    import requests
else:
    requests = Lazy("requests")

STORAGE = "org.apache.cassandra.db:type=StorageService"
PROXY = "org.apache.cassandra.db:type=StorageProxy"
HINTS = "org.apache.cassandra.hints:type=HintsService"

ORIGIN = "http://stalewatch"
"""What orders say that they come from; a page in a browser cannot say so."""

_TIMEOUT_S = 5.0


class NoOrders(ClusterError):
    """The node takes no orders: it does not answer, or refused."""


class Member(NamedTuple):
    """A node as another one sees it, in nodetool's words.

    `state` is U(p) or D(own) and N(ormal), J(oining), L(eaving) or M(oving).
    """

    state: str
    load: str
    owns: str
    id: str


class Management(NamedTuple):
    """One node's management; every call raises `NoOrders` where the node does not do as asked."""

    host: str
    port: int

    def read(self, bean: str, *attributes: str) -> dict[str, Any]:
        """Return attributes of a managed bean by name."""
        found: dict[str, Any] = self._ask({"type": "read", "mbean": bean, "attribute": list(attributes)})
        return found

    def write(self, bean: str, attribute: str, value: object) -> None:
        """Set an attribute of a managed bean."""
        self._ask({"type": "write", "mbean": bean, "attribute": attribute, "value": value})

    def call(self, bean: str, operation: str, *arguments: object) -> Any:  # noqa: ANN401 # what the bean returns
        """Call an operation of a managed bean: its name, with the types of its arguments where there are several."""
        return self._ask({"type": "exec", "mbean": bean, "operation": operation, "arguments": list(arguments)})

    def members(self) -> Mapping[str, Member]:
        """Return how this node sees every node of its ring, by HOST:PORT of the port between nodes."""
        said = self.read(STORAGE, *_MEMBERS)
        live, ids, loads = set(said["LiveNodesWithPort"]), said["EndpointWithPortToHostId"], said["LoadMapWithPort"]
        moving = {node: word for name, word in _MOVES.items() for node in said[name]}
        owned = {node.lstrip("/"): share for node, share in said["OwnershipWithPort"].items()}
        return {
            node: Member(
                ("U" if node in live else "D") + moving.get(node, "N"),
                loads.get(node, "?"),
                f"{owned[node]:.1%}" if node in owned else "?",
                host_id,
            )
            for node, host_id in ids.items()
        }

    def _ask(self, request: Mapping[str, object]) -> Any:  # noqa: ANN401 # JSON
        where = f"{self.host}:{self.port}"
        try:
            with requests.Session() as session:
                session.trust_env = False  # no proxy stands before this machine itself
                session.headers["Origin"] = ORIGIN
                answer = session.post(f"http://{where}/jolokia/", json=request, timeout=_TIMEOUT_S).json()
        except requests.RequestException as error:
            raise NoOrders(f"the management of the node at {where} does not answer: {type(error).__name__}") from error
        if answer["status"] != requests.codes.ok:
            raise NoOrders(f"the node at {where} refused {request['mbean']}: {answer.get('error')}")
        return answer["value"]


_MOVES = {"JoiningNodesWithPort": "J", "LeavingNodesWithPort": "L", "MovingNodesWithPort": "M"}
_MEMBERS = ("LiveNodesWithPort", "EndpointWithPortToHostId", "LoadMapWithPort", "OwnershipWithPort", *_MOVES)
