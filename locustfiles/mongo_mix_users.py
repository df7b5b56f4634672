"""Users of a MongoDB replica set with three workloads: `locust -f locustfiles/mongo_mix_users.py`.

Of ten users six read and write, three append to lists, and one draws ids; to run only some classes, name them on the
command line. For users who do all of it in turn: `mongo_users.py --workload register,ledger,sequence`.
"""

from locust import task

from stalewatch.locust import DatabaseUser


class MongoRegisterUser(DatabaseUser):
    """Reads and writes documents, and often reads again what it has just written."""

    database = "mongo"
    workload = "register"
    weight = 6

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()


class MongoLedgerUser(DatabaseUser):
    """Appends unique items to lists, so that lost ones can be counted exactly."""

    database = "mongo"
    workload = "ledger"
    weight = 3

    @task
    def append_item(self) -> None:
        """Append an item to a list."""
        self.append()


class MongoSequenceUser(DatabaseUser):
    """Draws ids from counters: no id may be drawn twice, or be smaller than an earlier one."""

    database = "mongo"
    workload = "sequence"

    @task
    def draw_id(self) -> None:
        """Draw an id from a counter."""
        self.draw()
