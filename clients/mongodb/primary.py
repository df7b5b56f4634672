"""Which server takes the writes, as far as it can be known without asking."""

from pymongo.topology_description import TopologyDescription

from stalewatch.clients.mongodb.address import DriverClient, node_name


class PrimaryNode:
    """The server that takes writes, from what pymongo's monitors last saw.

    An acknowledgement does not name its server, and a listener that learns it costs more than the rest of the client.
    """

    def __init__(self, client: DriverClient) -> None:
        self._client = client
        self._seen: tuple[TopologyDescription | None, str | None] = (None, None)

    def now(self) -> str | None:
        """Return the server that a write would go to now, or None where there is none."""
        topology = self._client.topology_description
        seen, node = self._seen
        if topology is not seen:
            node = _writable(topology)
            self._seen = (topology, node)
        return node

    def since(self, before: str | None) -> str | None:
        """Return the server that took a write which began at `before`, or None where two may have."""
        after = self.now()
        return after if before in (after, None) else None


def _writable(topology: TopologyDescription) -> str | None:
    servers = [address for address, server in topology.server_descriptions().items() if server.is_writable]
    return node_name(servers[0]) if len(servers) == 1 else None
