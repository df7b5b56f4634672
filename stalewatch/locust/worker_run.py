"""One worker's run: the databases that its users need, and its reports."""

import logging
import socket
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import cast

import gevent
from gevent.event import Event

from stalewatch.engine.database_run import added_up
from stalewatch.engine.threads import Progress
from stalewatch.locust.messages import ClockOffset, ExtraResults, WorkerReport, counts_of, verdict_rows
from stalewatch.locust.open_database import OpenDatabase, RunFailure, WorkerRunSettings
from stalewatch.metrics.families import SCHEDULER_LAG
from stalewatch.metrics.meter import NS, Reading
from stalewatch.recording.totals import Totals

log = logging.getLogger("stalewatch")


class WorkerRun:
    """Starts at the test's start and ends once; everybody who calls `end` waits for the end."""

    def __init__(self, settings: WorkerRunSettings, offset: ClockOffset | None) -> None:
        """Start the run; `offset` is that of the master's clock, None if this process is its own master."""
        self.settings = settings
        self.offset = offset
        self.over_since: float | None = None
        """When the load was over, on the monotonic clock."""
        self.ended = Event()
        self.abandoned = False
        """Whether to skip the rest of the final reads."""
        self._ended_cleanly = True
        self._databases: dict[tuple[str, str], OpenDatabase] = {}
        self._sessions = count()
        self._report_numbers = count()
        self._progress = Progress("load", 0, 0, "")
        self._warnings: set[str] = set()
        settings.stalls.start()

    def open(
        self, database: str, workload: str | None = None, make: Callable[..., OpenDatabase] = OpenDatabase
    ) -> OpenDatabase:
        """Return the database with a workload (default: that of the options); the first call makes and opens it."""
        name = (database, workload or self.settings.load.workload)
        opened = self._databases.get(name)
        if opened is None:
            first_key = len(self._databases) * self.settings.load.keys
            opened = self._databases[name] = make(*name, first_key, self.settings)
        return opened

    def session_name(self) -> str:
        """Return a name that no other session of this run has."""
        return f"w{self.settings.worker}-s{next(self._sessions)}"

    def warn_once(self, text: str) -> None:
        """Log a warning, unless this run has logged it before."""
        if text not in self._warnings:
            self._warnings.add(text)
            log.warning("%s", text)

    @property
    def failure(self) -> RunFailure | None:
        """Why the run cannot go on in this worker, or what went wrong in it."""
        databases = self._databases.values()
        failures = (*(one.failure for one in databases), *(one.history_failure for one in databases))
        return next(filter(None, failures), None)

    @property
    def over(self) -> bool:
        """Whether the load is over."""
        return self.over_since is not None

    def end(self) -> None:
        """End the run in every database, in a greenlet that nobody kills, and wait for the end."""
        if not self.over:
            self.over_since = time.monotonic()
            for one in self._databases.values():
                one.over = True
            gevent.spawn(self._end_all)
        self.ended.wait()

    def _end_all(self) -> None:
        for one in self._databases.values():
            try:
                one.end(self._on_progress, lambda: self.abandoned, self._clock_error_ns)
            except Exception:
                log.exception("the run on %s did not end cleanly", one.database)
                self._ended_cleanly = False
        self.settings.stalls.stop()
        self.ended.set()

    def _on_progress(self, progress: Progress) -> None:
        self._progress = progress

    def _clock_error_ns(self) -> int | None:
        """Return the bound of the error until now: 0 for the master's own clock, None if it was never measured."""
        if self.offset is None:
            return 0 if self.settings.own_master else None
        return self.offset.error_ns(
            self.settings.clock.now() - self.offset.offset_ns
        )  # samples use the unshifted clock

    def readings(self) -> Iterator[Reading]:
        """Yield this process's metrics."""
        yield Reading(SCHEDULER_LAG, (), self.settings.stalls.lag_ns() / NS)
        for one in self._databases.values():
            yield from one.readings()

    def report(self, *, last: bool = False) -> WorkerReport:
        """Return what was found and counted since the last report."""
        databases, settings, failure = self._databases.values(), self.settings, self.failure
        totals = Totals()
        for drained in filter(None, map(OpenDatabase.drain, databases)):
            totals.merge(drained)
        return WorkerReport(
            run=settings.run,
            worker=settings.worker,
            number=next(self._report_numbers),
            host=socket.gethostname(),
            **self._progress._asdict(),
            verdicts=verdict_rows(totals.findings),
            counts=counts_of(totals.statistics),
            duplicate_items=totals.findings.duplicate_items,
            phantom_items=totals.findings.phantom_items,
            stalls=settings.stalls.drain(),
            settings={one.database: one.driver_settings for one in databases},
            histories=[file for one in databases if (file := one.history_file())],
            clock_error_ns=self._clock_error_ns(),
            failure=failure.text if failure else None,
            exit_code=failure.exit_code if failure else 0,
            last=last,
            ended_cleanly=self._ended_cleanly,
            extra_results=cast(ExtraResults, added_up(one.extra_results() for one in databases) if last else {}),
            counting_from_ns=min(filter(None, (one.counting_from_ns for one in databases)), default=None),
            metrics=settings.metrics,
            attempts=None if totals.attempts is None else totals.attempts.packed(),
        )
