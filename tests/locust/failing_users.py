"""Users of a simulated store beside users of another system, whose requests fail; a handler may choose the exit code."""

import os
from typing import Any

from locust import User, constant, events, task

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


@events.quitting.add_listener
def choose_exit_code(environment: Any, **_: Any) -> None:
    if "CHOSEN_CODE" in os.environ:
        environment.process_exit_code = int(os.environ["CHOSEN_CODE"])
