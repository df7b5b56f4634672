"""Judging of the history files of one run."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.history.reader import BadHistory, History

PROGRESS_EVERY = 1 << 20


def judge_files(paths: Sequence[Path], progress: Callable[[int], None] = lambda _operations: None) -> Judge:
    """Return a finished judge of the files; raise `BadHistory` if one is invalid, or the memory does not suffice.

    `progress` is called with the number of operations judged so far, about once per million.
    """
    history = History(paths)
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    observe, operations = judge.observe, history.operations()
    count = source = 0
    collecting = gc.isenabled()
    gc.disable()  # operations hold no cycles, and traversing a million of them repeatedly costs a third of the time
    try:
        for count, (operation, source) in enumerate(operations, 1):
            observe(operation, source)
            if not count % PROGRESS_EVERY:
                progress(count)
        judge.finish()
    except MemoryError:
        del judge, observe  # else there may be too little left to say so
        gc.collect()
        raise BadHistory(
            history.paths[source],
            None,
            f"out of memory after {count:,} operations; memory grows with the number of keys, and of sessions per key",
        ) from None
    finally:
        if collecting:
            gc.enable()
    return judge
