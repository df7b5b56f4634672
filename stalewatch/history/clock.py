"""Clocks in nanoseconds since the epoch that never go back.

NTP steps wall clocks, and a step back in the middle of a run would place a read before the write that it saw. The
monotonic clock is never stepped. It is anchored to the epoch once, which makes times comparable between processes, up
to the error of their anchors.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """The source of a run's times: the real clock, or a simulated one that the sessions share."""

    def now(self) -> int:
        """Return nanoseconds since the epoch; never less than an earlier answer."""
        ...

    def sleep(self, seconds: float) -> None:
        """Suspend the calling session for that long."""
        ...

    def expect(self, sessions: int) -> None:
        """Hold simulated time until this many sessions have joined, so that none gets a head start."""
        ...

    def join(self, session: str) -> None:
        """Register the calling thread as a session; a simulated clock orders sessions by name."""
        ...

    def leave(self) -> None:
        """Unregister the calling thread."""
        ...


class RealClock:
    """The monotonic clock of this process."""

    def __init__(self) -> None:
        self._anchor = time.time_ns() - time.monotonic_ns()

    def shifted(self, offset_ns: int) -> "RealClock":
        """Return this clock moved by an offset, for example to the clock of another machine."""
        clock = RealClock()
        clock._anchor = self._anchor + offset_ns
        return clock

    def now(self) -> int:
        """Return nanoseconds since the epoch."""
        return self._anchor + time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        """Sleep; under gevent only the calling greenlet is suspended."""
        time.sleep(max(0.0, seconds))

    def expect(self, sessions: int) -> None:
        """Do nothing: real time cannot be held."""

    def join(self, session: str) -> None:
        """Do nothing: real time passes for every thread."""

    def leave(self) -> None:
        """Do nothing: real time passes for every thread."""
