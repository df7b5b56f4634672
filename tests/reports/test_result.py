import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.engine.result import MAX_ITEMS, check_result
from stalewatch.history.operation import Append, Final


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
