"""The one clock of a process: nanoseconds that only rise, anchored once to the epoch.

Wall clocks are stepped by NTP, and a step back in the middle of a run would put a read before the write that it saw.
The monotonic clock never steps; the anchor makes its times comparable between processes, up to the anchors' error.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a run's times come from: the real clock, or a simulated one that the sessions share."""

    def now(self) -> int:
        """Return nanoseconds since the epoch; never less than an earlier answer."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let that much time pass for the calling session."""
        ...

    def expect(self, sessions: int) -> None:
        """Let simulated time stand still until that many sessions have joined, so that none gets a head start."""
        ...

    def join(self, session: str) -> None:
        """Make the calling thread a session of this clock; a simulated clock orders sessions by name."""
        ...

    def leave(self) -> None:
        """Take the calling thread out again."""
        ...


class RealClock:
    """This process's monotonic clock."""

    def __init__(self) -> None:
        self._anchor = time.time_ns() - time.monotonic_ns()

    def shifted(self, offset_ns: int) -> "RealClock":
        """Return this clock moved by so much, such as to the clock of another machine."""
        clock = RealClock()
        clock._anchor = self._anchor + offset_ns
        return clock

    def now(self) -> int:
        """Return nanoseconds since the epoch."""
        return self._anchor + time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Sleep; under gevent only the calling greenlet does."""
        time.sleep(max(0.0, seconds))

    def expect(self, sessions: int) -> None:
        """Do nothing: real time waits for nobody."""

    def join(self, session: str) -> None:
        """Do nothing: real time passes for everyone."""

    def leave(self) -> None:
        """Do nothing: real time passes for everyone."""
