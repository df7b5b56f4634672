"""The workers of one run, as the master knows them: what each reported, and whether it is still heard of."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from stalewatch.locust.report import HistoryFile, Report
from stalewatch.recording.statistics import Stall

SILENCE_S = 10.0
"""How long a worker may be silent before it counts as lost. Locust's own limit is 3 s; who wakes up is taken back."""

STALLS = 20
"""Stalls of a worker that are kept one by one."""

State = Literal["running", "done", "lost"]


@dataclass
class Member:
    """One worker in one run."""

    worker: int
    client_id: str
    heard_at: float
    host: str = ""
    done: bool = False
    lost: bool = False
    gap: bool = False
    """A report never arrived."""
    next_number: int = 0
    phase: str = ""
    progress: tuple[float, float, str] = (0, 0, "")
    operations: int = 0
    beyond: dict[str, Any] = field(default_factory=dict)
    """What its workloads knew in the end, beyond the guarantees."""
    in_order: bool = True
    """Nothing went wrong at its end."""
    silent_s: float = 0.0
    """For how long it had been silent when it was given up."""
    stalls: list[Stall] = field(default_factory=list)
    """The first ones."""
    stall_count: int = 0
    stood_still_ns: int = 0
    """How long it stood still, all in all."""
    counting_from_ns: int | None = None
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    histories: list[HistoryFile] = field(default_factory=list)
    clock_error_ns: int | None = None
    trouble: str | None = None
    exit_code: int = 0
    metrics: str | None = None
    """Where it serves its metrics."""
    from_history: bool = False
    """What it did after its last report was found in its history file."""

    @property
    def whole(self) -> bool:
        """Whether all of its share is in the totals."""
        return self.done and self.well

    @property
    def well(self) -> bool:
        """Whether nothing is missing of it so far."""
        return self.in_order and not self.gap and not self.lost

    @property
    def state(self) -> State:
        """How it is, in a word."""
        return "done" if self.done else "lost" if self.lost else "running"

    def give_up(self, silent_s: float) -> None:
        """Note, as the verdict is made, for how long nothing was heard of one that is not done."""
        if not self.done:
            self.silent_s = silent_s

    def take(self, report: Report, now: float) -> None:
        """Add what a report says."""
        self.gap = self.gap or report.number != self.next_number
        self.next_number = report.number + 1
        self.heard_at, self.lost, self.done = now, False, report.last
        self.host, self.phase = report.host, report.phase
        self.progress = (report.done, report.total, report.unit)
        self.operations += report.operations
        self.stalls += report.stalls[: STALLS - len(self.stalls)]
        self.stall_count += len(report.stalls)
        self.stood_still_ns += sum(stall.end - stall.start for stall in report.stalls)
        self.beyond = report.beyond
        self.in_order, self.counting_from_ns = report.whole, report.counting_from_ns
        self.settings, self.histories = report.settings, report.histories
        self.clock_error_ns = report.clock_error_ns
        self.trouble, self.exit_code = report.trouble, report.exit_code
        self.metrics = report.metrics


class Roster:
    """The members by Locust's id of their process; one that is not heard of for `silence_s` seconds counts as lost."""

    def __init__(self, silence_s: float = SILENCE_S, now: Callable[[], float] = time.monotonic) -> None:
        self._members: dict[str, Member] = {}
        self._silence_s = silence_s
        self._now = now

    def __iter__(self) -> Iterator[Member]:
        """Go through the members by worker."""
        return iter(sorted(self._members.values(), key=lambda member: member.worker))

    def take(self, client_id: str, report: Report) -> Member:
        """Add what a worker reports."""
        member = self._members.get(client_id)
        if member is None:
            member = self._members[client_id] = Member(report.worker, client_id, self._now())
        member.take(report, self._now())
        return member

    def member(self, client_id: str) -> Member:
        """Return the member that is that process."""
        return self._members[client_id]

    def knows(self, client_id: str) -> bool:
        """Tell whether that process has reported in this run."""
        return client_id in self._members

    def mark_lost(self) -> list[Member]:
        """Return those that fell silent too long ago, each once."""
        silent = [
            one for one in self._members.values() if one.state == "running" and self.silent_s(one) > self._silence_s
        ]
        for member in silent:
            member.lost = True
        return silent

    def silent_s(self, member: Member) -> float:
        """Return for how many seconds nothing was heard of it."""
        return self._now() - member.heard_at

    def running(self) -> list[Member]:
        """Return those of whom more is to come."""
        return [member for member in self if member.state == "running"]
