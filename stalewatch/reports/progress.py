"""Progress on standard error: a live view on a terminal if rich is installed, else a plain line every few seconds."""

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stalewatch.engine.threads import Progress, Report
from stalewatch.recording.totals import Figures
from stalewatch.reports.words import NBSP, percent

PLAIN_EVERY_S = 5.0

REFRESH_S = 0.25
"""How often the view is drawn anew, which takes about 2 ms."""

RATE_OVER_S = 2.0
"""The time over which rates are computed. Locust's workers report once a second."""

OUTAGE_S = 2.0
"""From when on the view says that nothing has succeeded for a while."""

LOAD_PHASES = ("warm-up", "load")

BAR_WIDTH = 24

Source = Callable[[], Figures]
"""Returns what was counted so far. It must be cheap: it is called while sessions work."""


@contextmanager
def progress(figures: Source) -> Iterator[Report]:
    """Show how far a run is, and what it has seen, until the block ends."""
    view = live_view(figures)
    if view is None:
        yield _plain()
        return
    with view.shown():
        yield view.report


def is_live() -> bool:
    """Return whether standard error is a terminal whose lines can be drawn anew; the logs of CI systems are none."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"} and not os.environ.get("CI")


def live_view(figures: Source) -> "LiveView | None":
    """Return a view for this terminal; None if it must be plain lines."""
    if not is_live():
        return None
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
    except ImportError:
        return None

    class SteadyConsole(Console):
        """A console whose cursor stays visible, so that a process that is killed leaves the terminal as it was."""

        def show_cursor(self, show: bool = True) -> bool:  # noqa: FBT001, FBT002 # rich's
            return False

    return LiveView(SteadyConsole(stderr=True, force_terminal=True), figures)


class LiveView:
    """A few lines of a terminal: progress, rates, violations, faults and outages.

    Everything happens in `report`, which the caller calls often: there is no thread, and no lock is taken. If the
    terminal goes away, nothing is shown any more.
    """

    def __init__(self, console: Any, figures: Source) -> None:  # noqa: ANN401 # rich's, which may not be installed
        from rich.live import Live  # noqa: PLC0415 # the caller has imported rich

        self._figures = figures
        self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._drawn = float("-inf")
        self._past: deque[Figures] = deque()
        self._failed = False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the view during the block; what is printed on standard error meanwhile appears above it."""
        self._live.start()
        try:
            yield
        finally:
            with suppress(OSError):
                self._live.stop()

    def report(self, state: Progress) -> None:
        """Draw the view anew, if it is time."""
        now = time.monotonic()
        if self._failed or now - self._drawn < REFRESH_S:
            return
        self._drawn = now
        try:
            self._live.update(self._lines(state, self._figures()), refresh=True)
        except OSError:
            self._failed = True

    def _lines(self, state: Progress, seen: Figures) -> Any:  # noqa: ANN401 # as above
        from rich.console import Group  # noqa: PLC0415 # as above
        from rich.progress_bar import ProgressBar  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        loading = state.phase in LOAD_PHASES
        rates = self._rates(seen) if loading else {}
        bar = ProgressBar(total=state.total or 1, completed=min(state.done, state.total or 0), width=BAR_WIDTH)
        head = Table.grid(padding=(0, 1))
        head.add_row(Text(state.phase), bar, Text(_how_far(state, sum(rates.values())), no_wrap=True))
        rows = [_speed(rates, seen)] if loading else []
        rows += [_violations(seen), *_faults(seen), *(_outages(seen) if loading else ())]
        return Group(head, *(Text.assemble(*row, no_wrap=True, overflow="ellipsis") for row in rows))

    def _rates(self, seen: Figures) -> dict[str, float]:
        """Return operations a second by kind, over the last seconds."""
        past = self._past
        past.append(seen)
        while len(past) > 2 and past[1].now_ns < seen.now_ns - RATE_OVER_S * 1e9:  # noqa: PLR2004 # one before, one now
            past.popleft()
        seconds = (seen.now_ns - past[0].now_ns) / 1e9
        done = {kind: sum(counts) - sum(past[0].outcomes[kind]) for kind, counts in seen.outcomes.items()}
        return {kind: max(0, number) / seconds if seconds > 0 else 0.0 for kind, number in done.items()}


def _how_far(state: Progress, rate: float) -> str:
    """Return how much is done, and how long it will take."""
    if not state.total:
        return f"{state.done:.0f} {state.unit}"
    left = state.total - state.done
    seconds = left if state.unit == "s" else left / rate if rate else None
    wait = "" if seconds is None or state.phase not in LOAD_PHASES else f", {seconds:.0f} s left"
    return f"{state.done:.0f}/{state.total:.0f} {state.unit}{wait}"


Part = str | tuple[str, str]
"""A text, or a text and its style."""


def _speed(rates: dict[str, float], seen: Figures) -> list[Part]:
    each = ", ".join(f"{rate:.0f} {kind}s/s" for kind, rate in rates.items())
    failed = sum(counts[1] for counts in seen.outcomes.values())
    return [f"{sum(rates.values()):.0f} operations/s ({each})", *([(f", {failed} failed", "yellow")] if failed else [])]


def _violations(seen: Figures) -> list[Part]:
    found = {name: counts for name, counts in seen.violated.items() if counts[0]}
    if not found:
        checks = sum(checked for _, checked in seen.violated.values())
        return [("no violation", "green"), f" in {checks} checks"]
    words = ", ".join(
        f"{name} {violated} ({_percent(violated / checked)})" for name, (violated, checked) in found.items()
    )
    return ["violations: ", (words, "red")]


def _percent(share: float) -> str:
    return percent(share).replace(NBSP, " ")  # not every terminal has it


def _faults(seen: Figures) -> Iterator[list[Part]]:
    for fault in seen.faults:
        lasting_s = max(0, seen.now_ns - fault.start) / 1e9
        yield [(f"fault: {fault.fault} of {fault.node or 'the cluster'} for {lasting_s:.1f} s", "yellow")]


def _outages(seen: Figures) -> Iterator[list[Part]]:
    for kind, last in seen.last_ok.items():
        silent_s = (seen.now_ns - last) / 1e9
        if silent_s >= OUTAGE_S:
            yield [(f"outage: no successful {kind} for {silent_s:.1f} s", "bold red")]


def _plain() -> Report:
    last = time.monotonic()

    def advance(state: Progress) -> None:
        nonlocal last
        phase, done, total, unit = state
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            print(f"{phase}: {done:.0f}/{total:.0f} {unit}", file=sys.stderr, flush=True)

    return advance
