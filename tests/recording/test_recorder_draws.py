"""Draws are recorded like writes: begun in one step, ended once, unknown if they never ended."""

from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import Draw
from stalewatch.recording.recorder import NEVER_ENDED, Recorder
from tests.engine.running import given_to, recorder_of, simulated


def recorder() -> Recorder:
    return recorder_of(simulated().clock)


def draw_all(one: Recorder, *answers: Answer) -> None:
    """Draw once for each answer, one after another."""
    for answer in answers:
        draw = one.begin_draw("s", "k")
        one.clock.sleep(1)
        one.end_write(draw, answer)
        one.clock.sleep(1)


def test_an_id_that_repeats_or_decreases_is_a_violation() -> None:
    one = recorder()
    draw_all(one, *(Answer(version=value) for value in (1, 2, 2, 3, 1, 5)))
    one.finish()
    verdict = one.judge.verdicts()["unique_ids"]
    assert (verdict.checked, verdict.violated, dict(verdict.causes)) == (6, 2, {"duplicate": 2})


def test_increasing_ids_with_gaps_are_not_a_violation() -> None:
    one = recorder()
    draw_all(one, *(Answer(version=value) for value in (1, 2, 5, 9)))
    one.finish()
    assert one.judge.verdicts()["unique_ids"].verdict == "holds"


def test_only_acknowledged_draws_have_a_value() -> None:
    one = recorder()
    draw_all(one, Answer(version=7), Answer("unknown", version=7, error="why"), Answer("fail", version=7, error="why"))
    one.finish()
    assert [(draw.value, draw.outcome, draw.error) for draw in given_to(one) if isinstance(draw, Draw)] == [
        (7, "ok", None),
        (None, "unknown", "why"),
        (None, "fail", "why"),
    ]
    assert one.judge.verdicts()["unique_ids"].checked == 1


def test_draws_count_as_writes_and_need_no_final_read() -> None:
    one = recorder()
    draw_all(one, Answer(version=1), Answer("fail", error="why"), Answer("unknown", error="why"))
    one.finish()
    assert one.statistics.outcomes["write"] == {"ok": 1, "fail": 1, "unknown": 1}
    assert one.statistics.service["write"].count == 1
    assert one.written_keys() == []


def test_a_draw_that_never_ended_stays_unknown_after_a_late_answer() -> None:
    one = recorder()
    draw = one.begin_draw("s", "k")
    one.finish()
    one.end_write(draw, Answer(version=3))
    assert [
        (given.outcome, given.end, given.value, given.error) for given in given_to(one) if isinstance(given, Draw)
    ] == [("unknown", None, None, NEVER_ENDED)]
