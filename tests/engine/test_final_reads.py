"""Final reads that fail: repeated while that may help, and no longer."""

import pytest

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.protocol import Answer
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.engine.threads import Progress
from stalewatch.history.reader import Source
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.workloads.options import LoadOptions


def waited_s(monkeypatch: pytest.MonkeyPatch, error: str) -> tuple[float, list[Progress]]:
    """Return how long, in simulated time, final reads are tried that all end in this error, and the progress."""
    memory = DATABASES["memory"]
    client = MemoryClient(MemoryOptions(), memory.clock())
    client.permanent_errors = frozenset({"Forbidden"})  # type: ignore[attr-defined]
    monkeypatch.setattr(client, "final", lambda _key: Answer("unknown", error=error))
    run = DatabaseRun(
        client, Recorder(client.clock, Judge(JudgeContext((Source(),)))), LoadOptions(keys=3, seed=1), "r"
    )
    run.create_keys()
    run.start()
    session = run.session("s")
    while len(run.workload.written_keys()) < 3:
        session.step()
    begin, reported = client.clock.now(), list[Progress]()
    run.read_finals(lambda: False, reported.append)
    assert run.unread == 3
    assert run.unread_error == error
    return (client.clock.now() - begin) / 1e9, reported


def test_an_error_that_no_waiting_ends_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited_s(monkeypatch, "Forbidden")[0] < 1


def test_any_other_error_is_waited_for_and_the_progress_says_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waited, reported = waited_s(monkeypatch, "Timeout")
    assert 60 <= waited < 65
    assert any("trying again after Timeout, for " in progress.phase for progress in reported)
