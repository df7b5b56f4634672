"""Progress on standard error: a bar drawn by rich on a terminal, else a plain line every few seconds."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Advance = Callable[[str, float, float, str], None]
"""Called with the phase, the amount done, the total and the unit."""

PLAIN_EVERY_S = 5.0


@contextmanager
def progress() -> Iterator[Advance]:
    """Show the progress of a run until the block ends."""
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        yield _plain()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain()
        return
    columns = (TextColumn("{task.description:12}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(*columns, TextColumn("{task.fields[unit]}"), TimeElapsedColumn(), console=console) as bars:
        tasks: dict[str, int] = {}

        def advance(phase: str, done: float, total: float, unit: str) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(phase, unit=unit)
            bars.update(tasks[phase], completed=done, total=total)  # type: ignore[arg-type] # rich's NewType of int

        yield advance


def _plain() -> Advance:
    last = time.monotonic()

    def advance(phase: str, done: float, total: float, unit: str) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            print(f"{phase}: {done:.0f}/{total:.0f} {unit}", file=sys.stderr, flush=True)

    return advance
