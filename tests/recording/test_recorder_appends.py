"""Appends are recorded like writes: begun in one step, ended once, unknown if they never ended."""

from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import Append
from stalewatch.recording.recorder import NEVER_ENDED, Recorder
from tests.engine.running import given_to, recorder_of, simulated


def recorder() -> Recorder:
    return recorder_of(simulated().clock)


def test_an_append_missing_from_the_final_read_is_a_lost_write() -> None:
    one = recorder()
    for item in ("s-1", "s-2"):
        append = one.begin_append("s", "k.basket", item)
        one.clock.sleep(1)
        one.end_write(append, Answer(node="h:1"))
        one.clock.sleep(1)
    start = one.clock.now()
    one.clock.sleep(1)
    one.end_final("k.basket", start, Answer(items=["s-2"]))
    one.finish()
    assert [violation.operations[0].item for violation in one.found_at_the_end] == ["s-1"]  # type: ignore[union-attr] # an append
    verdict = one.judge.verdicts()["lost_writes"]
    assert (verdict.checked, verdict.violated) == (2, 1)


def test_appends_count_as_writes() -> None:
    one = recorder()
    for outcome in ("ok", "fail", "unknown"):
        append = one.begin_append("s", "k", f"s-{outcome}")
        one.clock.sleep(1)
        one.end_write(append, Answer(outcome, error=None if outcome == "ok" else "why"))
    one.finish()
    assert one.statistics.outcomes["write"] == {"ok": 1, "fail": 1, "unknown": 1}
    assert one.statistics.service["write"].count == 1
    assert one.written_keys() == ["k"]


def test_an_append_that_never_ended_stays_unknown_after_a_late_answer() -> None:
    one = recorder()
    append = one.begin_append("s", "k", "s-1")
    one.finish()
    one.end_write(append, Answer())
    assert [(given.outcome, given.end, given.error) for given in given_to(one) if isinstance(given, Append)] == [
        ("unknown", None, NEVER_ENDED)
    ]
