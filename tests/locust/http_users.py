"""Users of a simulated store, and users of an HTTP service whose address has a user and a password."""

from locust import HttpUser, task

from stalewatch.locust import DatabaseUser


class StoreUser(DatabaseUser):
    database = "memory"

    @task
    def work(self) -> None:
        self.step()


class ServiceUser(HttpUser):
    @task
    def look(self) -> None:
        self.client.get("/")
