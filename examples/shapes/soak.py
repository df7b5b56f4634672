"""Many users for hours, in waves: for problems that need time, such as a follower that falls behind for good.

    locust -f locustfiles/mongo_users.py,examples/shapes/soak.py -u 100 -r 10 -t 8h

It is not in `locustfiles/`, because a shape in any file that `-f` loads overrides `-u -r -t` for all users.
"""

from math import cos, pi

from locust import LoadTestShape

DEFAULT_TIME_S = 3600
WAVE_S = 600
LOW = 0.5
"""The fraction of `-u` at the low point of a wave."""


class Soak(LoadTestShape):
    """Between half and all of `-u` users, in waves of ten minutes, for `-t` (default: an hour)."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and how many to start per second; None at the end."""
        assert self.runner is not None  # noqa: S101 # Locust sets it before the first tick
        options = self.runner.environment.parsed_options
        now_s = self.get_run_time()
        if now_s > (options.run_time or DEFAULT_TIME_S):
            return None
        height = LOW + (1 - LOW) * (1 - cos(2 * pi * now_s / WAVE_S)) / 2
        return max(1, round((options.num_users or 1) * height)), options.spawn_rate or 1
