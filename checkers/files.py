"""Judging of the history files of one run."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.history.reader import History

PROGRESS_EVERY = 1 << 20


def judge_files(paths: Sequence[Path], progress: Callable[[int], None] = lambda _operations: None) -> Judge:
    """Return a finished judge of the files; raise `BadHistory` if one is invalid.

    `progress` is called with the number of operations judged so far, about once per million.
    """
    history = History(paths)
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    observe = judge.observe
    collecting = gc.isenabled()
    gc.disable()  # operations hold no cycles, and traversing a million of them repeatedly costs a third of the time
    try:
        for count, (operation, source) in enumerate(history.operations(), 1):
            observe(operation, source)
            if not count % PROGRESS_EVERY:
                progress(count)
    finally:
        if collecting:
            gc.enable()
    judge.finish()
    return judge
