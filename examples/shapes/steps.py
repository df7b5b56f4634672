"""Users in five equal steps, to find the load at which staleness starts to grow.

    locust -f locustfiles/mongo_users.py,examples/shapes/steps.py -u 200 -r 20 -t 10m

It is not in `locustfiles/`, because a shape in any file that `-f` loads overrides `-u -r -t` for all users.
"""

from math import ceil

from locust import LoadTestShape

STEPS = 5
DEFAULT_TIME_S = 300


class StepLoad(LoadTestShape):
    """A fifth of `-u` users, then two fifths, and so on, each for a fifth of `-t` (default: 5 minutes)."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and how many to start per second; None at the end."""
        assert self.runner is not None  # noqa: S101 # Locust sets it before the first tick
        options = self.runner.environment.parsed_options
        whole_s = options.run_time or DEFAULT_TIME_S
        step = int(self.get_run_time() / whole_s * STEPS) + 1
        if step > STEPS:
            return None
        return ceil((options.num_users or STEPS) * step / STEPS), options.spawn_rate or 1
