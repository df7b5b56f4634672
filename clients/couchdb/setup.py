"""The set-up of a database on two leaders that replicate to each other: found, or created, and checked to work."""

import re
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from stalewatch.clients.couchdb.administration import (
    CONFLICT,
    ERRORS,
    EXISTS,
    FORBIDDEN,
    MISSING,
    UNAUTHORIZED,
    LeaderAdmin,
    becomes_true,
)
from stalewatch.clients.couchdb.options import CouchOptions, Leader
from stalewatch.clients.errors import Unreachable

READY_S = 60.0
"""The longest time for a document to reach the other leader: CouchDB starts a new job after 3 s, and backs off after
outages."""

EXISTING_S = 3.0
"""The time in which existing replication has to prove that it works, before ours is added."""

NOT_COUCHDBS = frozenset(ERRORS) - {UNAUTHORIZED, FORBIDDEN}
"""Errors with which other servers answer the request for CouchDB's welcome, which CouchDB may deny but never fails."""

_PREFIX = "stalewatch-"
_CREDENTIALS = re.compile(r"//[^/@\s]*@")


class _Direction(NamedTuple):
    """One direction of replication: the two servers, and their addresses for each other."""

    source: LeaderAdmin
    source_peer: Leader
    target: LeaderAdmin
    target_peer: Leader


def set_up(options: CouchOptions, admins: Sequence[LeaderAdmin]) -> dict[str, str]:
    """Ensure that the database exists and is replicated in both directions; return the servers' versions by flag.

    Raises `Unreachable` or another `ClientError`.
    """
    versions = {admin.flag: _version(admin) for admin in admins}
    created = [_create_database(admin, options.db) for admin in admins]
    a, b = admins
    peer_a, peer_b = _peer(options.peer_a, a, b), _peer(options.peer_b, b, a)
    directions = (_Direction(a, peer_a, b, peer_b), _Direction(b, peer_b, a, peer_a))
    missing = [direction for direction in directions if not any(_replications(direction, options.db))]
    requested = options.peer_a or options.peer_b
    if missing and (requested or any(created) or _undelivered(admins, options.db, EXISTING_S)):
        for direction in missing:
            _replicate(direction, options.db)
    undelivered = _undelivered(admins, options.db, READY_S)
    if undelivered:
        source, target = undelivered
        states = "; ".join(_states(next(one for one in directions if one.source is source), options.db))
        raise Unreachable(
            f"replication of {options.db} does not work: a document written at {source.leader.node} did not reach "
            f"{target.leader.node} within {READY_S:.0f} s ({states or 'no replication job is known'}); check that the "
            "servers reach each other by --peer-a and --peer-b"
        )
    return versions


def _version(admin: LeaderAdmin) -> str:
    welcome = admin.ask("GET", "", allowed=NOT_COUCHDBS)
    if not isinstance(welcome, dict) or "couchdb" not in welcome:
        raise admin.not_couchdb(welcome)
    version = welcome.get("version")
    return f"CouchDB {version}" if version else str(welcome.get("vendor", {}).get("name", "unknown"))


def _create_database(admin: LeaderAdmin, database: str) -> bool:
    """Create the database if it is missing; return whether it was."""
    path = quote(database, safe="")
    if "error" not in admin.ask("GET", path, allowed=(MISSING,)):
        return False
    return "error" not in admin.ask("PUT", path, allowed=(EXISTS,))


def _peer(given: Leader | None, admin: LeaderAdmin, other: LeaderAdmin) -> Leader:
    """Return the other server's address for this one: the given one, else as configured there, else our own."""
    if given is not None:
        return given
    configured = other.ask("GET", "_node/_local/_config/stalewatch/peer_url", allowed=(400, 401, 403, MISSING))
    if not isinstance(configured, str):
        return admin.leader
    parts = urlsplit(configured)
    return admin.leader._replace(
        scheme=parts.scheme, host=parts.hostname or admin.leader.host, port=parts.port or admin.leader.port
    )


def _replications(direction: _Direction, database: str) -> Iterator[tuple[LeaderAdmin, dict[str, Any]]]:
    """Yield the replication documents of either leader that send the database in that direction."""
    sources = {(node, database) for node in (direction.source.leader.node, direction.source_peer.node)}
    targets = {(node, database) for node in (direction.target.leader.node, direction.target_peer.node)}
    for admin in (direction.source, direction.target):
        listed = admin.ask("GET", "_replicator/_all_docs?include_docs=true", allowed=(MISSING,))
        for document in (row["doc"] for row in listed.get("rows", ())):
            ends = _endpoint(document, "source") in sources and _endpoint(document, "target") in targets
            if ends and document.get("continuous"):
                yield admin, document


def _endpoint(document: dict[str, Any], name: str) -> tuple[str, str]:
    """Return HOST:PORT and the database of one end of a replication."""
    endpoint = document.get(name, "")
    parts = urlsplit(str(endpoint.get("url", "") if isinstance(endpoint, dict) else endpoint))
    return parts.netloc.rpartition("@")[2], parts.path.strip("/")


def _states(direction: _Direction, database: str) -> Iterator[str]:
    """Yield what the servers say about their replications in that direction."""
    for admin, document in _replications(direction, database):
        job = admin.ask("GET", f"_scheduler/docs/_replicator/{quote(document['_id'], safe='')}", allowed=ERRORS)
        state = job.get("state") or document.get("_replication_state") or "no state"
        info = job.get("info") or document.get("_replication_state_reason") or ""
        said = info.get("error") or "" if isinstance(info, dict) else info
        line = " ".join(f"{document['_id']} at {admin.leader.node}: {state} {said}".split())
        yield _CREDENTIALS.sub("//", line)[:300]


def _replicate(direction: _Direction, database: str) -> None:
    """Create a replication document at the source; the replication outlives this process and the servers' restarts."""
    source, target, path = direction.source_peer, direction.target_peer, quote(database, safe="")
    document = {"source": f"{source.full_url}/{path}", "target": f"{target.full_url}/{path}", "continuous": True}
    name = quote(f"{_PREFIX}{database}-{source.node}-{target.node}", safe="")
    direction.source.ask("PUT", "_replicator", allowed=(EXISTS,))
    direction.source.ask("PUT", f"_replicator/{name}", document, allowed=(CONFLICT,))


def _undelivered(
    admins: Sequence[LeaderAdmin], database: str, timeout_s: float
) -> tuple[LeaderAdmin, LeaderAdmin] | None:
    """Write a document at each leader; return the source and target of one that did not arrive in time, or None."""
    deadline, path = time.monotonic() + timeout_s, quote(database, safe="")
    probes = {admin: f"{_PREFIX}probe-{secrets.token_hex(6)}" for admin in admins}
    for admin, probe in probes.items():
        admin.ask("PUT", f"{path}/{probe}", {"from": admin.leader.node})

    def arrived(probe: str, target: LeaderAdmin) -> bool:
        return "error" not in target.ask("GET", f"{path}/{probe}", allowed=(MISSING,))

    try:
        for source, probe in probes.items():
            for target in admins:
                if not becomes_true(deadline, arrived, probe, target):
                    return source, target
        return None
    finally:
        for admin, probe in probes.items():
            admin.delete(database, admin.live(database, [probe]))
