"""Users of two CouchDB leaders: `locust -f locustfiles/couch_users.py --write-to both --read-from a`.

Without `--couch-a` and `--couch-b` two leaders are started on this machine. `--workload conflict --resolve union` edits
documents and resolves their conflicts.
"""

from locust import task

import stalewatch.locust.drill  # noqa: F401 # brings --drill
from stalewatch.locust.user import SessionUser


class CouchUser(SessionUser):
    """Reads and writes documents at the leaders that are asked for, or edits parts of them."""

    database = "couch"

    @task
    def read_or_write(self) -> None:
        """Write a key, read one that it wrote lately, or read any."""
        self.step()
