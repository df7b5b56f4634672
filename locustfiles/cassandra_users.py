"""Users of a Cassandra ring: `locust -f locustfiles/cassandra_users.py --write-cl QUORUM --read-cl ONE`.

Without `--hosts` a ring of three nodes is started on this machine.
"""

from locust import task

import stalewatch.locust.drill  # noqa: F401 # brings --drill
from stalewatch.locust.user import SessionUser


class CassandraUser(SessionUser):
    """Reads and writes rows at the consistency levels that are asked for."""

    database = "cassandra"

    @task
    def read_or_write(self) -> None:
        """Write a key, read one that it wrote lately, or read any."""
        self.step()
