"""Threads that run sessions: greenlets if gevent is patched in, real threads if not."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stalewatch.history.clock import Clock

JOIN_S = 10.0
"""How long an interrupted run waits for its sessions' last operations; drivers' timeouts are shorter."""

REPORT_S = 0.1


class Progress(NamedTuple):
    """The progress of a phase, in operations, keys or seconds."""

    phase: str
    done: float
    total: float
    unit: str


Report = Callable[[Progress], None]


class Threads:
    """Runs functions as sessions of a clock, each in its own thread, until all have ended.

    If one raises, the wait for all ends, and its error is raised again.
    """

    def __init__(self, clock: Clock, interrupted: Callable[[], bool]) -> None:
        self._clock = clock
        self._interrupted = interrupted
        self.crash: BaseException | None = None
        """The error of a function that raised one."""

    def run(self, work: Mapping[str, Callable[[], None]], report: Callable[[], None]) -> None:
        """Run each function in a thread of its name; call `report` regularly, and when all have ended."""
        self._clock.expect(len(work))
        threads = [
            threading.Thread(target=self._guarded, args=(name, function), name=name, daemon=True)
            for name, function in work.items()
        ]
        for thread in threads:
            thread.start()
        self._wait(threads, report)
        report()
        if self.crash is not None:
            raise self.crash

    def _wait(self, threads: list[threading.Thread], report: Callable[[], None]) -> None:
        """Wait until all have ended; at most `JOIN_S` once interrupted, and not at all once one has crashed."""
        patience_ends = float("inf")
        while threads and self.crash is None and time.monotonic() < patience_ends:
            report()
            threads[0].join(REPORT_S)
            threads = [thread for thread in threads if thread.is_alive()]
            if self._interrupted():
                patience_ends = min(patience_ends, time.monotonic() + JOIN_S)

    def _guarded(self, name: str, function: Callable[[], None]) -> None:
        try:
            self._clock.join(name)
            function()
        except BaseException as error:  # noqa: BLE001 # raised again by the waiting thread
            self.crash = error
        finally:
            self._clock.leave()
