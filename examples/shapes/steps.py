"""Users in five equal steps, to find the load at which staleness begins to grow.

    locust -f locustfiles/mongo_users.py,examples/shapes/steps.py -u 200 -r 20 -t 10m

It lives outside `locustfiles/`, since a shape among the files that `-f` loads takes `-u -r -t` away from everyone.
"""

from math import ceil

from locust import LoadTestShape

STEPS = 5
DEFAULT_TIME_S = 300


class StepLoad(LoadTestShape):
    """A fifth of `-u` users first, then two fifths, ..., each for a fifth of `-t` (default: 5 minutes)."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be now, and how many start a second; None at the end."""
        assert self.runner is not None  # noqa: S101 # Locust sets it before the first tick
        options = self.runner.environment.parsed_options
        whole_s = options.run_time or DEFAULT_TIME_S
        step = int(self.get_run_time() / whole_s * STEPS) + 1
        if step > STEPS:
            return None
        return ceil((options.num_users or STEPS) * step / STEPS), options.spawn_rate or 1
