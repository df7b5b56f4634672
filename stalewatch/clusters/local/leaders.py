"""Talking to single leaders that speak CouchDB's protocol: databases, replication documents, probe documents."""

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from stalewatch.clusters.local.packages import Lazy
from stalewatch.clusters.local.topologies import Link
from stalewatch.clusters.protocol import ClusterError, NotReady

if TYPE_CHECKING:
    import requests
else:
    requests = Lazy("requests")

Document = dict[str, Any]

USER, PASSWORD = "admin", "pass"
"""Of every local leader: they listen on loopback alone, and hold what runs leave there."""

JOBS = "_replicator"
"""The database whose documents are replications; a new CouchDB may need a moment, or to be told, to have it."""

EXISTS, CONFLICT, MISSING = 412, 409, 404
REFUSED = 400
"""Answers from here on are no success."""

_LOOK_TIMEOUT_S = 1.5
_ORDER_TIMEOUT_S = 20.0
_POLL_S = 0.005
_OURS = "stalewatch-"


def url(address: str, path: str = "") -> str:
    """Return a leader's URL with its credentials."""
    return f"http://{USER}:{PASSWORD}@{address}/{path}"


def serving(addresses: Iterable[str]) -> set[str]:
    """Return which of the leaders answer, asked all at once."""
    asked = list(addresses)
    with ThreadPoolExecutor(max_workers=max(1, len(asked))) as pool:
        return {address for address, up in zip(asked, pool.map(_serves, asked), strict=True) if up}


def _serves(address: str) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return bool(session.get(f"http://{address}/_up", timeout=_LOOK_TIMEOUT_S).ok)
    except requests.RequestException:
        return False


def create_database(address: str, name: str) -> None:
    """Create a database where there is none of that name."""
    _ask("PUT", address, name, allowed=(EXISTS,))


def links(addresses: Mapping[str, str], database: str) -> set[Link]:
    """Return the links that replication documents, whoever wrote them, make between the leaders for a database.

    `addresses` are those of the leaders by their names.
    """
    return {link for link, _, _ in _standing(addresses, database)}


def put_link(addresses: Mapping[str, str], link: Link, database: str) -> None:
    """Let a leader send a database's changes to another from now on; the job outlives both servers."""
    source, target = (addresses[name] for name in link)
    document = {"source": url(source, database), "target": url(target, database), "continuous": True}
    _ask("PUT", source, f"{JOBS}/{_document_id(database, *link)}", document, allowed=(CONFLICT,))


def remove_link(addresses: Mapping[str, str], link: Link, database: str) -> None:
    """Let a leader send a database's changes to another no longer."""
    for standing, holder, document in _standing(addresses, database):
        if standing == link:
            _remove(holder, document)


def remove_strays(addresses: Mapping[str, str]) -> None:
    """Remove replication that was set up between local leaders of which one has moved or is no more."""
    for address in addresses.values():
        for document in _replications(address):
            ends = {_end(document, "source")[0], _end(document, "target")[0]}
            if document["_id"].startswith(_OURS) and not ends <= set(addresses.values()):
                _remove(address, document)


def prove(addresses: Sequence[str], database: str, timeout_s: float) -> float:
    """Write a document at each leader and wait until it is at all others; return how many seconds the last one took.

    Raises `NotReady` with what did not arrive.
    """
    probes = {address: f"{_OURS}probe-{secrets.token_hex(6)}" for address in addresses}
    begin = time.monotonic()
    for address, probe in probes.items():
        _ask("PUT", address, f"{database}/{probe}", {"from": address})
    try:
        for address in addresses:
            _await_probes(address, database, probes, begin + timeout_s)
        return time.monotonic() - begin
    finally:
        for address, probe in probes.items():
            rev = _ask("GET", address, f"{database}/{probe}")["_rev"]
            _ask("DELETE", address, f"{database}/{probe}?rev={rev}")


def _await_probes(address: str, database: str, probes: Mapping[str, str], deadline: float) -> None:
    missing = dict(probes)
    while missing:
        rows = _ask("POST", address, f"{database}/_all_docs", {"keys": list(missing.values())})["rows"]
        missing = {origin: probe for (origin, probe), row in zip(missing.items(), rows, strict=True) if "error" in row}
        if missing and time.monotonic() > deadline:
            raise NotReady(f"what was written at {', '.join(missing)} does not arrive at {address}")
        time.sleep(_POLL_S)


def update_sequence(address: str, database: str) -> object:
    """Return a database's sequence number, which changes with every change; it means nothing but that."""
    return _ask("GET", address, database)["update_seq"]


def _document_id(database: str, source: str, target: str) -> str:
    return f"{_OURS}{database}-{source}-{target}"


def _standing(addresses: Mapping[str, str], database: str) -> Iterator[tuple[Link, str, Document]]:
    """Yield every link with the leader that holds its document, and the document."""
    ends = {(address, f"/{database}"): name for name, address in addresses.items()}
    for holder in addresses.values():
        for document in _replications(holder):
            source, target = (ends.get(_end(document, end)) for end in ("source", "target"))
            if source and target:
                yield Link(source, target), holder, document


def _remove(holder: str, document: Document) -> None:
    name = quote(document["_id"], safe="")
    _ask("DELETE", holder, f"{JOBS}/{name}?rev={document['_rev']}", allowed=(MISSING, CONFLICT))


def _replications(address: str) -> list[Document]:
    listed = _ask("GET", address, f"{JOBS}/_all_docs?include_docs=true", allowed=(MISSING,))
    documents = (row["doc"] for row in listed.get("rows", ()))
    return [document for document in documents if not document["_id"].startswith("_design/")]


def _end(document: Document, end: str) -> tuple[str, str]:
    """Return HOST:PORT and the path of one end of a replication."""
    endpoint = document.get(end, "")
    parts = urlsplit(endpoint if isinstance(endpoint, str) else endpoint.get("url", ""))
    return parts.netloc.rpartition("@")[2], parts.path.rstrip("/")


def _ask(method: str, address: str, path: str, body: object = None, *, allowed: Sequence[int] = ()) -> Document:
    """Return a leader's answer; raise `ClusterError` where it does not come or is no success and not `allowed`."""
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between us and loopback
            session.auth = (USER, PASSWORD)
            answer = session.request(method, f"http://{address}/{path}", json=body, timeout=_ORDER_TIMEOUT_S)
            told: Document = answer.json()
    except requests.RequestException as error:
        raise ClusterError(f"{address} does not answer: {error}") from error
    if answer.status_code >= REFUSED and answer.status_code not in allowed:
        reason = told.get("reason", told.get("error", ""))
        raise ClusterError(f"{address} refused {method} {path.partition('?')[0]}: {answer.status_code} {reason}")
    return told
