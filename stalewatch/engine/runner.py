"""Runs many sessions in one process, as threads: greenlets where gevent is patched in, real threads where it is not."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

from stalewatch.clients.protocol import Client
from stalewatch.engine.final_reads import FinalReads
from stalewatch.engine.progress import Progress, Report
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Session
from stalewatch.workloads.mix import make_workload
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.pacing import NEVER, OpenLoop

JOIN_S = 10.0
"""How long an interrupted run waits for its sessions' last operations; drivers' time-outs are shorter."""

REPORT_S = 0.1

Companion = Callable[[int, Callable[[], bool]], None]
"""What is done beside the sessions of a load: takes when operations begin to count (ns), and what says "it is over"."""


class Run:
    """One worker's run: preload, load, final reads, cleaning up.

    `interrupt` may be called from a signal handler at any time: sessions end their operation, final reads are left
    out, and all that was done so far stands.
    """

    def __init__(self, client: Client, recorder: Recorder, options: LoadOptions, run: str, worker: int = 0) -> None:
        self.name = run
        self.interrupted = False
        self.duration_s = 0.0
        self.ended_ns = 0
        """When the sessions were told to end, or had done all operations."""
        self.companions: dict[str, Companion] = {}
        """By name, what the load has beside its sessions, on the same clock; the load lasts until they have ended."""
        self.final_reads_s: float | None = None
        """How long it took until every written key had been read finally; None where that did not come about."""
        self._client = client
        self._clock = client.clock
        self._recorder = recorder
        self._options = options
        keys = [f"{run}-w{worker}-{number}" for number in range(options.keys)]
        self.workload = make_workload(options.workload, client, recorder, keys, options)
        self._operations = float("inf") if options.operations is None else options.operations
        self._numbers = count(1)
        self._started = 0
        self._load_ns = 0
        self._deadline_ns = NEVER
        self._crashed: BaseException | None = None

    @property
    def keys(self) -> Sequence[str]:
        """What the run creates, uses and deletes."""
        return self.workload.keys

    def interrupt(self) -> None:
        """End the run early."""
        self.interrupted = True

    def end_at(self, moment: int) -> None:
        """Let the load last until that moment (ns) at the most."""
        self._deadline_ns = min(self._deadline_ns, moment)

    def preload(self) -> None:
        """Create the run's keys (raises a `ClientError`)."""
        self.workload.preload()

    def load(self, report: Report) -> None:
        """Let the sessions work until the operations are done, the time is over, or somebody interrupts."""
        options, begin = self._options, self._clock.now()
        self._load_ns = begin + round(options.warmup_s * 1e9)
        self._recorder.counting_from_ns = self._load_ns
        if options.duration_s is not None:
            self._deadline_ns = self._load_ns + round(options.duration_s * 1e9)
        names = [f"s{number}" for number in range(options.users)]
        self.workload.start_background()
        sessions = [self._session(name, number, begin) for number, name in enumerate(names)]
        companions = [partial(work, self._load_ns, self._over) for work in self.companions.values()]
        self._in_threads([*sessions, *companions], [*names, *self.companions], report)
        self.ended_ns = min(self._clock.now(), self._deadline_ns)
        self.duration_s = max(0, self._clock.now() - self._load_ns) / 1e9

    def final_reads(self, report: Report) -> None:
        """Read every written key at the level that proves loss, trying again until the servers have recovered."""
        begin = self._clock.now()
        finals = FinalReads(self._client, self._recorder, lambda: self.interrupted, self.workload)
        work = [finals.work] * finals.readers
        names = [f"f{number}" for number in range(finals.readers)]
        self._in_threads(work, names, lambda _progress: report(finals.progress()))
        if not finals.unread:
            self.final_reads_s = (self._clock.now() - begin) / 1e9

    def clean(self) -> None:
        """Delete the run's keys (raises a `ClientError`)."""
        self.workload.remove()

    def _session(self, name: str, number: int, begin: int) -> Callable[[], None]:
        options = self._options
        session = self.workload.session(name)
        if options.rate is None:
            return lambda: self._in_a_closed_loop(session)
        first, period_ns = begin + round(number * 1e9 / options.rate), options.users * 1e9 / options.rate
        pace = OpenLoop(self._clock, first, period_ns, self._deadline_ns)
        return lambda: self._in_an_open_loop(session, pace)

    def _in_a_closed_loop(self, session: Session) -> None:
        """Let each operation follow the last at once, so that a slow database gets less load."""
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
        return self.interrupted or self._crashed is not None or now >= self._deadline_ns

    def _take(self) -> bool:
        """Take one of the operations that are left; those of the warm-up are free."""
        now = self._clock.now()
        if self._ended(now):
            return False
        if now < self._load_ns:
            return True
        self._started = number = next(self._numbers)  # one step, so that no two sessions take the same
        return number <= self._operations

    def _in_threads(self, work: Sequence[Callable[[], None]], names: Sequence[str], report: Report) -> None:
        """Run each piece as a session of the clock, in a thread of its own; report until all have ended."""
        self._clock.expect(len(work))
        threads = [
            threading.Thread(target=self._guarded, args=(name, piece), name=name, daemon=True)
            for name, piece in zip(names, work, strict=True)
        ]
        for thread in threads:
            thread.start()
        self._wait(threads, report)
        report(self._progress())
        if self._crashed is not None:
            raise self._crashed

    def _wait(self, threads: Sequence[threading.Thread], report: Report) -> None:
        """Wait until all have ended; no longer than `JOIN_S` once interrupted, and not at all once one has crashed."""
        patience_ends = float("inf")
        while threads and self._crashed is None and time.monotonic() < patience_ends:
            report(self._progress())
            threads[0].join(REPORT_S)
            threads = [thread for thread in threads if thread.is_alive()]
            if self.interrupted:
                patience_ends = min(patience_ends, time.monotonic() + JOIN_S)

    def _guarded(self, name: str, work: Callable[[], None]) -> None:
        try:
            self._clock.join(name)
            work()
        except BaseException as error:  # noqa: BLE001 # a bug of ours ends the run, and is raised again where it waits
            self._crashed = error
        finally:
            self._clock.leave()

    def _progress(self) -> Progress:
        options, now = self._options, self._clock.now()
        if now < self._load_ns:
            return Progress("warm-up", options.warmup_s - (self._load_ns - now) / 1e9, options.warmup_s, "s")
        if options.operations is not None:
            return Progress("load", min(self._started, self._operations), self._operations, "operations")
        duration_s = (self._deadline_ns - self._load_ns) / 1e9
        return Progress("load", min((now - self._load_ns) / 1e9, duration_s), duration_s, "s")
