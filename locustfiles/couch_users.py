"""Users of two CouchDB leaders: `locust -f locustfiles/couch_users.py --write-to both --read-from a`.

Without `--couch-a` and `--couch-b` two local leaders are started. With `--workload conflict --resolve union` users edit
documents, and their conflicts are resolved.
"""

from locust import task

from stalewatch.locust import DatabaseUser


class CouchUser(DatabaseUser):
    """Reads and writes documents, or edits parts of them, at the chosen leaders."""

    database = "couch"

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()
