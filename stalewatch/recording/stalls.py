"""Stalls of this process: times in which none of its threads or greenlets ran."""

import threading
from collections import deque
from typing import NamedTuple

from stalewatch.history.clock import Clock

BEAT_S = 0.05
BEAT_NS = 50_000_000
LATE_NS = 500_000_000
"""How late a heartbeat must be to count as a stall; a busy but healthy process stays below this."""

RECENT = 16
"""How many stalls are remembered for operations that are not judged yet; more cannot happen while these wait."""


class Stall(NamedTuple):
    """A time in which nothing in this process ran, in nanoseconds of its clock."""

    start: int
    end: int


class StallDetector:
    """Notices when the whole process stalls: a long computation, a garbage collection, a stopped process.

    An operation in flight at that time ends late because its answer was not read. That latency is ours, not the
    database's, so it is left out. Verdicts and staleness need no such care: a read's start is taken before its request
    is sent and a write's end after its answer was read, and a late end only lowers floors and shortens staleness. So
    our own delay never makes a read count as stale, or as staler.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beat = clock.now()
        self._stalled_until = 0
        self._recent: deque[Stall] = deque(maxlen=RECENT)
        self._over = threading.Event()
        self._latest_ns = 0
        self.stalls: list[Stall] = []

    def start(self) -> None:
        """Start the heartbeat in its own thread (a greenlet under gevent)."""
        self._beat = self._clock.now()
        threading.Thread(target=self._run, name="stalls", daemon=True).start()

    def stop(self) -> None:
        """Stop the heartbeat."""
        self._over.set()

    def drain(self) -> list[Stall]:
        """Return the stalls since the last call."""
        drained, self.stalls = self.stalls, []
        return drained

    def lag_ns(self) -> int:
        """Return how late the latest heartbeat since the last call was."""
        latest_ns, self._latest_ns = self._latest_ns, 0
        return latest_ns

    def overlaps(self, start: int, end: int) -> bool:
        """Return whether an operation that ended recently, before the last `look`, was in flight during a stall."""
        return start < self._stalled_until and any(start < one.end and end > one.start for one in self._recent)

    def look(self) -> None:
        """Note a stall if the next heartbeat is overdue: sessions may wake up before the heartbeat does."""
        now = self._clock.now()
        if now - self._beat > LATE_NS:
            self.stalls.append(Stall(self._beat, now))
            self._recent.append(Stall(self._beat, now))
            self._beat = self._stalled_until = now

    def _run(self) -> None:
        asleep = self._clock.now()
        while not self._over.wait(BEAT_S):
            self.look()
            self._latest_ns = max(self._latest_ns, self._clock.now() - asleep - BEAT_NS)
            self._beat = asleep = self._clock.now()


class NoStalls:
    """The detector of a process whose stalls do not matter, as in simulated time."""

    def stop(self) -> None:
        """Do nothing."""

    def lag_ns(self) -> int:
        """Return 0."""
        return 0

    def look(self) -> None:
        """Do nothing."""

    def overlaps(self, start: int, end: int) -> bool:
        """Return False."""
        return False


Stalls = StallDetector | NoStalls
NO_STALLS = NoStalls()
