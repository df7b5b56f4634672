"""Users of three kinds side by side on a MongoDB replica set: `locust -f locustfiles/mongo_mix_users.py`.

Of every ten users six read and write, three append to lists and one draws ids; a class named on the command line runs
alone. Users who each do all of it in turn: `mongo_users.py --workload register,ledger,sequence`.
"""

from locust import task

import stalewatch.locust.drill  # noqa: F401 # brings --drill
from stalewatch.locust.user import SessionUser


class MongoRegisterUser(SessionUser):
    """Reads and writes documents, and often reads again what it has just written."""

    database = "mongo"
    workload = "register"
    weight = 6

    @task
    def read_or_write(self) -> None:
        """Write a key, read one that it wrote lately, or read any."""
        self.step()


class MongoLedgerUser(SessionUser):
    """Appends items to lists: in the end it is known exactly which of them are lost."""

    database = "mongo"
    workload = "ledger"
    weight = 3

    @task
    def append(self) -> None:
        """Append an item that nobody else appends."""
        self.step()


class MongoSequenceUser(SessionUser):
    """Draws ids from counters: none may come twice, nor be smaller than one before."""

    database = "mongo"
    workload = "sequence"

    @task
    def draw(self) -> None:
        """Draw the next id of a counter."""
        self.step()
