"""Users of a simulated store, without any server: `locust -f locustfiles/memory_users.py`.

Good for finding out what is shown where, and for measuring stalewatch itself. Every worker has its own store.
"""

from locust import task

from stalewatch.locust import DatabaseUser


class MemoryUser(DatabaseUser):
    """Reads and writes registers of a leader with lagging followers; see `--topology` for others."""

    database = "memory"

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()
