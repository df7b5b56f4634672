import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import RunVerdict
from stalewatch.engine.result import MAX_ITEMS, check_result, run_result
from stalewatch.history.operation import Append, Final, Read, Write
from stalewatch.recording.totals import Totals


@pytest.mark.parametrize("held", [0, MAX_ITEMS, MAX_ITEMS + 1])
def test_a_witness_shows_the_items_of_a_list_unless_there_are_too_many(held: int) -> None:
    judge = Judge()
    judge.observe(Append(session="s", key="k", item="s-lost", start=1, end=2, outcome="ok"))
    items: list[str | int] = list(range(held))
    judge.observe(Final(key="k", items=items, start=3, end=4, outcome="ok"))
    judge.finish()
    _, final = check_result(judge.findings())["guarantees"]["lost_writes"]["witnesses"][0]["operations"]
    shown = {"items_left_out": held} if held > MAX_ITEMS else {"items": items}
    assert final == {"op": "final", "key": "k", "start": 3, "end": 4, "outcome": "ok", **shown}


@pytest.mark.parametrize(
    ("shown", "ended_early", "verdict"),
    [(1, None, "valid"), (1, "interrupted", "unknown"), (0, None, "invalid"), (0, "interrupted", "invalid")],
)
def test_a_run_that_ended_early_is_never_valid(shown: int, ended_early: str | None, verdict: RunVerdict) -> None:
    judge = Judge()
    judge.observe(Write(session="s", key="k", version=1, start=1, end=2, outcome="ok"))
    judge.observe(Read(session="s", key="k", version=shown, start=3, end=4, outcome="ok"))
    judge.finish()
    result = run_result(
        Totals(judge.findings()),
        database="memory",
        run="r",
        options={},
        duration_s=1,
        workload_results={"workloads": ["register"]},
        extra={},
        ended_early=ended_early,
    )
    assert (result["verdict"], result["ended_early"]) == (verdict, ended_early)
    assert result["complete"]
