"""Users of a Cassandra ring: `locust -f locustfiles/cassandra_users.py --write-cl QUORUM --read-cl ONE`.

Without `--hosts` a local ring of three nodes is started.
"""

from locust import task

from stalewatch.locust import DatabaseUser


class CassandraUser(DatabaseUser):
    """Reads and writes rows at the chosen consistency levels."""

    database = "cassandra"

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()
