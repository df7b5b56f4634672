"""Progress on standard error: a bar drawn by rich on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stalewatch.engine.threads import Progress, Report

PLAIN_EVERY_S = 5.0


@contextmanager
def progress() -> Iterator[Report]:
    """Show how far a run is until the block ends."""
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415
    except ImportError:
        yield _plain()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (TextColumn("{task.description:12}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Bars(*columns, TextColumn("{task.fields[unit]}"), TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, int] = {}

        def advance(state: Progress) -> None:
            phase, done, total, unit = state
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, unit=unit)
            bars.update(tasks[phase], completed=done, total=total)  # type: ignore[arg-type] # rich's NewType of int

        yield advance


def _plain() -> Report:
    last = time.monotonic()

    def advance(state: Progress) -> None:
        nonlocal last
        phase, done, total, unit = state
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            print(f"{phase}: {done:.0f}/{total:.0f} {unit}", file=sys.stderr, flush=True)

    return advance
