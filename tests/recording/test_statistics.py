import random

import pytest

from stalewatch.checkers.verdict import Distribution, Violation
from stalewatch.history.operation import Read, Write
from stalewatch.locust.messages import counts_of
from stalewatch.recording import statistics
from stalewatch.recording.statistics import MOST_NODES, OTHER_NODES, Statistics

NS = 1_000_000_000


def read(second: float, ms: float, node: str | None = "a", outcome: str = "ok") -> Read:
    end = round(second * NS)
    return Read(key="k", session="s", version=1, start=end - round(ms * 1e6), end=end, outcome=outcome, node=node)


def stale(one: Read) -> Violation:
    write = Write(key="k", session="w", version=2, start=0, end=1, outcome="ok", node="writer")
    return Violation("stale_reads", (write, one), "lag", 5)


def test_each_second_has_the_percentiles_of_its_latencies_within_6_percent() -> None:
    found, rng = Statistics(), random.Random(3)
    times = {second: sorted(rng.lognormvariate(0, 1.5) for _ in range(500)) for second in (7, 8, 10)}
    for second, latencies in times.items():
        for one in latencies:
            found.on_operation(read(second + 0.5, one), ())
    rows = found.timeline()
    assert [row["second"] for row in rows] == [0, 1, 2, 3]
    assert rows[2] == {"second": 2}
    for second, latencies in times.items():
        row = rows[second - 7]
        assert row["read_ok"] == 500
        assert row["read_p50_ms"] == pytest.approx(latencies[249], rel=0.062)
        assert row["read_p99_ms"] == pytest.approx(latencies[494], rel=0.062)


def test_nodes_count_what_they_answered_and_what_was_stale() -> None:
    found = Statistics()
    for one, is_stale in ((read(1, 1, "a"), True), (read(1, 1, "b"), False), (read(2, 1, "b", "fail"), False)):
        found.on_operation(one, [stale(one)] if is_stale else ())
    found.on_operation(read(2, 1, None, "unknown"), ())
    assert found.figures()["nodes"] == [
        {"node": "a", "read_ok": 1, "stale_reads": 1},
        {"node": "b", "read_ok": 1, "read_fail": 1},
    ]


def test_nodes_are_bounded() -> None:
    found = Statistics()
    for number in range(MOST_NODES * 2):
        found.on_operation(read(1, 1, f"n{number}"), ())
    rows = {row["node"]: row for row in found.figures()["nodes"]}
    assert len(rows) == MOST_NODES + 1
    assert rows[OTHER_NODES]["read_ok"] == MOST_NODES


def test_parts_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_BUFFERED", 7)
    rng, whole, first, second, total = random.Random(1), Statistics(), Statistics(), Statistics(), Statistics()
    for number in range(300):
        one = read(100 + number / 20, rng.expovariate(1), rng.choice("abc"), rng.choice(("ok", "ok", "fail")))
        found = [stale(one)] if one.outcome == "ok" and rng.random() < 0.2 else []
        whole.on_operation(one, found)
        (first if rng.random() < 0.5 else second).on_operation(one, found)
        if number % 70 == 0:
            total.merge(first.drain())
    total.merge(second)
    total.merge(first)
    assert total.figures() == whole.figures()
    assert counts_of(total).service == counts_of(whole).service


def test_the_latencies_of_a_long_run_are_kept_for_longer_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "MOST_SECONDS", 10)
    total = Statistics()
    for second in range(1000, 1100):
        part = Statistics()
        for ms in (1, 2, 3):
            part.on_operation(read(second, ms), ())
        total.merge(part.drain())
    rows = total.timeline()
    assert [row["read_ok"] for row in rows] == [3] * 100
    with_latencies = [row["second"] for row in rows if "read_p50_ms" in row]
    assert 5 <= len(with_latencies) <= 10
    assert with_latencies[0] == 0
    assert all(row["read_p50_ms"] == pytest.approx(2, rel=0.062) for row in rows if "read_p50_ms" in row)


def test_adding_many_durations_is_adding_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stalewatch.checkers.verdict.EXACT_VALUES", 50)
    rng, one_by_one, at_once = random.Random(2), Distribution(), Distribution()
    for _ in range(5):
        durations = [rng.randrange(10**9) for _ in range(30)]
        at_once.update(durations)
        for duration in durations:
            one_by_one.add(duration)
    at_once.update([])
    assert at_once.state() == one_by_one.state()
    assert at_once.count == one_by_one.count
