"""Judging of the history files of one run."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.shards import judge_in_shards, number_of_jobs
from stalewatch.history.reader import BadHistory, History

PROGRESS_EVERY = 1 << 20


class _Progress:
    """How far the judging is."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self.count = self.source = 0

    def update(self, count: int, source: int) -> None:
        """Report the number of operations about once per million."""
        millions = count // PROGRESS_EVERY
        if millions > self.count // PROGRESS_EVERY:
            self._report(millions * PROGRESS_EVERY)
        self.count, self.source = count, source


def judge_files(
    paths: Sequence[Path], progress: Callable[[int], None] = lambda _operations: None, jobs: int | None = None
) -> Judge:
    """Return a finished judge of the files; raise `BadHistory` if one is invalid, or the memory does not suffice.

    `progress` is called with the number of operations judged so far, about once per million. `jobs` processes judge
    the files, by default as many as pay.
    """
    history, so_far = History(paths), _Progress(progress)
    jobs = jobs or number_of_jobs(history.paths)
    with _no_collection():
        try:
            return judge_in_shards(history, jobs, so_far.update)
        except MemoryError as error:
            error.__traceback__ = None  # it holds the judge, and there may be too little left to say so
            raise BadHistory(
                history.paths[so_far.source],
                None,
                f"out of memory after {so_far.count:,} operations; "
                "memory grows with the number of keys, and of sessions per key",
            ) from None


@contextmanager
def _no_collection() -> Iterator[None]:
    """Collect no garbage: operations hold no cycles, and traversing millions of them takes a third of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
