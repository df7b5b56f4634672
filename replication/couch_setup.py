"""Lets two CouchDB leaders replicate a database to each other, and ends when a document has arrived both ways.

Runs in a bare Python. ``LEADERS`` holds both URLs as the leaders call each other, ``DATABASE`` the database's name,
``COUCHDB_USER`` and ``COUCHDB_PASSWORD`` who we are. What stands already is left as it is; the names of the replication
documents are those that `stalewatch.clients.couchdb.setup` gives, so that neither sets up what the other one has.
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
"""Databases that a new CouchDB may need to be told to have."""

MISSING, CONFLICT, EXISTS = 404, 409, 412
LOCKED_OUT = {401, 403}


class Refused(Exception):
    """A leader answered with an error; `status` is HTTP's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def ask(method: str, url: str, body: object = None) -> Any:  # noqa: ANN401 # JSON
    """Return a leader's answer; raise `Refused`, or OSError where there is none."""
    login = base64.b64encode(f"{os.environ['COUCHDB_USER']}:{os.environ['COUCHDB_PASSWORD']}".encode()).decode()
    headers = {"Authorization": f"Basic {login}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 # a URL from our own environment
    try:
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as answer:  # noqa: S310 # as above
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Refused(f"{method} {url}: {error.code} {error.reason}", error.code) from None


def put(url: str, body: object, *there: int) -> None:
    """Put a document or a database, if it is not `there` yet, as these statuses say."""
    try:
        ask("PUT", url, body)
    except Refused as error:
        if error.status not in there:
            raise


def with_login(url: str) -> str:
    """Return a URL as replication documents hold it."""
    parts = urllib.parse.urlsplit(url)
    user, password = (urllib.parse.quote(os.environ[name], safe="") for name in ("COUCHDB_USER", "COUCHDB_PASSWORD"))
    return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def set_up(leaders: list[str], database: str) -> None:
    """Create what is missing: the databases, then one replication document at each leader."""
    for leader in leaders:
        for name in (*SYSTEM, database):
            put(f"{leader}/{name}", None, EXISTS)
    for source, target in (leaders, leaders[::-1]):
        ends = [urllib.parse.urlsplit(leader).netloc for leader in (source, target)]
        name = urllib.parse.quote(f"stalewatch-{database}-{'-'.join(ends)}", safe="")
        ways = {"source": f"{with_login(source)}/{database}", "target": f"{with_login(target)}/{database}"}
        put(f"{source}/_replicator/{name}", {**ways, "continuous": True}, CONFLICT)


def prove(leaders: list[str], database: str, deadline: float) -> None:
    """Wait until what is written at each leader is at the other one too; raise `TimeoutError` where it is not."""
    for source, target in (leaders, leaders[::-1]):
        probe = f"{database}/stalewatch-setup-{time.time_ns()}"
        revision = ask("PUT", f"{source}/{probe}", {"from": source})["rev"]
        try:
            while not there(f"{target}/{probe}"):
                if time.monotonic() > deadline:
                    raise TimeoutError(
                        f"a document written at {source} does not arrive at {target}: see _replicator there"
                    )
                time.sleep(_POLL_S)
        finally:
            ask("DELETE", f"{source}/{probe}?rev={revision}")


def there(url: str) -> bool:
    """Tell whether there is a document."""
    try:
        ask("GET", url)
    except Refused as error:
        if error.status != MISSING:
            raise
        return False
    return True


def main() -> int:
    """Set up and prove it; what fails, as at a leader that still starts, is tried again until the time is up."""
    leaders, database = os.environ["LEADERS"].split(), os.environ["DATABASE"]
    deadline, told = time.monotonic() + TIMEOUT_S, ""
    while True:
        try:
            set_up(leaders, database)
            prove(leaders, database, deadline)
        except (OSError, Refused) as error:
            if str(error) != told:
                tell(told := str(error))
            if isinstance(error, Refused) and error.status in LOCKED_OUT:
                tell("set COUCHDB_USER and COUCHDB_PASSWORD as the leaders have them")
                return 1
            if time.monotonic() > deadline:
                return 1
            time.sleep(_POLL_S)
        else:
            print(f"{database} is replicated between {' and '.join(leaders)}")
            return 0


def tell(line: str) -> None:
    """Say what goes wrong."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
