"""Users who call pymongo themselves, on documents of their own: `locust -f users.py`."""

import os
from functools import cache
from typing import Any

from locust import User, constant, task
from pymongo import MongoClient, ReadPreference
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from stalewatch.locust import Watched

LOCAL = "mongodb://127.0.0.1:27017,127.0.0.1:27018,127.0.0.1:27019/?replicaSet=rs0"


@cache  # one a process, made by its first user: a client must not be shared with forked workers
def carts() -> Any:  # noqa: ANN401 # a collection
    """Return the collection of carts."""
    return MongoClient(os.environ.get("MONGO_URI", LOCAL), w=1).shop.carts


class CartUser(Watched, User):
    """Fills carts, looks at them on a secondary, and logs events in a list."""

    wait_time = constant(0.005)

    @task
    def fill(self) -> None:
        """Put something into a cart, in one update with the version."""
        with self.watch.write(self.watch.key_to_write()) as write:
            carts().update_one({"_id": write.key}, {"$inc": {"items": 1}, "$set": {"version": write.version}})

    @task(3)
    def look(self) -> None:
        """Look at a cart."""
        with self.watch.read(self.watch.key()) as read:
            on_secondary = carts().with_options(read_preference=ReadPreference.SECONDARY)
            read.saw(on_secondary.find_one({"_id": read.key})["version"])

    @task
    def log_event(self) -> None:
        """Append an event to a list."""
        with self.watch.append(self.watch.list()) as append:
            carts().update_one({"_id": append.key}, {"$push": {"events": append.item}})

    def create(self, key: str) -> None:
        """Insert a cart, before the load, and wait until all members have it."""
        carts().with_options(write_concern=WriteConcern(3)).insert_one({"_id": key, "version": 0})

    def create_list(self, key: str) -> None:
        """Insert an empty list."""
        carts().insert_one({"_id": key, "events": []})

    def final_read(self, key: str) -> int:
        """Return the version that is there in the end."""
        version: int = self._durable(key)["version"]
        return version

    def final_items(self, key: str) -> list[str]:
        """Return the events that are there in the end."""
        items: list[str] = self._durable(key)["events"]
        return items

    def remove(self, key: str) -> None:
        """Delete a cart or a list, after the load."""
        carts().delete_one({"_id": key})

    remove_list = remove

    @staticmethod
    def _durable(key: str) -> dict[str, Any]:
        found: dict[str, Any] = carts().with_options(read_concern=ReadConcern("linearizable")).find_one({"_id": key})
        return found
