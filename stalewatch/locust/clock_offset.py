"""How far the master's clock is from this worker's, and how well that is known over a whole run."""

from typing import NamedTuple

DRIFT_SHARE = 1000e-6
"""How far two clocks may drift apart a second: each as fast as NTP may slew it, one up and one down."""


class Sample(NamedTuple):
    """One exchange: when the question left and the answer came by our clock, and the master's time in it, all in ns."""

    sent: int
    received: int
    master: int

    @property
    def offset_ns(self) -> float:
        """The master's clock minus ours, if the answer was written halfway."""
        return self.master - (self.sent + self.received) / 2

    @property
    def error_ns(self) -> float:
        """How far that may be off: the answer may have been written at any time in between."""
        return (self.received - self.sent) / 2


class ClockOffset:
    """The offset that a run uses from its first operation on, and a bound of its error at any time of the run.

    The offset is never changed in a run, or times would jump. At each sample the true offset is within half a round
    trip of the sample's; in between it drifts by `DRIFT_SHARE` at the most. So the error a moment after a sample is
    bounded by how far that sample is from the offset in use, half its round trip, and the drift since. The largest
    bound of the run is what its history says. A bound from the shortest round trip of the start alone would be wrong
    an hour later: at 1000 ppm two clocks are 3.6 s apart by then.
    """

    def __init__(self, samples: list[Sample]) -> None:
        """Begin with the samples of the start, at least one; the one with the shortest round trip is used."""
        best = min(samples, key=lambda sample: sample.error_ns)
        self.offset_ns = round(best.offset_ns)
        self._bound_ns = best.error_ns
        self._at = best.received
        self._worst_ns = self._bound_ns

    def take(self, sample: Sample) -> None:
        """Learn from a later exchange; a slow one teaches nothing, but does no harm."""
        drifted_ns = self._drifted(sample.received)
        self._worst_ns = max(self._worst_ns, drifted_ns)
        self._bound_ns = min(drifted_ns, abs(sample.offset_ns - self.offset_ns) + sample.error_ns)
        self._at = sample.received

    def error_ns(self, now: int) -> int:
        """Return the bound of the error from the start until now, a time of our own clock."""
        return round(max(self._worst_ns, self._drifted(now)))

    def _drifted(self, now: int) -> float:
        return self._bound_ns + DRIFT_SHARE * max(0, now - self._at)
