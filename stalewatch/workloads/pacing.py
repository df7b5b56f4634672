"""When a session's next operation is due where that does not depend on the last one: at fixed times."""

from collections.abc import Callable

from stalewatch.history.clock import Clock

NEVER = 2**63 - 1
"""Later than any time in nanoseconds."""

NAP_S = 0.2
"""The longest sleep before a session looks whether the run is over."""


class OpenLoop:
    """Operations are due at fixed times; one that is late starts at once and its lateness counts.

    That is what makes response times immune to coordinated omission: a server that stalls for two seconds delays all
    the operations that were due meanwhile, and each is measured from when it was due.
    """

    def __init__(self, clock: Clock, first_ns: int, period_ns: float, deadline_ns: int = NEVER) -> None:
        """Make operations due every `period_ns` from `first_ns` on; nobody waits beyond `deadline_ns`."""
        self._clock = clock
        self._deadline_ns = deadline_ns
        self._first_ns = first_ns
        self._period_ns = period_ns
        self._number = 0

    def wait(self, over: Callable[[], bool]) -> int:
        """Sleep until the next operation is due and return that time, in ns; return early where the run is over."""
        due = self._first_ns + round(self._number * self._period_ns)
        self._number += 1
        until = min(due, self._deadline_ns)
        while (left_ns := until - self._clock.now()) > 0 and not over():
            self._clock.sleep(min(NAP_S, left_ns / 1e9))
        return due
