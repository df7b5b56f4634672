"""What killed runs left at two leaders: documents named after their run, and the replication that runs set up."""

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

from stalewatch.clients.couchdb import replication
from stalewatch.clients.couchdb.administration import MISSING, LeaderAdmin, leader_admins
from stalewatch.clients.couchdb.options import CouchOptions
from stalewatch.clients.preload import batches, run_of
from stalewatch.clients.protocol import Leftover

PROBE = f"{replication.PREFIX}probe-"
"""Starts the names of documents by which a run checks that the replication works."""

_RANGES = (("0", "a"), (PROBE, f"{PROBE}g"))
"""First and last names of the documents of runs, which begin with a digit, and of probes, which end with hex digits."""


class CouchLeftovers:
    """The documents of runs in one database, at both leaders, and our replication documents for it."""

    def __init__(self, options: CouchOptions) -> None:
        """Prepare the connections; raise `BadAddress` for unusable options."""
        options.check()
        self._options = options
        self._admins = leader_admins(options, options.timeout_s)

    def find(self) -> Iterable[Leftover]:
        """Return the documents of runs and the replication documents; raise a `ClientError`."""
        found = [one for admin in self._admins for one in self._documents(admin)]
        return [*found, *(Leftover(None, _replicator(job), job.document["_id"]) for job in self._jobs())]

    def _documents(self, admin: LeaderAdmin) -> Iterator[Leftover]:
        path = f"{quote(self._options.db, safe='')}/_all_docs"
        for first, last in _RANGES:
            query = f"?startkey=%22{first}%22&endkey=%22{last}%22"
            for row in admin.ask("GET", f"{path}{query}", allowed=(MISSING,)).get("rows", ()):
                run = run_of(row["id"])
                if run is not None or row["id"].startswith(PROBE):
                    yield Leftover(run, self._place(admin), row["id"])

    def _jobs(self) -> list[replication.Job]:
        return replication.own_jobs(replication.directions(self._options, self._admins), self._options.db)

    def _place(self, admin: LeaderAdmin) -> str:
        return f"{self._options.db} at {admin.leader.node}"

    def remove(self, found: Sequence[Leftover]) -> None:
        """Delete the replication documents, then the documents at both leaders; raise a `ClientError`."""
        replications = {(one.place, one.key) for one in found}
        replication.remove([job for job in self._jobs() if (_replicator(job), job.document["_id"]) in replications])
        for admin in self._admins:
            for batch in batches([one.key for one in found if one.place == self._place(admin)]):
                admin.delete(self._options.db, admin.live(self._options.db, batch))

    def close(self) -> None:
        """Close the connections."""
        for admin in self._admins:
            admin.close()


def _replicator(job: replication.Job) -> str:
    return f"_replicator at {job.holder.leader.node}"
