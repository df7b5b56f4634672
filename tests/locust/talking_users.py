"""Users of a simulated store whose workers print and log all the time."""

import logging
from typing import Any

import gevent
from locust import events, task
from locust.runners import WorkerRunner

from stalewatch.locust import DatabaseUser

log = logging.getLogger("talking")


class SomeUser(DatabaseUser):
    database = "memory"

    @task
    def read_or_write(self) -> None:
        self.step()


@events.test_start.add_listener
def on_test_start(environment: Any, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        gevent.spawn(talk, environment.runner)


def talk(runner: Any) -> None:
    for number in range(1000):
        print(f"printed {number}")
        log.warning("logged %s", number)
        gevent.sleep(0.3)
        if runner.state in {"stopped", "ready"}:
            return
