"""Users of a MongoDB replica set: `locust -f locustfiles/mongo_users.py`.

Without `--mongo-uri` a local one is started.
"""

from locust import task

import stalewatch.locust.drill  # noqa: F401 # brings --drill
from stalewatch.locust.user import SessionUser


class MongoUser(SessionUser):
    """Reads and writes documents, and often reads again what it has just written."""

    database = "mongo"

    @task
    def read_or_write(self) -> None:
        """Write a key, read one that it wrote lately, or read any."""
        self.step()
