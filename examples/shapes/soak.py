"""Many users for long, with a wave in it: what comes only with time, such as a follower that falls behind for good.

    locust -f locustfiles/mongo_users.py,examples/shapes/soak.py -u 100 -r 10 -t 8h

It lives outside `locustfiles/`, since a shape among the files that `-f` loads takes `-u -r -t` away from everyone.
"""

from math import cos, pi

from locust import LoadTestShape

DEFAULT_TIME_S = 3600
WAVE_S = 600
LOW = 0.5
"""The share of `-u` that is there when the wave is low."""


class Soak(LoadTestShape):
    """Between half of `-u` users and all of them, in waves of ten minutes, for `-t` (default: an hour)."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are to be now, and how many start a second; None at the end."""
        assert self.runner is not None  # noqa: S101 # Locust sets it before the first tick
        options = self.runner.environment.parsed_options
        now_s = self.get_run_time()
        if now_s > (options.run_time or DEFAULT_TIME_S):
            return None
        height = LOW + (1 - LOW) * (1 - cos(2 * pi * now_s / WAVE_S)) / 2
        return max(1, round((options.num_users or 1) * height)), options.spawn_rate or 1
