"""Set up replication of a database between two CouchDB leaders, and wait until a document has arrived both ways.

Runs in plain Python, configured by its environment: ``LEADERS`` has both URLs, as the leaders reach each other,
``DATABASE`` the database's name, ``COUCHDB_USER`` and ``COUCHDB_PASSWORD`` the credentials. Existing databases are left
as they are; a replication document is written again if it has other credentials, or if CouchDB has given its job up for
now. Replication documents have the ids that `stalewatch.clients.couchdb.replication` uses, so that neither creates a
second one.
"""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

TIMEOUT_S = 120.0
_REQUEST_TIMEOUT_S = 10.0
_POLL_S = 0.2

SYSTEM = ("_users", "_replicator")
"""System databases that a new CouchDB may not have created itself."""

BROKEN = {"crashing", "error", "failed", "completed"}
"""States of the scheduler in which a continuous job does not replicate now."""

MISSING, CONFLICT, EXISTS = 404, 409, 412
UNAUTHORIZED = {401, 403}


class LeaderRefused(Exception):
    """A leader answered with an error, whose HTTP status is `status`."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class SameLeader(Exception):
    """Both URLs lead to the same server."""


def ask(method: str, url: str, body: object = None) -> Any:  # noqa: ANN401 # JSON
    """Return a leader's answer; raise `LeaderRefused`, or OSError if there is none."""
    login = base64.b64encode(f"{os.environ['COUCHDB_USER']}:{os.environ['COUCHDB_PASSWORD']}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 # a URL from our own environment
    try:
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as answer:  # noqa: S310 # as above
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise LeaderRefused(f"{method} {url}: {error.code} {error.reason}", error.code) from None


def put(url: str, body: object, exists_status: int) -> None:
    """Create a document or database, unless the answer's status says that it exists."""
    try:
        ask("PUT", url, body)
    except LeaderRefused as error:
        if error.status != exists_status:
            raise


def with_login(url: str) -> str:
    """Return a URL with credentials, as in replication documents."""
    parts = urllib.parse.urlsplit(url)
    user, password = (urllib.parse.quote(os.environ[name], safe="") for name in ("COUCHDB_USER", "COUCHDB_PASSWORD"))
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def set_up(leaders: list[str], database: str) -> None:
    """Create the databases and one working replication document at each leader, unless they exist."""
    path = urllib.parse.quote(database, safe="")
    for leader in leaders:
        for name in (*SYSTEM, path):
            put(f"{leader}/{name}", None, EXISTS)
    require_two_places(leaders)
    for source, target in (leaders, leaders[::-1]):
        ends = [urllib.parse.urlsplit(leader).netloc for leader in (source, target)]
        name = urllib.parse.quote(f"stalewatch-{database}-{'-'.join(ends)}", safe="")
        urls = {"source": f"{with_login(source)}/{path}", "target": f"{with_login(target)}/{path}"}
        replicate(source, name, {**urls, "continuous": True})


def replicate(leader: str, name: str, document: dict[str, Any]) -> None:
    """Create a replication document; replace one that differs or whose job is broken, which starts it at once."""
    url = f"{leader}/_replicator/{name}"
    existing = get(url) or {}
    job = get(f"{leader}/_scheduler/docs/_replicator/{name}") or {}  # PouchDB has no scheduler
    differs = any(existing.get(field) != value for field, value in document.items())
    if existing and (differs or job.get("state") in BROKEN):
        ask("DELETE", f"{url}?rev={existing['_rev']}")
    put(url, document, CONFLICT)


def require_two_places(leaders: list[str]) -> None:
    """Raise `SameLeader` if a ``_local/`` document, which never replicates, is at both leaders."""
    path = f"_replicator/_local/stalewatch-{time.time_ns()}"
    one, other = (f"{leader}/{path}" for leader in leaders)
    revision = ask("PUT", one, {})["rev"]
    try:
        if get(other) is not None:
            raise SameLeader(f"{' and '.join(leaders)} are the same server, or members of one cluster: name two")
    finally:
        ask("DELETE", f"{one}?rev={revision}")


def prove(leaders: list[str], database: str, deadline: float) -> None:
    """Wait until a document written at each leader has arrived at the other; raise `TimeoutError` if it does not."""
    for source, target in (leaders, leaders[::-1]):
        probe = f"{urllib.parse.quote(database, safe='')}/stalewatch-setup-{time.time_ns()}"
        revision = ask("PUT", f"{source}/{probe}", {"from": source})["rev"]
        try:
            while get(f"{target}/{probe}") is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"a document written at {source} did not arrive at {target}: see the database _replicator there"
                    )
                time.sleep(_POLL_S)
        finally:
            ask("DELETE", f"{source}/{probe}?rev={revision}")


def get(url: str) -> Any:  # noqa: ANN401 # JSON
    """Return what is there, or None if nothing is."""
    try:
        return ask("GET", url)
    except LeaderRefused as error:
        if error.status != MISSING:
            raise
        return None


def main() -> int:
    """Set up replication and prove it; retry errors, such as those of a leader that is starting, until the timeout."""
    leaders, database = os.environ["LEADERS"].split(), os.environ["DATABASE"]
    deadline, reported = time.monotonic() + TIMEOUT_S, ""
    while True:
        try:
            set_up(leaders, database)
            prove(leaders, database, deadline)
        except SameLeader as error:
            report(str(error))
            return 1
        except (OSError, LeaderRefused) as error:
            if str(error) != reported:
                report(reported := str(error))
            if isinstance(error, LeaderRefused) and error.status in UNAUTHORIZED:
                report("set COUCHDB_USER and COUCHDB_PASSWORD to the leaders' credentials")
                return 1
            if time.monotonic() > deadline:
                return 1
            time.sleep(_POLL_S)
        else:
            print(f"{database} is replicated between {' and '.join(leaders)}")
            return 0


def report(line: str) -> None:
    """Print a line to standard error."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
