"""What must hold before anything is created: two places, and databases that keep whatever a run writes.

A run on one server under two addresses would find no conflict, and leave replications of a database onto itself; a
database that refuses some documents loses writes on the way to it.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from stalewatch.clients.couchdb.administration import DENIED, ERRORS, MISSING, LeaderAdmin
from stalewatch.clients.errors import BadAddress, ClientError

NOT_COUCHDBS = frozenset(ERRORS) - DENIED
"""Errors with which other servers answer the request for CouchDB's welcome, which CouchDB may deny but never fails."""

SYSTEM = ("_replicator", "_users")
"""Databases that exist before a run's own; a user who is no administrator may not be allowed to use them."""

FEWEST_REVS = 100
"""The least number of revisions that a database has to remember of each document; CouchDB's default is 1000."""

_DESIGNS = "?startkey=%22_design%2F%22&endkey=%22_design0%22&include_docs=true"
_ANOTHER = "choose another --db"


def welcome(admin: LeaderAdmin) -> Mapping[str, Any]:
    """Return the server's answer at ``/``; raise `Unreachable` if it is not CouchDB's."""
    said = admin.ask("GET", "", allowed=NOT_COUCHDBS, kind=object)
    if not isinstance(said, dict) or "couchdb" not in said:
        raise admin.not_couchdb()
    return said


def require_two_places(admins: Sequence[LeaderAdmin], uuids: Sequence[str | None], database: str) -> bool:
    """Return whether two addresses are certainly two places, not one server or one cluster.

    Raises `BadAddress` if they are one place. A ``_local/`` document decides, which never replicates. The uuids decide
    only if no database exists in which to write one: servers with a copied configuration may have the same uuid, and
    members of one cluster different ones.
    """
    for name in (database, *SYSTEM):
        held = [_has(admin, name) for admin in admins]
        if held == [True, True]:
            if _shares_local_documents(admins, name):
                raise _one_place(admins, f"a _local document of {name}, which never replicates, is at both")
            return True
    if uuids[0] is not None and uuids[0] == uuids[1]:
        copied = f"if one's configuration is a copy of the other's, create the database {database} at both first"
        raise _one_place(admins, f"both have the uuid {uuids[0]}", f", or, {copied}")
    return False


def _one_place(admins: Sequence[LeaderAdmin], evidence: str, otherwise: str = "") -> ClientError:
    (a, b), (flag_a, flag_b) = (admin.leader.node for admin in admins), (admin.flag for admin in admins)
    return BadAddress(
        f"{flag_a} {a} and {flag_b} {b} are the same server, or members of one cluster ({evidence}): name two servers "
        f"that replicate to each other{otherwise}"
    )


def _has(admin: LeaderAdmin, database: str) -> bool:
    system = database in SYSTEM
    return "error" not in admin.ask(
        "GET", quote(database, safe=""), allowed={MISSING, *DENIED} if system else {MISSING}
    )


def _shares_local_documents(admins: Sequence[LeaderAdmin], database: str) -> bool:
    a, b = admins
    path = f"{quote(database, safe='')}/_local/stalewatch-{secrets.token_hex(6)}"
    rev = a.ask("PUT", path, {"from": a.leader.node})["rev"]
    try:
        return bool(b.ask("GET", path, allowed=(MISSING,)).get("from") == a.leader.node)
    finally:
        a.ask("DELETE", f"{path}?rev={rev}", allowed=(MISSING,))


def require_suitable(admin: LeaderAdmin, database: str) -> None:
    """Raise `BadAddress` for an existing database that would refuse documents of a run."""
    path = quote(database, safe="")
    found = admin.ask("GET", path, allowed=(MISSING,))
    if "error" in found:
        return
    where = f"database {database} at {admin.flag} {admin.leader.node}"
    if found.get("props", {}).get("partitioned"):
        raise BadAddress(f"{where} is partitioned, and takes only documents named PARTITION:NAME: {_ANOTHER}")
    limit = admin.ask("GET", f"{path}/_revs_limit", allowed=ERRORS, kind=(int, dict))
    if isinstance(limit, int) and limit < FEWEST_REVS:
        raise BadAddress(
            f"{where} has a _revs_limit of {limit}: a document that is edited more often between two replications gets "
            f"conflicts that nobody made; set it to {FEWEST_REVS} or more, or {_ANOTHER}"
        )
    designs = admin.ask("GET", f"{path}/_all_docs{_DESIGNS}")
    for document in (row.get("doc") or {} for row in designs["rows"]):
        if "validate_doc_update" in document:
            raise BadAddress(
                f"{where} has a validate_doc_update function in {document['_id']}, which may refuse a run's documents, "
                f"from clients and from replication alike: delete it, or {_ANOTHER}"
            )
