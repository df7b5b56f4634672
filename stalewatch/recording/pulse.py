"""Whether this process stood still: a beat that comes late tells that nothing else ran either."""

import threading
from collections import deque
from typing import NamedTuple

from stalewatch.history.clock import Clock

BEAT_S = 0.05
BEAT_NS = 50_000_000
LATE_NS = 500_000_000
"""How much later than due a beat must be to count as a stall: what a busy but healthy process stays below."""

RECENT = 16
"""How many stalls are remembered for the operations that are still to be judged: fewer fit into the time they wait."""


class Stall(NamedTuple):
    """A time in which nothing of this process ran, in nanoseconds of its clock."""

    start: int
    end: int


class Pulse:
    """Notices when the whole process stood still: a long computation, a garbage collection, a stopped process.

    An operation that was under way then has a late end, for the answer lay unread. Its latency would be ours, not the
    database's, so it is left out. Verdicts and staleness need no such care: a read's start is taken before its request
    is sent and a write's end after its answer was read, and a late end only lowers floors and shortens staleness. So
    nothing is flagged, or made staler, by our own delay.
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
        """Begin to beat, in a thread (a greenlet where gevent is patched in) of its own."""
        self._beat = self._clock.now()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def stop(self) -> None:
        """Beat no more."""
        self._over.set()

    def take(self) -> list[Stall]:
        """Hand over the stalls since the last time."""
        taken, self.stalls = self.stalls, []
        return taken

    def lag_ns(self) -> int:
        """Hand over by how much the latest beat since the last time was late."""
        latest_ns, self._latest_ns = self._latest_ns, 0
        return latest_ns

    def met(self, start: int, end: int) -> bool:
        """Tell whether an operation that ended lately, before the last look, was under way during a stall."""
        return start < self._stalled_until and any(start < one.end and end > one.start for one in self._recent)

    def look(self) -> None:
        """Note a stall where the next beat is overdue: sessions may wake up before the beat does."""
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


class Steady:
    """The pulse of a process whose stalls do not matter, as in simulated time."""

    def lag_ns(self) -> int:
        """Return 0."""
        return 0

    def look(self) -> None:
        """Do nothing."""

    def met(self, start: int, end: int) -> bool:
        """Return False."""
        return False
