"""Users of a simulated store; the first worker computes for five seconds without yielding."""

import time
from typing import Any

import gevent
from locust import events, task
from locust.runners import WorkerRunner

from stalewatch.locust import DatabaseUser

BUSY_AFTER_S = 2
BUSY_S = 5


class BusyUser(DatabaseUser):
    database = "memory"

    @task
    def read_or_write(self) -> None:
        self.step()


@events.test_start.add_listener
def on_test_start(environment: Any, **_: Any) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner) and runner.worker_index == 0:
        gevent.spawn_later(BUSY_AFTER_S, compute)


def compute() -> None:
    end = time.monotonic() + BUSY_S
    while time.monotonic() < end:
        pass
