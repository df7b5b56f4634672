import pytest

from stalewatch.reports.side_by_side import seen, show_side_by_side
from tests.reports.made_results import judged, result, stale, timed

LEADER = {"topology": "leader", "write_acks": 1, "read_from": "follower"}
STRICT = {"topology": "leader", "write_acks": "majority", "read_from": "leader"}


def test_the_sentence_has_the_worst_first_with_counts_rate_and_age() -> None:
    good = judged(result("r1", **STRICT), "stale_reads", 0, 100)
    bad = stale("r2", 25, 200, **LEADER)
    assert seen([good, bad]) == (
        "leader: w=1 / follower: 25 of 200 reads were stale (12.50%), by up to 1.50 s; "
        "leader: w=majority / leader: none of 100 reads was stale."
    )


def test_the_sentence_says_where_nothing_is_known() -> None:
    assert seen([result("r1", **LEADER)]) == "leader: w=1 / follower: no read could be checked for staleness."  # type: ignore[arg-type] # options


def test_runs_of_the_same_levels_are_told_apart() -> None:
    said = seen([stale("r1", 1, 10, **LEADER, users=5), stale("r2", 2, 10, **LEADER, users=50)])
    assert "users=5:" in said
    assert "users=50:" in said


def test_the_table_has_a_column_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    slow = timed(stale("r2", 25, 200, **LEADER), "write", p95=12.345)
    show_side_by_side([judged(result("r1", **STRICT), "lost_writes", 7, 100), slow])
    cells = {line[:19].strip(): line[19:].split() for line in capsys.readouterr().out.splitlines()}
    assert cells["stale reads"] == ["no", "evidence", "12.50%"]
    assert cells["lost writes"] == ["7", "no", "evidence"]
    assert cells["staleness, median"] == ["12.30", "ms"]
    assert cells["staleness, worst"] == ["1.50", "s"]
    assert cells["write p95"] == ["no", "evidence", "12.35", "ms"]
    assert cells["verdict"] == ["invalid", "invalid"]
