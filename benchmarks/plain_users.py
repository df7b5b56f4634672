"""A plain Locust user: the driver's calls, timed and reported to Locust by hand, and nothing checked."""

import os
import time
from typing import Any

from locust import User, events, task

from benchmarks.drivers import DRIVERS
from benchmarks.subjects import USERS, Gate, answer_under_locust, one_operation

gate = Gate()
driver = None


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    global driver  # noqa: PLW0603 # one per process, as in published templates
    driver = DRIVERS[os.environ["BENCHMARKS_DATABASE"]](os.environ["BENCHMARKS_ADDRESSES"].split(" "), USERS)
    answer_under_locust(gate, lambda: (driver.close(), environment.runner.quit()))


class PlainUser(User):
    """Reads and writes keys."""

    def wait_time(self) -> float:
        """Wait for the next batch."""
        gate.passed()
        return 0

    def on_start(self) -> None:
        """Wait for the first batch."""
        gate.passed()

    @task
    def operation(self) -> None:
        """Perform one operation, and report it."""
        assert driver is not None  # noqa: S101 # users start after the test
        begin, error, kind = time.perf_counter(), None, "operation"
        try:
            kind = one_operation(driver.keys, driver.read, driver.write)
        except Exception as failure:  # noqa: BLE001 # reported, as users do
            error = failure
        self.environment.events.request.fire(
            request_type="database",
            name=kind,
            response_time=(time.perf_counter() - begin) * 1000,
            response_length=0,
            exception=error,
            context={},
        )
