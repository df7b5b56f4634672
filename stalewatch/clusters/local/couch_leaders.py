"""Requests to single leaders by CouchDB's protocol: databases, probe documents, and the links between leaders."""

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from stalewatch.clusters.local.programs import Lazy
from stalewatch.clusters.protocol import ClusterError, NotReady

if TYPE_CHECKING:
    import requests
else:
    requests = Lazy("requests")

Document = dict[str, Any]

USER, PASSWORD = "admin", "pass"
"""The credentials of all local leaders, which listen on loopback only and hold nothing but data of runs."""

Login = tuple[str, str]
LOGIN: Login = (USER, PASSWORD)

REPLICATOR = "_replicator"
"""The database of replication documents; a new CouchDB takes a moment to create it, or must be told to."""

MISSING, CONFLICT, EXISTS = 404, 409, 412
FIRST_ERROR = 400
"""HTTP status codes from here on are errors."""

_BROKEN = frozenset({"crashing", "error", "failed", "completed"})
"""States of the scheduler in which a continuous job does not replicate now."""

_UP_TIMEOUT_S = 1.5
_REQUEST_TIMEOUT_S = 20.0
_POLL_S = 0.005
_PREFIX = "stalewatch-"
"""Starts the ids of documents that stalewatch writes."""


class ReplicationLink(NamedTuple):
    """Replication in one direction, from `source` to `target`."""

    source: str
    target: str


def _ring(leaders: Sequence[str]) -> set[ReplicationLink]:
    """Link each leader to the next, and the last to the first: the fewest links, and the longest way."""
    return {ReplicationLink(source, target) for source, target in zip(leaders, [*leaders[1:], leaders[0]], strict=True)}


def _star(leaders: Sequence[str]) -> set[ReplicationLink]:
    """Link the first leader and every other one both ways: all changes go through the first."""
    hub, *others = leaders
    return {link for other in others for link in (ReplicationLink(hub, other), ReplicationLink(other, hub))}


def _all(leaders: Sequence[str]) -> set[ReplicationLink]:
    """Link every leader to every other: no detours, and no single link whose loss partitions them."""
    return {ReplicationLink(source, target) for source, target in permutations(leaders, 2)}


TOPOLOGIES: Mapping[str, Callable[[Sequence[str]], set[ReplicationLink]]] = {"ring": _ring, "star": _star, "all": _all}


def url(address: str, path: str = "") -> str:
    """Return a leader's URL with credentials."""
    return f"http://{USER}:{PASSWORD}@{address}/{path}"


def serving(addresses: Iterable[str]) -> set[str]:
    """Return which leaders answer; they are queried concurrently."""
    asked = list(addresses)
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as pool:
        return {address for address, up in zip(asked, pool.map(_is_up, asked), strict=True) if up}


def _is_up(address: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return bool(session.get(f"http://{address}/_up", timeout=_UP_TIMEOUT_S).ok)
    except requests.RequestException:
        return False


def create_database(address: str, name: str) -> None:
    """Create a database unless it exists."""
    _request("PUT", address, name, allowed=(EXISTS,))


def links(addresses: Mapping[str, str], database: str) -> set[ReplicationLink]:
    """Return the existing replication links for a database between leaders, given by name and address.

    It does not matter who wrote their replication documents.
    """
    return {link for link, _, _ in _existing(addresses, database)}


def renew_links(
    addresses: Mapping[str, str],
    returned: Collection[str],
    peers: Mapping[str, str] | None = None,
    login: Login = LOGIN,
) -> None:
    """Write again all our replication documents, of any database, whose job may wait after a leader was away.

    `returned` are the names of leaders that are back; others that do not answer are left out. `peers` are the leaders'
    addresses for each other, if they are others. CouchDB tries a job that failed again after 30 s, 60 s, 120 s and so
    on, but a new document at once.
    """
    living = serving(addresses.values())
    known = {(peers or addresses)[name] for name, address in addresses.items() if address in living}
    back = {(peers or addresses)[name] for name in returned}
    for name, holder in addresses.items():
        for document in _replications(holder, login) if holder in living else ():
            ends = {_end(document, "source")[0], _end(document, "target")[0]}
            ours = document["_id"].startswith(_PREFIX) and ends <= known
            if ours and ((ends & back and name not in returned) or _is_broken(holder, document, login)):
                _remove(holder, document, login)
                content = {field: value for field, value in document.items() if not field.startswith("_")}
                _request("PUT", holder, _path(document), content, allowed=(CONFLICT,), login=login)


def broken_links(addresses: Mapping[str, str], database: str) -> set[ReplicationLink]:
    """Return the links whose job does not run now, as CouchDB's scheduler says; PouchDB has none.

    CouchDB waits longer and longer between attempts, but tries a new document at once.
    """
    return {link for link, holder, document in _existing(addresses, database) if _is_broken(holder, document)}


def _is_broken(holder: str, document: Document, login: Login = LOGIN) -> bool:
    errors = range(FIRST_ERROR, 600)
    job = _request("GET", holder, f"_scheduler/docs/{_path(document)}", allowed=errors, login=login)
    return job.get("state") in _BROKEN


def put_link(addresses: Mapping[str, str], link: ReplicationLink, database: str) -> None:
    """Create a replication link for a database; it survives restarts of both servers."""
    source, target = (addresses[name] for name in link)
    path = quote(database, safe="")
    document = {"source": url(source, path), "target": url(target, path), "continuous": True}
    name = quote(f"{_PREFIX}{database}-{link.source}-{link.target}", safe="")
    _request("PUT", source, f"{REPLICATOR}/{name}", document, allowed=(CONFLICT,))


def remove_link(addresses: Mapping[str, str], link: ReplicationLink, database: str) -> None:
    """Remove a replication link for a database."""
    for existing, holder, document in _existing(addresses, database):
        if existing == link:
            _remove(holder, document)


def remove_strays(addresses: Mapping[str, str]) -> None:
    """Remove our replication documents with an end that is none of these leaders, as after a change of ports."""
    for address in addresses.values():
        for document in _replications(address):
            ends = {_end(document, "source")[0], _end(document, "target")[0]}
            if document["_id"].startswith(_PREFIX) and not ends <= set(addresses.values()):
                _remove(address, document)


def prove(addresses: Sequence[str], database: str, timeout_s: float) -> float:
    """Write a document at each leader, and return the seconds until every leader has all of them.

    Raises `NotReady` with the leaders whose documents did not arrive.
    """
    probes = {address: f"{_PREFIX}probe-{secrets.token_hex(6)}" for address in addresses}
    begin = time.monotonic()
    for address, probe in probes.items():
        _request("PUT", address, f"{database}/{probe}", {"from": address})
    try:
        for address in addresses:
            _await_probes(address, database, probes, begin + timeout_s)
        return time.monotonic() - begin
    finally:
        for address, probe in probes.items():
            rev = _request("GET", address, f"{database}/{probe}")["_rev"]
            _request("DELETE", address, f"{database}/{probe}?rev={rev}")


def _await_probes(address: str, database: str, probes: Mapping[str, str], deadline: float) -> None:
    missing = dict(probes)
    while missing:
        rows = _request("POST", address, f"{database}/_all_docs", {"keys": list(missing.values())})["rows"]
        missing = {origin: probe for (origin, probe), row in zip(missing.items(), rows, strict=True) if "error" in row}
        if missing and time.monotonic() > deadline:
            raise NotReady(f"documents written at {', '.join(missing)} did not arrive at {address}")
        time.sleep(_POLL_S)


def _existing(addresses: Mapping[str, str], database: str) -> Iterator[tuple[ReplicationLink, str, Document]]:
    """Yield every link with its document and the leader that holds it."""
    ends = {(address, database): name for name, address in addresses.items()}
    for holder in addresses.values():
        for document in _replications(holder):
            source, target = (ends.get(_end(document, end)) for end in ("source", "target"))
            if source and target:
                yield ReplicationLink(source, target), holder, document


def _remove(holder: str, document: Document, login: Login = LOGIN) -> None:
    path = f"{_path(document)}?rev={document['_rev']}"
    _request("DELETE", holder, path, allowed=(MISSING, CONFLICT), login=login)


def _path(document: Document) -> str:
    return f"{REPLICATOR}/{quote(document['_id'], safe='')}"


def _replications(address: str, login: Login = LOGIN) -> list[Document]:
    listed = _request("GET", address, f"{REPLICATOR}/_all_docs?include_docs=true", allowed=(MISSING,), login=login)
    documents = (row["doc"] for row in listed.get("rows", ()))
    return [document for document in documents if not document["_id"].startswith("_design/")]


def _end(document: Document, end: str) -> tuple[str, str]:
    """Return HOST:PORT and path of a replication's source or target."""
    endpoint = document.get(end, "")
    parts = urlsplit(endpoint if isinstance(endpoint, str) else endpoint.get("url", ""))
    return parts.netloc.rpartition("@")[2], unquote(parts.path).strip("/")


def _request(
    method: str,
    address: str,
    path: str,
    body: object = None,
    *,
    allowed: Collection[int] = (),
    login: Login = LOGIN,
) -> Document:
    """Return a leader's answer; raise `ClusterError` for none, or for an error that is not `allowed`."""
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between this process and loopback
            session.auth = login
            response = session.request(method, f"http://{address}/{path}", json=body, timeout=_REQUEST_TIMEOUT_S)
            answer: Document = response.json()
    except requests.RequestException as error:
        raise ClusterError(f"{address} does not answer: {error}") from error
    if response.status_code >= FIRST_ERROR and response.status_code not in allowed:
        reason = answer.get("reason", answer.get("error", ""))
        raise ClusterError(f"{address} refused {method} {path.partition('?')[0]}: {response.status_code} {reason}")
    return answer
