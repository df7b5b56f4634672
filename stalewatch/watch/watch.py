"""`stalewatch.Watch`: the operations of one process, recorded and judged while they happen."""

import os
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import RunVerdict
from stalewatch.engine.result import run_result
from stalewatch.history.clock import RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header
from stalewatch.history.reader import Source
from stalewatch.history.writer import HistoryWriter
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.totals import Totals
from stalewatch.reports import expect, words
from stalewatch.watch.session import WatchedRun

DATABASE = "own"

MAX_WITNESSES = 2
"""The most witnesses of a missed expectation that are put into words."""


class Watch(WatchedRun):
    """Watches the operations of this process; a context manager, or `close` it.

        with stalewatch.Watch(history="run.jsonl") as watch:
            alice = watch.session("alice")
            with alice.write("k") as write:
                store.set("k", {"version": write.version})
            with alice.read("k") as read:
                read.saw(store.get("k")["version"])
        watch.expect("read_your_writes=0")

    Writers of one key wait for each other, so that a store which simply overwrites can be judged. `growing` says that
    the store itself never lets an older version win; then nobody waits. `options` are shown in the result and in the
    history. Raises OSError if the history cannot be written.
    """

    def __init__(
        self,
        history: str | os.PathLike[str] | None = None,
        *,
        growing: bool = False,
        options: Mapping[str, object] | None = None,
    ) -> None:
        name = f"{time.strftime('%Y%m%d%H%M%S')}{secrets.token_hex(2)}"
        self.options = dict(options or {})
        self._ended_ns = 0
        self._ended_early: str | None = None
        self.expected = False
        """Whether `expect` was called."""
        super().__init__(self._recorder(name, history, growing=growing), name, growing=growing)
        self._started_ns = self.recorder.clock.now()

    def __enter__(self) -> Self:
        """Return the watch, which has begun when it was made."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the watch. If an exception ends it, what was not done yet is unknown."""
        if kind is not None and not self.recorder.finished:
            self._ended_early = f"{kind.__name__} ended the watch"
        self.close()

    def close(self) -> None:
        """End the watch: decide what only the end can, such as lost writes, and close the history (raises OSError)."""
        if not self.recorder.finished:
            self._ended_ns = self.recorder.clock.now()
            self.recorder.finish()

    @property
    def result(self) -> dict[str, Any]:
        """The JSON result, as of every other run: what was found so far, or in all once the watch has ended."""
        with self.recorder.settled():
            result = run_result(
                Totals(self.recorder.judge.findings(), self.recorder.statistics),
                database=DATABASE,
                run=self.name,
                options={"growing": self.growing, **self.options},
                duration_s=((self._ended_ns or self.recorder.clock.now()) - self._started_ns) / 1e9,
                workload_results={"workloads": self.workloads},
                extra={"ended_early": self._ended_early},
            )
        if self._ended_early is not None and result["verdict"] == "valid":
            result["verdict"] = "unknown"
        return result

    @property
    def verdict(self) -> RunVerdict:
        """The verdict so far, or of the whole run once the watch has ended."""
        verdict: RunVerdict = self.result["verdict"]
        return verdict

    def expect(self, expectations: str) -> None:
        """Raise AssertionError if the run misses one of the expectations, with the operations that prove it.

        Expectations are those of `--expect`, such as ``read_your_writes=0,stale_reads<0.05`` (raises ValueError).
        """
        __tracebackhide__ = True  # pytest points at the caller
        parsed, result = expect.parse(expectations), self.result
        self.expected = True
        missed = {one.name: line for one in parsed if (line := one.missed(result)) is not None}
        if missed:
            raise AssertionError("\n".join(self._explained(missed)))

    def _explained(self, missed: Mapping[str, str]) -> Iterator[str]:
        """Yield each missed expectation with its first witnesses, and what to do if it was asked for too early."""
        for name, line in missed.items():
            yield line
            yield from self._witnesses(name.partition(".")[0])
        if not self.recorder.finished and any(line.endswith("no evidence") for line in missed.values()):
            yield "lost writes and items of lists are judged when the watch ends: close() it before expecting them"

    def _witnesses(self, guarantee: str) -> Iterator[str]:
        with self.recorder.settled():
            verdict = self.recorder.judge.verdicts().get(guarantee)
            for violation in verdict.witnesses[:MAX_WITNESSES] if verdict else ():
                yield f"    {words.proof_words(violation)} (times in ms)"

    def _recorder(self, name: str, history: str | os.PathLike[str] | None, *, growing: bool) -> Recorder:
        header = Header(
            format=FORMAT,
            version=FORMAT_VERSION,
            run=name,
            database=DATABASE,
            clock_error_ns=0,
            closes=True,
            registers="growing" if growing else "overwriting",
            options=self.options,
        )
        judge = Judge(JudgeContext((Source(overwriting=not growing),)))
        return Recorder(RealClock(), judge, None if history is None else HistoryWriter(Path(history), header))
