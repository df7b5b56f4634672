"""How `--rate` paces users: when the operations of each are due, and how many users share the rate."""

import random
from collections.abc import Callable, Iterable
from typing import Any

from stalewatch.history.clock import Clock
from stalewatch.locust.options import OWN

OWN_NS = 1_000_000
"""The time between two operations that a user needs anyway, to choose the next one."""

NOTICEABLE_NS = 100_000_000
"""The time of a user's own between two operations that is worth a warning, if it is also longer than the period."""


class Pace:
    """When a user's operations are due in an open loop: one each period, however long the database takes.

    What the user does between operations is not the database's. If it takes the user past the time of the next
    operation, that time and all later ones are moved by it, so that no response time contains a pause, a request to
    another system, or a computation. Example: a period of 1 s; an operation that is due at 0 takes 3 ms; then the task
    sleeps for 5 s. The next operation is due at 5.003 s, not at 1 s, and its response time is its service time. If the
    first operation takes 3 s and the task does not sleep, the next one is due at 1 s: users wait for a slow database.
    """

    def __init__(self, clock: Clock, period_ns: Callable[[], float], on_own_time: Callable[[], None]) -> None:
        """Spread the users over their period, or all would start together; call `on_own_time` if they cannot keep up.

        `period_ns` returns the period, which changes with the number of users.
        """
        self._clock = clock
        self._period_ns = period_ns
        self._on_own_time = on_own_time
        self._own_since = clock.now()
        """When the database or a wait for the next operation last handed over to the user's own code."""
        self._due = self._own_since + round(random.random() * period_ns())
        self._idle = False
        """Whether no operation was performed since the last wait."""

    def next(self) -> int:
        """Wait until the next operation is due, and return that time."""
        self._move(self._clock.now())
        due, self._idle = self._due, False
        self._sleep()
        self._due = due + round(self._period_ns())
        return due

    def on_end(self) -> None:
        """Note that an operation has ended."""
        self._own_since = self._clock.now()

    def wait(self) -> float:
        """Wait until the next operation is due, and return 0; a task without any operation skips one.

        Takes the place of Locust's `wait_time`, which returns how long to sleep: nothing would tell when that was over.
        """
        if self._idle:
            self._due += round(self._period_ns())
        self._idle = True
        return self.pause()

    def pause(self) -> float:
        """Wait until the next operation is due, within a task, and return 0."""
        self._move(self._clock.now())
        self._sleep()
        self.on_end()
        return 0

    def _move(self, now: int) -> None:
        own_ns, late_ns = now - self._own_since, now - self._due
        if late_ns <= 0 or own_ns <= OWN_NS:
            return
        self._due += min(own_ns, late_ns)
        self._own_since = now
        if own_ns > max(NOTICEABLE_NS, self._period_ns()):
            self._on_own_time()

    def _sleep(self) -> None:
        if (left_ns := self._due - self._clock.now()) > 0:
            self._clock.sleep(left_ns / 1e9)


def sharing_rate(classes: Iterable[Any], users: int) -> int:
    """Return how many of all users load a database and share `--rate`, by Locust's `fixed_count` and `weight`."""
    every = list(classes)
    ours = [one for one in every if getattr(one, "database", None) not in {None, OWN.name}]
    fixed, ours_fixed = (sum(one.fixed_count for one in some) for some in (every, ours))
    weight, ours_weight = (sum(one.weight for one in some if not one.fixed_count) for some in (every, ours))
    counted = min(1, users / fixed) * ours_fixed if fixed else 0
    weighted = max(0, users - fixed) * ours_weight / weight if weight else 0
    return max(1, round(counted + weighted))
