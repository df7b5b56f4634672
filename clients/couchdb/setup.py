"""A database on two leaders that replicate to each other: looked for, made where it is missing, and proven to work."""

import secrets
import time
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from stalewatch.clients.couchdb.administration import (
    CONFLICT,
    EXISTS,
    FORBIDDEN,
    MISSING,
    UNAUTHORIZED,
    Administration,
)
from stalewatch.clients.couchdb.options import CouchClientOptions, Leader
from stalewatch.clients.errors import Unreachable

READY_S = 60.0
"""How long a document may take to the other leader: CouchDB starts a new job after 3 s, and backs off after outages."""

LOOK_S = 3.0
"""How long replication that we did not set up has to show that it works, before ours is set up beside it."""

NOT_COUCHDBS = frozenset(range(400, 600)) - {UNAUTHORIZED, FORBIDDEN}
"""What other servers may say where CouchDB welcomes everybody, or asks for a password."""

_POLL_S = 0.02
_OURS = "stalewatch-"


class _Way(NamedTuple):
    """One direction of replication: the two servers, and what each is called by the other."""

    source: Administration
    source_peer: Leader
    target: Administration
    target_peer: Leader


def set_up(options: CouchClientOptions, leaders: Sequence[Administration]) -> dict[str, str]:
    """Make sure of the database and of replication both ways; return what each server says it is.

    Raises `Unreachable`, or another `ClientError`, where that fails.
    """
    versions = {leader.flag: _greet(leader) for leader in leaders}
    created = [_create_database(leader, options.db) for leader in leaders]
    a, b = leaders
    peer_a, peer_b = _peer(options.peer_a, a, b), _peer(options.peer_b, b, a)
    ways = (_Way(a, peer_a, b, peer_b), _Way(b, peer_b, a, peer_a))
    missing = [way for way in ways if not _replicates(way, options.db)]
    asked = options.peer_a or options.peer_b
    if missing and (asked or any(created) or _lost(leaders, options.db, LOOK_S)):
        for way in missing:
            _replicate(way, options.db)
    lost = _lost(leaders, options.db, READY_S)
    if lost:
        raise Unreachable(
            f"replication of {options.db} does not work: a document written at {lost[0]} was not at {lost[1]} after "
            f"{READY_S:.0f} s; see _replicator there, and --peer-a and --peer-b, what the servers call each other"
        )
    return versions


def _greet(leader: Administration) -> str:
    welcome = leader.ask("GET", "", allowed=NOT_COUCHDBS)
    if not isinstance(welcome, dict) or "couchdb" not in welcome:
        raise leader.stranger()
    version = welcome.get("version")
    return f"CouchDB {version}" if version else str(welcome.get("vendor", {}).get("name", "unknown"))


def _create_database(leader: Administration, database: str) -> bool:
    """Make sure of the database; return whether it is new."""
    path = quote(database, safe="")
    there = leader.ask("GET", path, allowed=(MISSING,))
    if "error" not in there:
        return False
    told = leader.ask("PUT", path, allowed=(EXISTS,))
    return "error" not in told


def _peer(given: Leader | None, leader: Administration, other: Administration) -> Leader:
    """Return what the other server calls this one: as given, else as the other's configuration says, else as we do."""
    if given is not None:
        return given
    told = other.ask("GET", "_node/_local/_config/stalewatch/peer_url", allowed=(400, 401, 403, MISSING))
    if not isinstance(told, str):
        return leader.leader
    parts = urlsplit(told)
    return leader.leader._replace(
        scheme=parts.scheme, host=parts.hostname or leader.leader.host, port=parts.port or leader.leader.port
    )


def _replicates(way: _Way, database: str) -> bool:
    """Tell whether a replication document, at either leader, sends the database that way."""
    sources = {(node, database) for node in (way.source.leader.node, way.source_peer.node)}
    targets = {(node, database) for node in (way.target.leader.node, way.target_peer.node)}
    return any(
        _end(document, "source") in sources and _end(document, "target") in targets
        for leader in (way.source, way.target)
        for document in _replications(leader)
        if document.get("continuous")
    )


def _replications(leader: Administration) -> list[dict[str, object]]:
    listed = leader.ask("GET", "_replicator/_all_docs?include_docs=true", allowed=(MISSING,))
    return [row["doc"] for row in listed.get("rows", ())]


def _end(document: dict[str, object], end: str) -> tuple[str, str]:
    """Return HOST:PORT and the database of one end of a replication."""
    endpoint = document.get(end, "")
    parts = urlsplit(str(endpoint.get("url", "") if isinstance(endpoint, dict) else endpoint))
    return parts.netloc.rpartition("@")[2], parts.path.strip("/")


def _replicate(way: _Way, database: str) -> None:
    """Let a leader send what it has to the other; it goes on after both the bench and the servers have ended."""
    source, target, path = way.source_peer, way.target_peer, quote(database, safe="")
    document = {"source": f"{source.full_url}/{path}", "target": f"{target.full_url}/{path}", "continuous": True}
    name = quote(f"{_OURS}{database}-{source.node}-{target.node}", safe="")
    way.source.ask("PUT", "_replicator", allowed=(EXISTS,))
    way.source.ask("PUT", f"_replicator/{name}", document, allowed=(CONFLICT,))


def _lost(leaders: Sequence[Administration], database: str, timeout_s: float) -> tuple[str, str] | None:
    """Write a document at each leader; return from where to where one did not come in time, or None."""
    deadline, path = time.monotonic() + timeout_s, quote(database, safe="")
    probes = {leader: f"{_OURS}probe-{secrets.token_hex(6)}" for leader in leaders}
    for leader, probe in probes.items():
        leader.ask("PUT", f"{path}/{probe}", {"from": leader.leader.node})
    try:
        for leader, probe in probes.items():
            for other in leaders:
                while "error" in other.ask("GET", f"{path}/{probe}", allowed=(MISSING,)):
                    if time.monotonic() > deadline:
                        return leader.leader.node, other.leader.node
                    time.sleep(_POLL_S)
        return None
    finally:
        for leader, probe in probes.items():
            leader.delete(database, leader.live(database, [probe]))
