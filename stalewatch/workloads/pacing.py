"""An open loop: the times at which a session's operations are due, whatever became of earlier ones."""

from collections.abc import Callable

from stalewatch.history.clock import Clock

NEVER = 2**63 - 1
"""Later than any time in nanoseconds."""

NAP_S = 0.2
"""The longest sleep before a session checks whether the run is over."""


class OpenLoop:
    """Operations due at fixed times; a late one starts at once, and its delay counts.

    That makes response times immune to coordinated omission: a server that stalls for two seconds delays all operations
    that were due meanwhile, and each is measured from the time at which it was due.
    """

    def __init__(self, clock: Clock, first_ns: int, period_ns: float, deadline_ns: int = NEVER) -> None:
        """Make operations due every `period_ns` from `first_ns` on; no wait lasts beyond `deadline_ns`."""
        self._clock = clock
        self._deadline_ns = deadline_ns
        self._first_ns = first_ns
        self._period_ns = period_ns
        self._number = 0

    def wait(self, over: Callable[[], bool]) -> int:
        """Sleep until the next operation is due and return that time, in ns; return early if the run is over."""
        due = self._first_ns + round(self._number * self._period_ns)
        self._number += 1
        until = min(due, self._deadline_ns)
        while (left_ns := until - self._clock.now()) > 0 and not over():
            self._clock.sleep(min(NAP_S, left_ns / 1e9))
        return due
