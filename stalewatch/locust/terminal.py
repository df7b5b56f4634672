"""The live view of a headless run on a terminal, in the place of the table that Locust prints every two seconds."""

import atexit
import logging
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import gevent
from gevent.os import make_nonblocking, nb_read
from locust.env import Environment

from stalewatch.engine.threads import Progress
from stalewatch.locust.master_run import MasterRun
from stalewatch.recording.totals import Figures, figures_of
from stalewatch.reports.progress import REFRESH_S, LiveView, is_live, live_view

LOGGERS = ("", "locust", "locust.stats_logger")
"""The loggers to which Locust gives handlers that print."""

LAST_LINES_S = 1.0
"""How long the master waits at its end for what workers print last."""

STDOUT, STDERR = 1, 2


class WorkerOutput:
    """What workers of `--processes` print, which share the master's terminal: the master prints it, above its view.

    A line of another process in the middle of the view would leave the lines around it on the screen for good. Each
    worker has a pipe: unbuffered output (`python -u`) comes in pieces, which those of others would be mixed with.
    """

    def __init__(self) -> None:
        """Let each process that is forked from now on print into a pipe."""
        self._forking = True
        self._made = (-1, -1)
        """The pipe of the process that is being forked: its ends for reading and for writing."""
        self._ends: list[int] = []
        """Where the master reads what each worker prints."""
        self._printing: list[gevent.Greenlet] = []
        self._master = os.getpid()
        os.register_at_fork(before=self._make, after_in_parent=self._keep, after_in_child=self._join)
        atexit.register(self._print_rest)  # runs after Locust has waited for its workers

    def _make(self) -> None:
        if self._forking:
            self._made = os.pipe()

    def _keep(self) -> None:
        if self._forking:
            reading, writing = self._made
            os.close(writing)
            self._ends.append(reading)

    def _join(self) -> None:
        if not self._forking:
            return
        reading, writing = self._made
        for stream in (STDOUT, STDERR):
            if os.isatty(stream):
                os.dup2(writing, stream)
        # If the master is killed, nobody reads: a worker that prints then gets an error, and does not wait for ever.
        for end in (reading, writing, *self._ends):
            os.close(end)
        self._forking = False

    def print(self) -> None:
        """Start to print what workers print; call this in the master, once all are forked."""
        self._forking = False
        for end in self._ends:
            make_nonblocking(end)
        self._printing = [gevent.spawn(self._print, end) for end in self._ends]

    def _print(self, end: int) -> None:
        rest = b""
        while data := nb_read(end, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._print_line(line)
        if rest:
            self._print_line(rest)

    @staticmethod
    def _print_line(line: bytes) -> None:
        with suppress(OSError):  # the terminal has gone; the workers must be able to continue
            print(line.decode(errors="replace"), file=sys.stderr, flush=True)

    def _print_rest(self) -> None:
        if os.getpid() != self._master:
            return
        if not self._printing:  # the master ends before it has started
            self.print()
        gevent.joinall(self._printing, timeout=LAST_LINES_S)


_output: list[WorkerOutput] = []
"""The output of workers, if the view is shown and there are any."""


def gather_workers(namespace: Namespace) -> None:
    """Let the master print what the workers of `--processes` print, if it shows the view; call this before the fork."""
    if namespace.processes and not namespace.worker and _wants_view(namespace) and is_live():
        _output.append(WorkerOutput())


def _wants_view(namespace: Namespace) -> bool:
    return bool(namespace.headless and not namespace.only_summary and not namespace.print_stats)


def show(environment: Environment, run_of: Callable[[], MasterRun | None]) -> None:
    """Show the live view of every run, if this is a headless process on a terminal.

    Call this before the master listens: `quitting` runs its handlers in reverse, and the view ends after the verdict.
    """
    namespace = environment.parsed_options
    for output in _output:
        output.print()
    if namespace is None or not _wants_view(namespace):
        return
    view = live_view(lambda: _figures(run_of()))
    if view is None:
        return
    namespace.only_summary = True  # Locust reads it only to decide whether to print its table
    drawing: list[gevent.Greenlet] = []
    environment.events.test_start.add_listener(lambda **_: drawing.append(gevent.spawn(_draw, view, run_of)))
    environment.events.quitting.add_listener(lambda **_: gevent.joinall(drawing))


def _draw(view: LiveView, run_of: Callable[[], MasterRun | None]) -> None:
    """Draw the view until there is a verdict."""
    while (run := run_of()) is None or (run.phase == "load" and not run.totals.operations):
        gevent.sleep(REFRESH_S)  # workers of --processes print on the same terminal while they start
    with view.shown(), _logs_above():
        while (run := run_of()) is not None and run.phase != "over":
            view.report(_progress(run))
            gevent.sleep(REFRESH_S)


def _figures(run: MasterRun | None) -> Figures:
    if run is None:
        return figures_of(time.time_ns(), [])
    return figures_of(run.clock.now(), [(run.totals.findings.verdicts, run.totals.statistics)])


def _progress(run: MasterRun) -> Progress:
    if run.phase == "load":
        return Progress("load", time.monotonic() - run.started, run.run_time_s or 0, "s")
    reading = [worker.progress for worker in run.workers if worker.phase.startswith("final reads")]
    if not reading:
        return Progress("ending", time.monotonic() - run.started, 0, "s")
    return Progress("final reads", sum(one[0] for one in reading), sum(one[1] for one in reading), reading[0][2])


@contextmanager
def _logs_above() -> Iterator[None]:
    """Let what is logged appear above the view: handlers keep the stream that standard error was before."""
    before, view = sys.__stderr__, sys.stderr
    handlers = [
        one
        for name in LOGGERS
        for one in logging.getLogger(name).handlers
        if isinstance(one, logging.StreamHandler) and one.stream is before
    ]
    for one in handlers:
        one.setStream(view)
    try:
        yield
    finally:
        for one in handlers:
            one.setStream(before)
