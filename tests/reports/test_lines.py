import pytest

from stalewatch.reports.lines import plain_lines
from tests.reports.results import result, with_counts, with_latency, with_staleness


def test_a_run_without_operations_has_no_evidence() -> None:
    assert list(plain_lines(result())) == [
        "no operation succeeded: 0 attempted; nothing was tested",
        "write avg/p95 ms: n/a / n/a",
        "read avg/p95 ms: n/a / n/a",
        "stale_read_rate: n/a (0/0, no evidence)",
        "ryw_violation_rate: n/a (0/0, no evidence)",
        "monotonic_violation_rate: n/a (0/0, no evidence)",
        "conflicts: 0",
        "lost_writes: n/a (0/0, no evidence)",
        "fresh after ms: n/a (no evidence)",
        "operations: 0 in 1.5 s, 0/s",
        "reads ok/fail/unknown: 0 / 0 / 0",
        "writes ok/fail/unknown: 0 / 0 / 0",
        "unknown means: nothing could be checked",
        "verdict: unknown",
    ]


def test_a_rate_has_its_counts_and_interval() -> None:
    lines = list(plain_lines(with_counts(with_staleness(result(), 0.1, 0.2), "stale_reads", 432, 3500)))
    assert "stale_read_rate: 0.1234 (432/3500, 95% 0.1129-0.1347)" in lines


def test_each_rate_is_that_of_its_guarantee() -> None:
    made = result()
    for number, guarantee in enumerate(("read_your_writes", "monotonic_reads", "lost_writes", "conflicts"), start=1):
        with_counts(made, guarantee, number, 100)
    lines = "\n".join(plain_lines(made))
    assert "ryw_violation_rate: 0.0100 (1/100, 95% " in lines
    assert "monotonic_violation_rate: 0.0200 (2/100, 95% " in lines
    assert "lost_writes: 0.0300 (3/100, 95% " in lines
    assert "conflicts: 4\n" in lines


def test_service_and_response_times_are_separate_lines() -> None:
    made = with_latency(with_latency(result(), "write", avg=1.234, p95=4.567), "read", "response_ms", avg=10, p95=20)
    made["operations"]["write"]["ok"] = 1
    lines = list(plain_lines(made))
    assert lines[:3] == [
        "write avg/p95 ms: 1.23 / 4.57",
        "read avg/p95 ms: n/a / n/a",
        "read response avg/p95 ms: 10.00 / 20.00",
    ]


def test_the_speed_and_the_percentiles_are_lines() -> None:
    made = with_latency(result(), "write") | {"duration_s": 6.1}
    made["operations"]["write"]["ok"], made["operations"]["read"]["unknown"] = 3000, 2000
    lines = list(plain_lines(made))
    assert "operations: 5000 in 6.1 s, 820/s" in lines
    assert "write p50/p95/p99/max ms: 1.00 / 2.00 / 3.00 / 4.00" in lines
    assert not [line for line in lines if line.startswith("read p50")]


def test_what_broke_first_is_told_with_its_witness_and_the_verdict_with_its_reason() -> None:
    stale = with_staleness(with_counts(result(), "stale_reads", 1, 10), 0.1, 0.2)
    made = with_counts(stale, "monotonic_reads", 1, 10)
    for name, at in (("stale_reads", 9_000_000), ("monotonic_reads", 3_000_000)):
        operation = {"op": "read", "session": "s1", "key": f"k\x1b[31m{name}", "version": 1, "start": at, "end": at + 1}
        made["guarantees"][name]["witnesses"] = [{"operations": [operation], "cause": None, "staleness_s": None}]
    made |= {"faults": [{"fault": "kill", "node": "n1", "start": 1_000_000_001, "end": None}]}
    assert list(plain_lines(made))[-3:] == [
        "broke first: monotonic_reads, 1.0 s before kill of n1 began: s1 read version 1 of k\\x1b[31mmonotonic_reads",
        "invalid means: the database broke a guarantee that was checked: stale_reads, monotonic_reads",
        "verdict: invalid",
    ]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"verdict": "valid"}, "valid means: no guarantee was violated, and 1 were checked"),
        ({"ended_early": "interrupted"}, "unknown means: nothing was violated until the run ended early (interrupted)"),
        ({"complete": False}, "unknown means: nothing was violated in what was recorded, but something is missing"),
    ],
)
def test_every_verdict_has_a_reason(fields: dict[str, object], reason: str) -> None:
    assert list(plain_lines(with_counts(result(), "stale_reads", 0, 10) | fields))[-2] == reason


def test_staleness_is_shown_only_if_a_read_was_stale() -> None:
    made = with_counts(with_staleness(result(), 0.0123, 1.5), "stale_reads", 1, 10)
    assert "staleness p50/p95/max ms: 12.30 / 1500.00 / 1500.00" in list(plain_lines(made))
    fresh = with_counts(with_staleness(result(), 0.1, 0.1), "stale_reads", 0, 10)
    assert "staleness" not in "\n".join(plain_lines(fresh))


def test_losses_of_conflict_resolution_are_shown_by_part() -> None:
    made = result() | {
        "resolution": {"strategy": "lww", "merged": 12, "errors": 1},
        "losses": {"basket": {"acknowledged": 187, "lost": 52}, "count": {"acknowledged": 178, "lost": 25}},
        "final_reads_s": 0.561,
    }
    lines = list(plain_lines(made))
    at = lines.index("resolution: lww (12 merged, 1 errors)")
    assert lines[at + 1 : at + 4] == ["lost basket items: 52/187", "lost increments: 25/178", "final reads s: 0.56"]


def test_an_error_has_its_outcome_and_count() -> None:
    errors = [{"operation": "write", "outcome": "unknown", "error": "Timeout", "count": 3}]
    assert "write unknown: 3 x Timeout" in list(plain_lines(result() | {"errors": errors}))


def test_ids_and_items_are_shown_only_if_there_are_any() -> None:
    made = with_counts(result(), "unique_ids", 2, 100) | {"duplicate_items": 3, "phantom_items": 0}
    lines = list(plain_lines(made))
    place = lines.index("lost_writes: n/a (0/0, no evidence)")
    assert lines[place + 1].startswith("unique_id_violation_rate: 0.0200 (2/100, 95% ")
    assert lines[place + 2] == "duplicate_items: 3"
    assert not [line for line in lines if line.startswith("phantom_items")]


@pytest.mark.parametrize(
    ("violated", "checked", "fresh_after_s", "line"),
    [
        (0, 0, {"99": None, "99.9": None}, "n/a (no evidence)"),
        (0, 10, {"99": None, "99.9": None}, "no stale read seen"),
        (9, 10, {"99": None, "99.9": None}, "99% n/a, 99.9% n/a"),
        (9, 1000, {"99": 0.0, "99.9": 100.0}, "99% 0, 99.9% 100000"),
        (9, 1000, {"99": 0.0002, "99.9": 0.05}, "99% 0.2, 99.9% 50"),
    ],
)
def test_a_line_tells_how_long_after_a_write_reads_are_fresh(
    violated: int, checked: int, fresh_after_s: dict[str, float | None], line: str
) -> None:
    made = with_staleness(result(), 0.1, 0.2)
    if checked:
        with_counts(made, "stale_reads", violated, checked)
    made["guarantees"]["stale_reads"]["fresh_after_s"] = fresh_after_s
    assert f"fresh after ms: {line}" in list(plain_lines(made))


def test_stalls_and_interruptions_are_mentioned() -> None:
    lines = list(plain_lines(result() | {"stalled_operations": 4, "interrupted": True}))
    assert "left out of latencies: 4 operations during which this process was stalled" in lines
    assert "interrupted: no final reads were made, so lost writes were not checked" in lines
