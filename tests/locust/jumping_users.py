"""Users of the simulated store in processes whose wall clock is stepped during the load.

`STEP_S` says by how many seconds, once a second from the start of the test on: Locust does not notice a step after
which a heartbeat arrives in time. Monotonic clocks go on as ever, as on a machine whose clock is set.
"""

import os
import time
from typing import Any

import gevent
from locust import events

from stalewatch.locust import DatabaseUser

__all__ = ["JumpingUser"]

STEP_S = int(os.environ["STEP_S"])


class WallClock:
    """The machine's clock, plus the steps so far."""

    def __init__(self) -> None:
        self.stepped_s = 0
        self._time, self._time_ns = time.time, time.time_ns

    def time(self) -> float:
        """Return seconds since the epoch."""
        return self._time() + self.stepped_s

    def time_ns(self) -> int:
        """Return nanoseconds since the epoch."""
        return self._time_ns() + self.stepped_s * 10**9


CLOCK = WallClock()
time.time, time.time_ns = CLOCK.time, CLOCK.time_ns


def step_forever() -> None:
    """Step the clock once a second."""
    while True:
        gevent.sleep(1)
        CLOCK.stepped_s += STEP_S
        print(f"the clock was stepped to {CLOCK.stepped_s} s", flush=True)


@events.test_start.add_listener
def start_stepping(**_: Any) -> None:
    """Step the clock as soon as there is a load."""
    gevent.spawn(step_forever)


class JumpingUser(DatabaseUser):
    """Performs the workload's operations."""

    database = "memory"
    tasks = [DatabaseUser.step]  # noqa: RUF012 # as Locust declares it
