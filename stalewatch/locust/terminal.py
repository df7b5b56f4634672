"""The live view of a headless run on a terminal, in the place of the table that Locust prints every two seconds."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
from locust.env import Environment

from stalewatch.engine.threads import Progress
from stalewatch.locust.master_run import MasterRun
from stalewatch.recording.totals import Figures, figures_of
from stalewatch.reports.progress import REFRESH_S, LiveView, live_view

LOGGERS = ("", "locust", "locust.stats_logger")
"""The loggers to which Locust gives handlers that print."""


def show(environment: Environment, run_of: Callable[[], MasterRun | None]) -> None:
    """Show the live view of every run, if this is a headless process on a terminal.

    Call this before the master listens: `quitting` runs its handlers in reverse, and the view ends after the verdict.
    """
    namespace = environment.parsed_options
    if namespace is None or not namespace.headless or namespace.only_summary or namespace.print_stats:
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
    return figures_of(time.time_ns(), [(run.totals.findings.verdicts, run.totals.statistics)])


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
