"""Replication of a database between two leaders: its documents in `_replicator`, and what became of their jobs.

CouchDB tries a job that failed again after 30 s, 60 s, 120 s and so on, and a job with an old password locks the
account; a document that is written again is tried at once. PouchDB has no scheduler, and tries all jobs all the time.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from stalewatch.clients.couchdb.administration import CONFLICT, DENIED, ERRORS, EXISTS, MISSING, LeaderAdmin
from stalewatch.clients.couchdb.options import CouchOptions, Leader, peer
from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.clients.protocol import PausedReplication

PREFIX = "stalewatch-"
"""Starts the ids of documents that stalewatch writes."""

BROKEN = frozenset({"crashing", "error", "failed", "completed"})
"""States of the scheduler in which a continuous job does not replicate now."""

ENDED = frozenset({"failed", "completed"})
"""States of the scheduler in which a job is never tried again."""

BACKOFF_S, MOST_DOUBLINGS = 30.0, 10
"""CouchDB's pause after the first failure of a job, and how often it is doubled at most."""

PARTIAL = ("filter", "doc_ids", "selector", "since_seq")
"""Fields of replication documents that leave out some of a database's documents."""

_AUTHORIZATION = re.compile(r"(?i)\b(basic|bearer)\s+[\w+/=.-]{6,}")
_SHOWN_CHARACTERS = 300

Document = dict[str, Any]


class ReplicationDirection(NamedTuple):
    """One direction of replication: the two servers, and their addresses for each other."""

    source: LeaderAdmin
    source_peer: Leader
    target: LeaderAdmin
    target_peer: Leader


class Job(NamedTuple):
    """A replication document, the leader that holds it, and what the scheduler says about it, if there is one."""

    holder: LeaderAdmin
    document: Document
    state: str
    said: str
    retry_s: float | None = 0.0
    """In how many seconds the scheduler tries a broken job again, at most; None if never."""

    @property
    def is_ours(self) -> bool:
        """Whether stalewatch wrote the document."""
        return str(self.document["_id"]).startswith(PREFIX)

    @property
    def is_broken(self) -> bool:
        """Whether the job does not replicate now."""
        return self.state in BROKEN

    @property
    def path(self) -> str:
        """The path of the document."""
        return f"_replicator/{quote(self.document['_id'], safe='')}"

    def __str__(self) -> str:
        """Return the state in the scheduler's words, without credentials."""
        line = f"{self.document['_id']} at {self.holder.leader.node}: {self.state or 'no state'} {self.said}"
        return without_secrets(" ".join(line.split()))[:_SHOWN_CHARACTERS]


def without_secrets(text: str) -> str:
    """Return what a scheduler says without the credentials in URLs and headers."""
    return without_credentials(_AUTHORIZATION.sub(r"\1 ***", text))


def directions(
    options: CouchOptions, admins: Sequence[LeaderAdmin]
) -> tuple[ReplicationDirection, ReplicationDirection]:
    """Return both directions; raise `BadAddress` if the servers' addresses for each other are the same."""
    a, b = admins
    peer_a, peer_b = _peer(options.peer_a, a, b), _peer(options.peer_b, b, a)
    if peer_a.node == peer_b.node:
        raise BadAddress(
            f"{peer_a.node} is the address of both leaders for each other, so that a database would be replicated onto "
            "itself: give --peer-a and --peer-b"
        )
    return ReplicationDirection(a, peer_a, b, peer_b), ReplicationDirection(b, peer_b, a, peer_a)


def _peer(given: Leader | None, admin: LeaderAdmin, other: LeaderAdmin) -> Leader:
    """Return the other server's address for this one: the given one, else as configured there, else our own."""
    if given is not None:
        return given
    path = "_node/_local/_config/stalewatch/peer_url"
    configured = other.ask("GET", path, allowed=(400, MISSING, *DENIED), kind=(str, dict))
    if not isinstance(configured, str):
        return admin.leader
    try:
        named = peer(configured)
    except ValueError as error:
        raise BadAddress(
            f"stalewatch/peer_url in the configuration of {other.leader.node} {error}; or give --peer-a and --peer-b"
        ) from None
    return admin.leader._replace(scheme=named.scheme, host=named.host, port=named.port)


def jobs(direction: ReplicationDirection, database: str, *, partial: bool = False) -> Iterator[Job]:
    """Yield the jobs of either leader that send the whole database, or a part of it, in that direction all the time.

    A leader that does not let this user look at its replications counts as one without any.
    """
    sources = {(node, database) for node in (direction.source.leader.node, direction.source_peer.node)}
    targets = {(node, database) for node in (direction.target.leader.node, direction.target_peer.node)}
    for admin in (direction.source, direction.target):
        listed = admin.ask("GET", "_replicator/_all_docs?include_docs=true", allowed=(MISSING, *DENIED))
        for document in (row["doc"] for row in listed.get("rows", ())):
            ends = _end(document, "source")[2:] in sources and _end(document, "target")[2:] in targets
            if ends and document.get("continuous") and partial == any(document.get(field) for field in PARTIAL):
                yield _scheduled(admin, document)


def may_configure(admins: Sequence[LeaderAdmin]) -> bool:
    """Return whether this user may look at the replications of all leaders, and so may change them."""
    listed = [admin.ask("GET", "_replicator/_all_docs?limit=1", allowed=(MISSING, *DENIED)) for admin in admins]
    return not any(one.get("error") in {"unauthorized", "forbidden"} for one in listed)


def _scheduled(admin: LeaderAdmin, document: Document) -> Job:
    answer = admin.ask("GET", f"_scheduler/docs/_replicator/{quote(document['_id'], safe='')}", allowed=ERRORS)
    state = answer.get("state") or document.get("_replication_state") or ""
    info = answer.get("info") or document.get("_replication_state_reason") or ""
    said = str(info.get("error") or "" if isinstance(info, dict) else info)
    return Job(admin, document, state, said, None if state in ENDED else _retry_s(answer))


def _retry_s(job: Mapping[str, Any]) -> float:
    """Return in how many seconds a job that failed is tried again: after 30 s, 60 s, 120 s and so on."""
    failures = job.get("error_count")
    if not isinstance(failures, int) or failures <= 0:
        return 0.0
    pause_s = BACKOFF_S * (1 << min(failures - 1, MOST_DOUBLINGS))
    try:
        passed = datetime.now(UTC) - datetime.fromisoformat(str(job.get("last_updated")))
    except (TypeError, ValueError):
        return pause_s
    return min(pause_s, max(0.0, pause_s - passed.total_seconds()))  # clocks of two machines may differ


def paused(both: Sequence[ReplicationDirection], database: str) -> PausedReplication | None:
    """Return the direction whose jobs are all broken and which is retried last; None if there is none."""
    pauses = []
    for direction in both:
        found = list(jobs(direction, database))
        if found and all(job.is_broken for job in found):
            retries = [job.retry_s for job in found if job.retry_s is not None]
            pauses.append(PausedReplication("; ".join(map(str, found)), min(retries, default=None)))
    return max(pauses, key=lambda pause: math.inf if pause.retry_s is None else pause.retry_s, default=None)


def _end(document: Mapping[str, Any], name: str) -> tuple[str, str, str, str]:
    """Return user and password, scheme, HOST:PORT and the database of one end of a replication."""
    endpoint = document.get(name, "")
    parts = urlsplit(str(endpoint.get("url", "") if isinstance(endpoint, dict) else endpoint))
    login, _, node = parts.netloc.rpartition("@")
    return unquote(login), parts.scheme, node, unquote(parts.path).strip("/")


def document_for(direction: ReplicationDirection, database: str) -> Document:
    """Return the replication document of a direction, without its id."""
    path = quote(database, safe="")
    ends = (("source", direction.source_peer), ("target", direction.target_peer))
    return {**{name: f"{leader.full_url}/{path}" for name, leader in ends}, "continuous": True}


def own_id(direction: ReplicationDirection, database: str) -> str:
    """Return the id of a direction's document."""
    return f"{PREFIX}{database}-{direction.source_peer.node}-{direction.target_peer.node}"


def refresh(direction: ReplicationDirection, database: str) -> bool:
    """Write our documents again that differ from what they should be or whose job is broken; return whether one exists.

    If another document does the same, they are deleted instead: CouchDB fails one of two equal replications.
    """
    wanted, found = document_for(direction, database), list(jobs(direction, database))
    good = [job for job in found if not (job.is_ours and (job.is_broken or _differs(job.document, wanted)))]
    for job in (one for one in found if one not in good):
        job.holder.ask("DELETE", f"{job.path}?rev={job.document['_rev']}", allowed=(MISSING, CONFLICT))
        if not any(not one.is_broken for one in good):
            job.holder.ask("PUT", job.path, wanted, allowed=(CONFLICT,))
            good.append(job._replace(document={**wanted, "_id": job.document["_id"]}, state=""))
    return bool(good)


def _differs(document: Document, wanted: Document) -> bool:
    return any(
        isinstance(document[name], str) and _end(document, name) != _end(wanted, name) for name in ("source", "target")
    )


def create(direction: ReplicationDirection, database: str) -> None:
    """Create a replication document at the source; the replication outlives this process and the servers' restarts."""
    direction.source.ask("PUT", "_replicator", allowed=(EXISTS,))
    path = f"_replicator/{quote(own_id(direction, database), safe='')}"
    direction.source.ask("PUT", path, document_for(direction, database), allowed=(CONFLICT,))


def own_jobs(both: Sequence[ReplicationDirection], database: str) -> list[Job]:
    """Return the jobs whose documents `create` wrote, in this run or in another one."""
    return [
        job
        for direction in both
        for job in jobs(direction, database)
        if job.document["_id"] == own_id(direction, database)
    ]


def remove(found: Sequence[Job]) -> None:
    """Delete the documents of jobs, which ends the replication."""
    for job in found:
        rev = job.holder.ask("GET", job.path, allowed=(MISSING,)).get("_rev")
        if rev is not None:
            job.holder.ask("DELETE", f"{job.path}?rev={rev}", allowed=(MISSING, CONFLICT))
