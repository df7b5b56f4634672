"""A run in one process, without Locust: sessions as threads, and a clean end at Ctrl-C."""

import secrets
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from stalewatch.clients.errors import ClientError
from stalewatch.clients.options import public_values
from stalewatch.clients.protocol import Database, Leaving
from stalewatch.engine.database_run import (
    DatabaseRun,
    RunSpec,
    check_fit,
    collect_garbage_rarely,
    connect,
    with_local_cluster,
)
from stalewatch.engine.process_limits import require_files
from stalewatch.engine.result import run_result
from stalewatch.engine.threads import Progress, Report, Threads
from stalewatch.history.clock import Clock, RealClock
from stalewatch.recording.statistics import NO_STALLS, StallDetector, Stalls
from stalewatch.recording.totals import Totals
from stalewatch.workloads import Session
from stalewatch.workloads.options import LoadOptions

NEVER = 2**63 - 1
"""Later than any time in nanoseconds."""

NAP_S = 0.2
"""The longest sleep before a session checks whether the run is over."""


class OpenLoop:
    """Operations due at fixed times; a late one starts at once, and its delay counts.

    That makes response times immune to coordinated omission: a server that stalls for two seconds delays all operations
    that were due meanwhile, and each is measured from the time at which it was due.
    """

    def __init__(self, clock: Clock, first_ns: int, period_ns: float, deadline_ns: int = NEVER) -> None:
        """Make operations due every `period_ns` from `first_ns` on; no wait lasts beyond `deadline_ns`."""
        self._clock = clock
        self._deadline_ns = deadline_ns
        self._first_ns = first_ns
        self._period_ns = period_ns
        self._number = 0

    def wait(self, over: Callable[[], bool]) -> int:
        """Sleep until the next operation is due and return that time, in ns; return early if the run is over."""
        due = self._first_ns + round(self._number * self._period_ns)
        self._number += 1
        until = min(due, self._deadline_ns)
        while (left_ns := until - self._clock.now()) > 0 and not over():
            self._clock.sleep(min(NAP_S, left_ns / 1e9))
        return due


Log = Callable[[str], None]

BackgroundTask = Callable[[int, Callable[[], bool]], None]
"""Runs next to the sessions of a load; called with when operations start to count (ns) and whether the load is over."""


class ThreadedLoad:
    """The sessions of a run, as threads, until the operations are done, the time is over, or it is interrupted.

    `interrupt` may be called from a signal handler at any time: sessions end their operation, final reads are left out,
    and everything that was done so far counts.
    """

    def __init__(self, run: DatabaseRun) -> None:
        self.run = run
        self.interrupted = False
        self.duration_s = 0.0
        self.ended_early: str | None = None
        """Why the load ended before its time; None if it did not."""
        self.ended_ns = 0
        """When the sessions were told to end, or had done all operations."""
        self.background: dict[str, BackgroundTask] = {}
        """Tasks next to the sessions, by name and on the same clock; the load lasts until they have ended."""
        self._clock = run.client.clock
        self._options = run.load
        self._operations = float("inf") if run.load.operations is None else run.load.operations
        self._numbers = count(1)
        self._started = 0
        self._load_ns = 0
        self._deadline_ns = NEVER
        self.expected_s: float | None = None
        """How long the load is expected to take, if its time depends on a background task."""
        self._threads = Threads(self._clock, lambda: self.interrupted)

    def interrupt(self) -> None:
        """End the run early."""
        self.interrupted = True

    def end_at(self, moment: int) -> None:
        """End the load at that moment (ns) at the latest."""
        self._deadline_ns = min(self._deadline_ns, moment)
        self.expected_s = None

    def perform(self, report: Report) -> None:
        """Run the sessions until the load is over."""
        options, begin = self._options, self._clock.now()
        self.run.start()
        self._load_ns = self.run.recorder.counting_from_ns
        if options.duration_s is not None:
            self._deadline_ns = self._load_ns + round(options.duration_s * 1e9)
        names = [f"s{number}" for number in range(options.users)]
        work = {name: self._session(name, number, begin) for number, name in enumerate(names)}
        tasks = {name: partial(task, self._load_ns, self._over) for name, task in self.background.items()}
        self._threads.run({**work, **tasks}, lambda: report(self.progress()))
        self.ended_ns = min(self._clock.now(), self._deadline_ns)
        self.duration_s = max(0, self._clock.now() - self._load_ns) / 1e9
        self.ended_early = self._why_early()

    def _why_early(self) -> str | None:
        if not self.interrupted or self._started >= self._operations or self._clock.now() >= self._deadline_ns:
            return None
        phase, done, total, unit = self.progress()
        if unit == "s":  # of a drill, the total is only the longest possible time
            return f"interrupted after {done:.1f} s of {phase}"
        return f"interrupted after {done:.0f} of {total:.0f} {unit}"

    def final_reads(self, report: Report) -> None:
        """Make the final reads, unless interrupted."""
        self.run.read_finals(lambda: self.interrupted, report)

    def _session(self, name: str, number: int, begin: int) -> Callable[[], None]:
        options = self._options
        session = self.run.session(name)
        if options.rate is None:
            return lambda: self._in_a_closed_loop(session)
        first, period_ns = begin + round(number * 1e9 / options.rate), options.users * 1e9 / options.rate
        pace = OpenLoop(self._clock, first, period_ns, self._deadline_ns)
        return lambda: self._in_an_open_loop(session, pace)

    def _in_a_closed_loop(self, session: Session) -> None:
        """Start each operation when the last one ends, so that a slow database gets less load."""
        while self._take():
            session.step()

    def _in_an_open_loop(self, session: Session, pace: OpenLoop) -> None:
        due = pace.wait(self._over)
        while self._take():
            session.step(due)
            due = pace.wait(self._over)

    def _over(self) -> bool:
        return self._started >= self._operations or self._ended(self._clock.now())

    def _ended(self, now: int) -> bool:
        return self.interrupted or self._threads.crash is not None or now >= self._deadline_ns

    def _take(self) -> bool:
        """Take one of the remaining operations; those of the warm-up do not count."""
        now = self._clock.now()
        if self._ended(now):
            return False
        if now < self._load_ns:
            return True
        self._started = number = next(self._numbers)  # atomic, so that no two sessions take the same
        return number <= self._operations

    def progress(self) -> Progress:
        """Return the progress of the load."""
        options, now = self._options, self._clock.now()
        if now < self._load_ns:
            return Progress("warm-up", options.warmup_s - (self._load_ns - now) / 1e9, options.warmup_s, "s")
        if options.operations is not None:
            return Progress("load", min(self._started, self._operations), self._operations, "operations")
        done_s, duration_s = (now - self._load_ns) / 1e9, (self._deadline_ns - self._load_ns) / 1e9
        if self.expected_s is not None:
            duration_s = min(duration_s, max(self.expected_s, done_s))
        return Progress("load", min(done_s, duration_s), duration_s, "s")


class ProcessRun:
    """A run whose client is connected; `perform` it, then ask for its result."""

    def __init__(self, spec: RunSpec, run: DatabaseRun, *, keep: bool, log: Log) -> None:
        self.spec = spec
        self.run = run
        self.load = ThreadedLoad(run)
        self.received: list[int] = []
        """Exit codes that signals ask for (130 for Ctrl-C), in the order of their arrival."""
        self._keep = keep
        self._log = log

    def perform(
        self,
        progress: AbstractContextManager[Report],
        serving: AbstractContextManager[object] | None = None,
        background: AbstractContextManager[object] | None = None,
    ) -> None:
        """Create the keys, run the load inside `background`, make the final reads, and delete the keys.

        `serving` is entered around all of it. The keys are deleted whatever happens; only a second Ctrl-C leaves them.
        """
        with self._signals(), serving or nullcontext():
            self._log(f"creating {len(self.run.keys)} keys")
            self._create_keys()
            keep = self._keep
            try:
                collect_garbage_rarely()
                with progress as report:
                    with background or nullcontext():
                        self.load.perform(report)
                    if not self.load.interrupted:
                        self.load.final_reads(report)
            except SystemExit:
                if not keep:
                    self._report_left_keys("exiting at once")
                keep = True
                raise
            finally:
                self.run.finish()
                if not keep:
                    self._clean()
                if len(self.received) <= 1:  # no second Ctrl-C
                    self._leave()

    def _create_keys(self) -> None:
        try:
            self.run.create_keys()
        except ClientError as error:
            if self.received:  # which matters more than what went wrong after it
                self._log(str(error))
                raise SystemExit(self.received[0]) from error
            raise

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """End the run cleanly at the first Ctrl-C or SIGTERM, and at once at the second.

        The second may arrive in any greenlet, even gevent's own; from there SystemExit reaches the main one silently.
        """

        def stop(number: int, _frame: object) -> None:
            self.received.append(128 + number)
            if len(self.received) > 1:
                raise SystemExit(self.received[0])
            self.load.interrupt()
            self._log("stopping; press Ctrl-C again to exit at once")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _clean(self) -> None:
        try:
            self.run.remove_keys()
        except ClientError as error:
            self._report_left_keys(str(error))

    def _leave(self) -> None:
        """Remove what the set-up created if so chosen, and report what stays."""
        if not isinstance(self.run.client, Leaving):
            return
        try:
            for line in self.run.client.leave():
                self._log(line)
        except ClientError as error:
            self._log(f"what stays in the database is unknown: {error}")

    def _report_left_keys(self, reason: str) -> None:
        keys = self.run.keys
        self._log(
            f"keys left in the database: {keys[0]} ... {keys[-1]}; remove them with `stalewatch clean "
            f"{self.spec.database.name} --run {self.spec.run}` and the address: {reason}"
        )

    def totals(self) -> Totals:
        """Return what was found and counted."""
        return self.run.drain()

    def result(self, totals: Totals, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the JSON result of the run, with extra fields."""
        return run_result(
            totals,
            database=self.spec.database.name,
            run=self.spec.run,
            options={**self.spec.shown_options, "driver": self.run.client.settings()},
            duration_s=self.load.duration_s,
            workload_results=self.run.extra_results(),
            ended_early=self.load.ended_early,
            extra={
                "interrupted": self.load.interrupted,
                "final_reads_s": self.run.final_reads_s,
                "history_error": self.run.recorder.history_error,
                **(extra or {}),
            },
        )


@contextmanager
def connected(
    database: Database,
    options: object,
    load: LoadOptions,
    log: Log,
    *,
    history: Path | None = None,
    keep: bool = False,
    log_attempts: bool = False,
) -> Iterator[ProcessRun]:
    """Connect to a database, and drop the connections after the block; without an address the local cluster is started.

    The run goes on without a history that can no longer be written. Raises a `ClientError` or a `ClusterError`.
    """
    options = _addressed(database, options, load, log)
    shown = {**public_values(options), **public_values(load)}
    spec = RunSpec(
        run=_run_name(database, load, shown),
        database=database,
        options=options,
        load=load,
        workload=load.workload,
        users=load.users,
        history=history,
        shown_options=shown,
        log_attempts=log_attempts,
    )
    run = connect(spec, database.clock(), _detector, lambda error: log(f"the run goes on without its history: {error}"))
    try:
        yield ProcessRun(spec, run, keep=keep, log=log)
    finally:
        run.client.close()


def _addressed(database: Database, options: object, load: LoadOptions, log: Log) -> object:
    """Check what can be checked without a server, and return the options with the address of the local cluster."""
    check_fit(database, options, load)
    require_files(database, options, load.users)
    options = with_local_cluster(database, options, log)
    if database.addresses:  # creating a missing schema may take a while
        log(f"preparing {database.name}")
    return options


def _detector(clock: Clock) -> Stalls:
    if not isinstance(clock, RealClock):
        return NO_STALLS  # simulated time stops with the process
    detector = StallDetector(clock)
    detector.start()
    return detector


def _run_name(database: Database, load: LoadOptions, options: Mapping[str, Any]) -> str:
    """Return a name that no other run has; a simulated run is repeatable, so its seed and options name it."""
    if not database.addresses:
        return f"seed{load.seed}-{zlib.crc32(repr(sorted(options.items())).encode()):08x}"
    return f"{time.strftime('%Y%m%d%H%M%S')}{secrets.token_hex(2)}"
