"""Users of a MongoDB replica set: `locust -f locustfiles/mongo_users.py`.

Without `--mongo-uri` a local replica set is started.
"""

from locust import task

from stalewatch.locust import DatabaseUser


class MongoUser(DatabaseUser):
    """Reads and writes documents, and often reads again what it has just written."""

    database = "mongo"

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()
