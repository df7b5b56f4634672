"""The set-up of a database on two leaders that replicate to each other: found, or created, and checked to work."""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import quote

from stalewatch.clients.couchdb import replication
from stalewatch.clients.couchdb.administration import ADMIN_NEEDED, EXISTS, MISSING, LeaderAdmin, becomes_true
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.couchdb.preconditions import require_suitable, require_two_places, welcome
from stalewatch.clients.couchdb.replication import PREFIX, Job, ReplicationDirection
from stalewatch.clients.errors import ClientError, Unreachable

READY_S = 60.0
"""The longest time for a document to reach the other leader: CouchDB starts a new job after 3 s, and backs off after
outages."""

EXISTING_S = 3.0
"""The time in which existing replication has to prove that it works, before ours is added."""


LOOK_S, LOOKS = 2.0, 2
"""How often the scheduler is asked during that wait, and how often in a row it must say that a job is broken."""


def set_up(options: CouchOptions, admins: Sequence[LeaderAdmin]) -> dict[str, str]:
    """Ensure that the database exists and is replicated in both directions; return the servers' versions by flag.

    Raises `BadAddress` before anything is created, `Unreachable` or another `ClientError`.
    """
    welcomes = [welcome(admin) for admin in admins]
    uuids = [said.get("uuid") for said in welcomes]
    are_two = require_two_places(admins, uuids, options.db)
    for admin in admins:
        require_suitable(admin, options.db)
    both = replication.directions(options, admins)
    created = [_create_database(admin, options.db) for admin in admins]
    if not are_two:  # no database existed that could tell
        require_two_places(admins, uuids, options.db)
    _replicate(options, admins, both, is_new=any(created))
    return {admin.flag: _version(said) for admin, said in zip(admins, welcomes, strict=True)}


def _version(said: Mapping[str, Any]) -> str:
    version = said.get("version")
    return f"CouchDB {version}" if version else str(said.get("vendor", {}).get("name", "unknown"))


def _create_database(admin: LeaderAdmin, database: str) -> bool:
    """Create the database if it is missing; return whether it was."""
    path = quote(database, safe="")
    if "error" not in admin.ask("GET", path, allowed=(MISSING,)):
        return False
    return "error" not in admin.ask("PUT", path, allowed=(EXISTS,))


def _replicate(
    options: CouchOptions, admins: Sequence[LeaderAdmin], both: Sequence[ReplicationDirection], *, is_new: bool
) -> None:
    """Mend, complete and prove the replication; documents that were created are deleted again if it does not work."""
    database, allowed = options.db, replication.may_configure(admins)
    missing = [one for one in both if not replication.refresh(one, database)] if allowed else []
    certain = options.peer_a or options.peer_b or is_new
    certain = certain or any(any(replication.jobs(one, database, partial=True)) for one in missing)
    if missing and (certain or _undelivered(admins, database, EXISTING_S)):
        for direction in missing:
            replication.create(direction, database)
    begin, given_up = time.monotonic(), _GivenUp(both, database, READY_S)
    undelivered = _undelivered(admins, database, READY_S, given_up)
    if undelivered is None:
        return
    source, target = undelivered
    failing = next(one for one in both if one.source is source)
    states = "; ".join(str(job) for job in replication.jobs(failing, database))
    advice = "check that the servers reach each other by --peer-a and --peer-b"
    with suppress(ClientError):  # a leader may be gone; what is wrong is said below
        replication.remove(replication.own_jobs(missing, database))
    raise Unreachable(
        f"replication of {database} does not work: a document written at {source.leader.node} did not reach "
        f"{target.leader.node} within {time.monotonic() - begin:.0f} s ({states or 'no replication job is known'}); "
        f"{advice if allowed else ADMIN_NEEDED.format(flag=source.flag)}"
    )


class _GivenUp:
    """Tells whether the scheduler has given up a direction for longer than the wait that begins now; asks rarely.

    A job of ours was just written anew, so that another try will fail too. One that others wrote may only wait for its
    turn after an outage.
    """

    def __init__(self, both: Sequence[ReplicationDirection], database: str, timeout_s: float) -> None:
        self._both, self._database = both, database
        now = time.monotonic()
        self._deadline, self._next_look = now + timeout_s, now + LOOK_S
        self._broken = 0

    def __call__(self, source: LeaderAdmin) -> bool:
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + LOOK_S
        found = [job for one in self._both if one.source is source for job in replication.jobs(one, self._database)]
        hopeless = found and all(job.is_broken and self._is_lasting(job, now) for job in found)
        self._broken = self._broken + 1 if hopeless else 0
        return self._broken >= LOOKS

    def _is_lasting(self, job: Job, now: float) -> bool:
        return job.is_ours or job.retry_s is None or now + job.retry_s > self._deadline


def _never(_: LeaderAdmin) -> bool:
    return False


def _undelivered(
    admins: Sequence[LeaderAdmin],
    database: str,
    timeout_s: float,
    given_up: Callable[[LeaderAdmin], bool] = _never,
) -> tuple[LeaderAdmin, LeaderAdmin] | None:
    """Write a document at each leader; return the source and target of one that did not arrive in time, or None.

    The wait ends early if replication from a source is `given_up`.
    """
    deadline, path = time.monotonic() + timeout_s, quote(database, safe="")
    probes = {admin: f"{PREFIX}probe-{secrets.token_hex(6)}" for admin in admins}
    for admin, probe in probes.items():
        admin.ask("PUT", f"{path}/{probe}", {"from": admin.leader.node})

    def arrived(probe: str, target: LeaderAdmin) -> bool:
        return "error" not in target.ask("GET", f"{path}/{probe}", allowed=(MISSING,))

    def settled(probe: str, source: LeaderAdmin, target: LeaderAdmin) -> bool:
        return arrived(probe, target) or given_up(source)

    try:
        for source, probe in probes.items():
            for target in admins:
                if not becomes_true(deadline, settled, probe, source, target) or not arrived(probe, target):
                    return source, target
        return None
    finally:
        for admin, probe in probes.items():
            admin.delete(database, admin.live(database, [probe]))
