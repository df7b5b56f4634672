"""One process's share of one run: a part for each database that its users need, and what is reported of them all."""

import logging
import socket
from collections.abc import Iterator
from itertools import count

import gevent
from gevent.event import Event

from stalewatch.engine.database_run import added_up
from stalewatch.engine.threads import Progress
from stalewatch.locust.clock_offset import ClockOffset
from stalewatch.locust.part import DatabaseUsers, Setting, Trouble
from stalewatch.locust.report import Report, counts_of, verdict_rows
from stalewatch.metrics.families import SCHEDULER_LAG
from stalewatch.metrics.meter import NS, Reading
from stalewatch.recording.totals import Totals

log = logging.getLogger("stalewatch")


class Share:
    """Begins at the test's start; ends once, whoever asks first, and all who ask wait for the end."""

    def __init__(self, setting: Setting, offset: ClockOffset | None) -> None:
        """Take part in a run; `offset` is that of the master's clock, None where this process is its own master."""
        self.setting = setting
        self.offset = offset
        self.over = False
        self.ended = Event()
        self.abandoned = False
        self._whole = True
        self._parts: dict[tuple[str, str], DatabaseUsers] = {}
        self._sessions = count()
        self._numbers = count()
        self._progress = Progress("load", 0, 0, "")
        setting.stalls.start()

    def part(self, database: str, workload: str | None = None) -> DatabaseUsers:
        """Return the part on that database with that workload, else the one of the options; the first call opens it."""
        name = (database, workload or self.setting.load.workload)
        part = self._parts.get(name)
        if part is None:
            first_key = len(self._parts) * self.setting.load.keys
            part = self._parts[name] = DatabaseUsers(*name, first_key, self.setting)
        return part

    def session_name(self) -> str:
        """Return a name that no other session of this run has."""
        return f"w{self.setting.worker}-s{next(self._sessions)}"

    @property
    def trouble(self) -> Trouble | None:
        """What keeps the run from going on here, or went wrong in it."""
        return next((part.trouble for part in self._parts.values() if part.trouble), None)

    def end(self) -> None:
        """End every part: sessions, final reads, histories, keys; in a greenlet that nobody kills."""
        if not self.over:
            self.over = True
            gevent.spawn(self._end_parts)
        self.ended.wait()

    def _end_parts(self) -> None:
        for part in self._parts.values():
            part.over = True
        for part in self._parts.values():
            try:
                part.end(self._note, lambda: self.abandoned, self._clock_error_ns)
            except Exception:
                log.exception("%s did not end in order", part.database)
                self._whole = False
        self.setting.stalls.stop()
        self.ended.set()

    def _note(self, progress: Progress) -> None:
        self._progress = progress

    def _clock_error_ns(self) -> int | None:
        """Return the bound of the error until now; 0 for the master's own clock, None where it was never measured."""
        if self.offset is None:
            return 0 if self.setting.own_master else None
        return self.offset.error_ns(self.setting.clock.now() - self.offset.offset_ns)  # measured by the unshifted clock

    def readings(self) -> Iterator[Reading]:
        """Yield what Prometheus is shown of this process."""
        yield Reading(SCHEDULER_LAG, (), self.setting.stalls.lag_ns() / NS)
        for part in self._parts.values():
            yield from part.readings()

    def report(self, *, last: bool = False) -> Report:
        """Return what was found and counted since the last report."""
        totals = Totals()
        for taken in filter(None, map(DatabaseUsers.drain, self._parts.values())):
            totals.merge(taken)
        setting, progress, trouble = self.setting, self._progress, self.trouble
        return Report(
            run=setting.run,
            worker=setting.worker,
            number=next(self._numbers),
            host=socket.gethostname(),
            phase=progress.phase,
            done=progress.done,
            total=progress.total,
            unit=progress.unit,
            verdicts=verdict_rows(totals.findings),
            counts=counts_of(totals.statistics),
            duplicate_items=totals.findings.duplicate_items,
            phantom_items=totals.findings.phantom_items,
            stalls=setting.stalls.drain(),
            settings={part.database: part.settings for part in self._parts.values()},
            histories=[file for part in self._parts.values() if (file := part.history_file())],
            clock_error_ns=self._clock_error_ns(),
            trouble=trouble.text if trouble else None,
            exit_code=trouble.exit_code if trouble else 0,
            last=last,
            whole=self._whole,
            beyond=added_up(part.extra_results() for part in self._parts.values()) if last else {},
            counting_from_ns=min(filter(None, (part.counting_from_ns for part in self._parts.values())), default=None),
            metrics=setting.metrics,
            evidence=None if totals.attempts is None else totals.attempts.packed(),
        )
