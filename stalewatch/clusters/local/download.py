"""How far a download is: a bar by rich on a terminal, else a line for each quarter."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stalewatch.clusters.protocol import Progress

_PARTS = 4


@contextmanager
def counting(text: str, total: int, progress: Progress) -> Iterator[Callable[[int], None]]:
    """Show the bytes that are added, of so many, until the block ends."""
    progress(f"{text} ({total / 1e6:.0f} MB)")
    try:
        from rich.console import Console  # noqa: PLC0415 # the bare bench runs without it
        from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bars  # noqa: PLC0415
    except ImportError:
        yield _plain(total, progress)
        return
    console = Console(stderr=True)
    if not sys.stderr.isatty():
        yield _plain(total, progress)
        return
    with Bars(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("", total=total)
        yield lambda size: bars.advance(task, size)


def _plain(total: int, progress: Progress) -> Callable[[int], None]:
    done = told = 0

    def add(size: int) -> None:
        nonlocal done, told
        done += size
        part = done * _PARTS // total
        if part > told:
            told = part
            progress(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")

    return add
