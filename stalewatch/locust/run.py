"""One run under Locust, from the test's start until its verdict, as the coordinator knows it."""

from argparse import Namespace
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from gevent.event import Event

from stalewatch.checkers.verdict import Violation
from stalewatch.locust.outcome import Outcome
from stalewatch.locust.roster import Roster
from stalewatch.metrics.meter import Meter
from stalewatch.recording.totals import Totals, no_totals

NEWEST = 50
"""How many of the newest violations are kept to be shown."""


class Aside(NamedTuple):
    """What came of what went on beside a run: fields for the result, and what it makes of the exit code."""

    result: Mapping[str, Any]
    exit_code: int = 0


class Beside(Protocol):
    """What goes on beside a run in the coordinator's process, such as a drill."""

    def end(self) -> Aside:
        """Wait until it is over, which it is soon once the run is ending, and return what came of it."""
        ...


Phase = Literal["load", "drain", "decide", "over"]
"""Sessions work; they end, and last reports come; what was reported is made a verdict; the verdict stands."""


@dataclass
class Run:
    """One run, from the test's start until its verdict."""

    name: str
    options: Namespace
    databases: Collection[str]
    users: int = 0
    phase: Phase = "load"
    stopped_ns: int = 0
    """When the sessions were told to end, by the master's clock."""
    roster: Roster = field(default_factory=Roster)
    totals: Totals = field(default_factory=no_totals)
    """What all workers found and counted; of single workers only how much it was, for fifty would fill the memory."""
    shown: Totals = field(default_factory=no_totals)
    """What the web page shows: everything since the last reset of the statistics."""
    awaited: set[str] = field(default_factory=set)
    """Processes that must still say something before the verdict."""
    newest: deque[Violation] = field(default_factory=lambda: deque(maxlen=NEWEST))
    hurried: bool = False
    """Somebody pressed Ctrl-C while the last reports were awaited."""
    concluded: Event = field(default_factory=Event)
    outcome: Outcome | None = None
    decided: float | None = None
    """When the verdict was made, in seconds of the monotonic clock."""
    reset: bool = False
    """The statistics were reset, so the page shows less than the verdict covers."""
    beside: Beside | None = None
    meter: Meter | None = None
    """The totals as Prometheus takes them, where it was asked for them."""

    def count(self, totals: Totals) -> None:
        """Add what a worker found and counted to the totals."""
        self.totals.merge(totals)
        if self.meter is not None:
            self.meter.add(totals)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing of any worker, as far as is known."""
        return all(member.whole if self.phase in {"decide", "over"} else member.well for member in self.roster)

    @property
    def duration_s(self) -> float:
        """How long operations counted, from the first worker's on."""
        begun = [member.counting_from_ns for member in self.roster if member.counting_from_ns is not None]
        return max(0, self.stopped_ns - min(begun)) / 1e9 if begun else 0.0

    @property
    def ending(self) -> bool:
        """Whether the sessions have been told to end."""
        return self.phase != "load"
