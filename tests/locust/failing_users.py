"""Users of a simulated store, and users of another system, whose requests all fail."""

from locust import User, constant, task

from stalewatch.locust import DatabaseUser


class StoreUser(DatabaseUser):
    database = "memory"

    @task
    def work(self) -> None:
        self.step()


class FailingUser(User):
    wait_time = constant(0.1)

    @task
    def fail(self) -> None:
        self.environment.events.request.fire(
            request_type="GET", name="/", response_time=1, response_length=0, exception=OSError("refused"), context={}
        )
