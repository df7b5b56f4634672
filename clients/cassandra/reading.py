"""How sessions read registers, by the read strategy: at QUORUM for a while or as a second try, or from one replica.

A quorum read is certain to meet the session's own write only if the two levels overlap (W + R > N): with writes at ONE,
a replica of the quorum may still lack what another has acknowledged.
"""

import logging
from collections.abc import Callable, Iterator

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable
from cassandra.pool import Host
from cassandra.query import PreparedStatement

from stalewatch.clients.cassandra.connection import CassandraAccess
from stalewatch.clients.protocol import Answer
from stalewatch.clients.read_strategies import PlainReads, Reads, StickyReads, TokenReads
from stalewatch.history.clock import Clock
from stalewatch.history.operation import replace

Ask = Callable[[str, PreparedStatement, Host | None], Answer]
"""Reads a key once with a statement, at a node (None: as the driver chooses)."""

_UNCERTAIN_SETTINGS = {
    "dynamic_snitch": ("true", "dynamic_snitch is on"),
    "endpoint_snitch": ("SimpleSnitch", "endpoint_snitch is SimpleSnitch"),
}
"""Settings of a node with which its own replica may not be the one that answers, by name."""

log = logging.getLogger("stalewatch")


class PinnedReads:
    """Reads each key through a node that is itself a replica of the key, the same one for as long as it is up.

    At ONE, such a coordinator asks its own replica, so one node answers all reads of the key; if all nodes have all
    keys, all reads of the session. Each session prefers the nodes in an order of its own.
    """

    def __init__(self, ask: Ask, access: CassandraAccess, number: int) -> None:
        self._ask, self._access = ask, access
        nodes = access.nodes.eligible()
        first = number % len(nodes)
        self._order = [*nodes[first:], *nodes[:first]]

    def read(self, key: str) -> Answer:
        """Read from the session's replica of the key; if an earlier one is down from now on, the read fell back."""
        replicas, down = self._access.nodes.replicas(key), []
        for node in self._order:
            if node not in replicas:
                continue
            if node.is_up is not False:
                break
            down.append(node)
        else:
            node, down = None, []  # the driver says what is wrong
        for one in down:  # not to be preferred again, or reads would go back in time a second time
            self._order.remove(one)
            self._order.append(one)
        return replace(self._ask(key, self._access.statements.read, node), fell_back=bool(down))

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing."""


def reads(
    ask: Ask,
    access: CassandraAccess,
    clock: Clock,
    *,
    number: int,
    reader: Host | None,
    writer: Host | None,
) -> Reads:
    """Return how a session reads; `number` is the session's, `reader` and `writer` are its coordinators.

    Quorum reads go to the coordinator of writes: one that is cut off from the other replicas can make none.
    """
    options, statements = access.options, access.statements

    def plain(key: str) -> Answer:
        return ask(key, statements.read, reader)

    def quorum(key: str) -> Answer:
        return replace(ask(key, statements.read_quorum, writer), fell_back=True)

    match options.read_strategy:
        case "sticky":
            return StickyReads(plain, quorum, clock.now, options.sticky_seconds)
        case "token":
            return TokenReads(
                lambda key, _seen: plain(key), lambda key, _seen, _first: quorum(key), clock, options.timeout_s
            )
        case "pinned":
            return PinnedReads(ask, access, number)
        case _:
            return PlainReads(plain)


def warn_of_other_replicas(access: CassandraAccess) -> None:
    """Log a warning for each reason why the replica that answers a read may not be the coordinator's own."""
    found = dict.fromkeys(_reasons(access))
    if found:
        log.warning("--read-strategy pinned: another replica than the coordinator's may answer: %s", "; ".join(found))


def _reasons(access: CassandraAccess) -> Iterator[str]:
    speculates = access.table.speculative_retry
    if speculates.upper() != "NEVER":
        yield f"speculative_retry of the table is {speculates}"
    for node in access.nodes.eligible():
        for name, (value, reason) in _UNCERTAIN_SETTINGS.items():
            if (_setting(access, node, name) or "").endswith(value):
                yield f"{reason} at {access.nodes.name(node)}"


def _setting(access: CassandraAccess, node: Host, name: str) -> str | None:
    """Return a setting of a node; None if it does not tell."""
    query = "SELECT value FROM system_views.settings WHERE name = %s"
    try:
        row = access.session.execute(query, [name], host=node).one()
    except (DriverException, NoHostAvailable):
        return None
    return None if row is None else row[0]
