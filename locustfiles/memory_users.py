"""Users of a simulated store, without any server: `locust -f locustfiles/memory_users.py`.

The place to learn what is shown where, and the client that costs next to nothing. Every worker has a store of its own.
"""

from locust import task

from stalewatch.locust.user import SessionUser


class MemoryUser(SessionUser):
    """Reads and writes registers of a leader and its lagging followers (`--topology` has others)."""

    database = "memory"

    @task
    def read_or_write(self) -> None:
        """Write a key, read one that it wrote lately, or read any."""
        self.step()
