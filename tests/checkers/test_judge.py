"""The judge: twins, the horizon, merging, and verdicts."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stalewatch.checkers.guarantee import JudgeContext, Staircase
from stalewatch.checkers.judge import GUARANTEES, Judge
from stalewatch.checkers.stale_reads import StaleReads
from stalewatch.checkers.verdict import (
    AGE_EDGES_NS,
    EXACT_VALUES,
    Distribution,
    Findings,
    Freshness,
    Verdict,
    Violation,
    overall,
    wilson,
)
from stalewatch.engine.result import guarantees
from stalewatch.history.operation import Operation, replace
from stalewatch.history.reader import History, Source
from stalewatch.locust.messages import decode, encode, verdict_rows
from stalewatch.recording.totals import no_totals
from tests.checkers import oracle
from tests.checkers.histories import growing_registers, history_text, random_growing_register, random_history
from tests.checkers.linearizability import linearizable
from tests.checkers.twins import STALE_CAUSES, TWINS, CauseTwins, Twins, append, draw, final, read, write
from tests.locust.test_master_run import report

REGISTER = ("stale_reads", "read_regressions", "phantom_reads")


def judged(operations: Iterable[Operation], context: JudgeContext | None = None) -> Judge:
    judge = Judge(context)
    for operation in operations:
        judge.observe(operation)
    judge.finish()
    return judge


def as_read(operations: list[Operation], folder: Path) -> list[Operation]:
    """Return the operations in the order in which a file yields them."""
    path = folder / "history.jsonl"
    path.write_text(history_text(oracle.File(operations)))
    return [operation for operation, _ in History([path]).operations()]


@pytest.mark.parametrize("twins", TWINS, ids=lambda twins: f"{twins.guarantee}: {twins.difference}")
def test_the_smallest_history_violates_the_guarantee_and_its_twin_does_not(twins: Twins, tmp_path: Path) -> None:
    violating = judged(as_read(twins.violating, tmp_path)).verdicts()[twins.guarantee]
    assert (violating.verdict, violating.violated) == ("violated", 1)
    assert twins.violating[twins.at] in violating.witnesses[0].operations
    valid = judged(as_read(twins.valid, tmp_path)).verdicts()[twins.guarantee]
    assert (valid.verdict, valid.violated) == (twins.valid_verdict, 0)


@pytest.mark.parametrize("twins", STALE_CAUSES, ids=lambda twins: twins.difference)
def test_the_cause_of_a_stale_read_depends_on_the_final_read(twins: CauseTwins, tmp_path: Path) -> None:
    for operations, cause in ((twins.history, twins.cause), (twins.other, twins.other_cause)):
        stale = judged(as_read(operations, tmp_path)).verdicts()["stale_reads"]
        assert (stale.causes, stale.witnesses[0].cause) == (Counter([cause]), cause)


def drained(operations: Iterable[Operation], every: int) -> Findings:
    """Return the sum of what a judge reports bit by bit; each bit travels as a worker's report does."""
    judge, sum_of = Judge(), no_totals().findings
    for number, operation in enumerate(operations):
        judge.observe(operation)
        if number % every == 0:
            sum_of.merge(travelled(judge.drain()))
    judge.finish()
    sum_of.merge(travelled(judge.drain()))
    return sum_of


def travelled(findings: Findings) -> Findings:
    sent = msgspec.structs.replace(
        report(),
        verdicts=verdict_rows(findings),
        duplicate_items=findings.duplicate_items,
        phantom_items=findings.phantom_items,
    )
    return decode(encode(sent)).totals().findings


@pytest.mark.parametrize("seeds", [range(150), pytest.param(range(150, 2000), marks=pytest.mark.soak)])
def test_reports_add_up_to_the_verdict_on_the_whole_whenever_they_are_sent(seeds: range) -> None:
    for seed in seeds:
        (file,) = random_history(seed, files=1)
        whole = judged(file.operations).findings()
        for every in (1, 3):
            assert guarantees(drained(file.operations, every).verdicts) == guarantees(whole.verdicts), (seed, every)


def test_corrections_of_causes_add_up_across_workers_in_any_order() -> None:
    lost, lagging = STALE_CAUSES[0].history, STALE_CAUSES[0].other
    for order in ((lost, lagging, lost), (lagging, lost, lost)):
        findings = no_totals().findings
        for worker, operations in enumerate(order):
            findings.merge(drained([replace(operation, key=f"w{worker}-k") for operation in operations], 1))
        stale = findings.verdicts["stale_reads"]
        assert (stale.violated, stale.causes) == (3, {"lost": 2, "lag": 1})
        assert sorted(witness.cause or "" for witness in stale.witnesses) == ["lag", "lost", "lost"]


def test_a_correction_that_arrives_alone_moves_what_was_counted_before() -> None:
    judge = Judge()
    for operation in STALE_CAUSES[0].history:
        judge.observe(operation)
    before = judge.drain()
    judge.finish()
    correction = judge.drain()
    stale = correction.verdicts["stale_reads"]
    assert (stale.checked, stale.violated, stale.causes) == (0, 0, {"lag": -1, "lost": 1})
    correction.merge(before)
    assert stale.causes == {"lost": 1}


def test_only_the_last_final_read_of_a_key_counts_even_if_it_shows_another_kind_of_value() -> None:
    begin = [write(1, 1, 2), write(2, 3, 4), append("a", 5, 6), read(1, 7, 8)]
    for finals in ([final(1, 9, 10), final(["a"], 11, 12)], [final([], 9, 10), final(2, 11, 12)]):
        operations = [*begin, *finals]
        found, expected = judged(operations).verdicts(), oracle.judge([oracle.File(operations)])
        for name in ("lost_writes", "unexpected_items", "stale_reads"):
            assert (found[name].checked, found[name].violated) == (expected[name].checked, expected[name].violated)
            assert found[name].causes == expected[name].causes


@pytest.mark.parametrize("held", [0, 100, 1990])
def test_the_cause_lost_is_exact_beyond_the_horizon(held: int) -> None:
    operations: list[Operation] = []
    for version in range(1, 2001):
        now = version * 10
        operations += [write(version, now, now + 1), read(version - 1, now + 2, now + 3)]
    operations.append(final(held, 90_000, 90_001))
    for context in (JudgeContext(horizon_ns=500), JudgeContext()):
        stale = judged(operations, context).verdicts()["stale_reads"]
        assert stale.violated == stale.causes.total() == 2000
        assert stale.causes["lost"] == 2000 - held


def test_the_floors_of_old_stale_reads_are_packed() -> None:
    judge = Judge(JudgeContext(horizon_ns=500))
    for version in range(1, 20_001):
        judge.observe(write(version, version * 10, version * 10 + 1))
        judge.observe(read(version - 1, version * 10 + 2, version * 10 + 3))
    stale = judge._guarantees["stale_reads"]
    assert isinstance(stale, StaleReads)
    assert len(stale._lagging._recent) < 3000
    assert {numbers.itemsize for old in stale._lagging._old.values() for numbers in old} == {8}


def test_old_floors_of_any_size_are_kept() -> None:
    operations: list[Operation] = []
    for version in range(2**63 - 1500, 2**63 + 1500):
        now = version * 10
        operations += [write(version, now, now + 1), read(version - 1, now + 2, now + 3)]
    stale = judged([*operations, final(0, now + 10, now + 11)], JudgeContext(horizon_ns=500)).verdicts()["stale_reads"]
    assert stale.causes == {"lost": 3000}


@given(st.lists(st.tuples(st.integers(0, 2 * 10**11), st.booleans()), max_size=60), st.integers(1, 60))
def test_freshness_adds_up(reads: list[tuple[int, bool]], cut: int) -> None:
    def counted(some: list[tuple[int, bool]]) -> Freshness:
        freshness = Freshness()
        for age, stale in some:
            bucket = bisect_right(AGE_EDGES_NS, age)
            freshness.checked[bucket] += 1
            freshness.stale[bucket] += stale
        return Freshness.restored(freshness.state())

    merged = counted(reads[:cut])
    merged.merge(counted(reads[cut:]))
    assert list(merged.buckets()) == list(counted(reads).buckets())
    assert merged.fresh_after_ns(0.01) == oracle.fresh_after_ns(oracle.Result(ages_ns=reads), 99)


@given(growing_registers())
@settings(max_examples=300, deadline=None)
def test_with_rising_write_starts_a_register_is_linearizable_exactly_if_three_guarantees_hold(
    files: list[oracle.File],
) -> None:
    assert linearizable(files[0].operations) == hold(files[0].operations)


def test_thousands_of_seeded_registers_are_linearizable_exactly_if_three_guarantees_hold() -> None:
    for seed in range(4000):
        operations = random_growing_register(seed, size=3 + seed % 6)[0].operations
        assert linearizable(operations) == hold(operations), f"seed {seed}"


def hold(operations: Iterable[Operation]) -> bool:
    verdicts = judged(operations).verdicts()
    return not any(verdicts[name].violated for name in REGISTER)


def test_without_rising_write_starts_the_three_guarantees_do_not_suffice() -> None:
    operations = [write(2, 1, 2), read(1, 1, 5), write(1, 3, 7)]
    assert hold(operations)
    assert not linearizable(operations)


def long_register(length: int) -> list[Operation]:
    """Return the history of a register that is repeatedly written and then read stale; every operation takes 2 ns."""
    operations: list[Operation] = []
    for version in range(1, length + 1):
        at = version * 10
        operations += [write(version, at, at + 2), read(version - version % 2, at + 4, at + 6)]
    return operations


def test_a_short_horizon_changes_no_count() -> None:
    operations = [*long_register(3000), final(2998, 90_000, 90_001)]
    long, short = judged(operations).verdicts(), judged(operations, JudgeContext(horizon_ns=50)).verdicts()
    for name in GUARANTEES:
        assert (short[name].checked, short[name].violated) == (long[name].checked, long[name].violated), name
    assert long["lost_writes"].violated == 2
    assert long["stale_reads"].violated == 1500


def test_beyond_the_horizon_staleness_is_counted_as_a_lower_bound() -> None:
    operations = [*long_register(3000), read(1, 90_000, 90_001)]
    exact = judged(operations).verdicts()["stale_reads"]
    bounded = judged(operations, JudgeContext(horizon_ns=50)).verdicts()["stale_reads"]
    assert exact.staleness.max_ns == 90_000 - 22
    assert 0 < bounded.staleness.max_ns < exact.staleness.max_ns
    assert (exact.at_least, bounded.at_least) == (0, 1)


def test_a_read_longer_than_the_horizon_is_no_false_positive() -> None:
    """The read started before version 1 was acknowledged, and ends long after that was forgotten."""
    operations = [*long_register(3000), read(0, 5, 90_000, session="slow")]
    for horizon_ns in (1, 50, 10**9):
        found = judged(operations, JudgeContext(horizon_ns=horizon_ns))
        assert found.verdicts()["stale_reads"].violated == 1500


def test_a_final_read_longer_than_the_horizon_proves_no_loss() -> None:
    operations = [*long_register(3000), final(0, 5, 90_000)]
    assert judged(operations, JudgeContext(horizon_ns=50)).verdicts()["lost_writes"].checked == 0


def test_memory_is_bounded_by_the_horizon() -> None:
    judge = judged(long_register(20_000), JudgeContext(horizon_ns=1000))
    register = judge._registers["k"]
    for stairs in (register.acknowledged, register.shown):
        assert isinstance(stairs, Staircase)
        assert stairs._lower is not None
        assert len(stairs._lower.ends) < 400
    assert len(register.acknowledged_writes[0]._recent) < 400
    assert len(list(register.applied.ranges())) == 1


def test_the_findings_of_two_workers_add_up() -> None:
    findings = judged(TWINS[0].violating).findings()
    findings.merge(judged(TWINS[0].valid).findings())
    merged = findings.verdicts["stale_reads"]
    assert (merged.checked, merged.violated, merged.rate) == (2, 1, 0.5)


def test_a_draw_repeated_beyond_the_horizon_is_found_without_its_twin() -> None:
    draws = [draw(value, value * 10, value * 10 + 1) for value in range(1, 1000)]
    operations = [*draws, draw(3, 20_000, 20_001)]
    found = judged(operations, JudgeContext(horizon_ns=100)).verdicts()["unique_ids"]
    assert (found.checked, found.violated, found.witnesses[0].cause) == (1000, 1, "duplicate")


@pytest.mark.parametrize(
    ("violated", "checked", "low", "high"),
    [  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_is_the_wilson_interval(violated: int, checked: int, low: float, high: float) -> None:
    assert wilson(violated, checked) == pytest.approx((low, high), abs=5e-5)


def test_a_guarantee_without_checked_operations_never_holds() -> None:
    assert Verdict("stale_reads").verdict == "no_evidence"
    assert Verdict("stale_reads").rate is None
    assert overall([Verdict("stale_reads")], complete=True) == "unknown"


@pytest.mark.parametrize(
    ("rows", "complete", "verdict"),
    [
        ([Verdict("stale_reads", 3, 0)], True, "valid"),
        ([Verdict("stale_reads", 3, 0)], False, "unknown"),
        ([Verdict("stale_reads", 3, 1)], False, "invalid"),
        ([Verdict("stale_reads", 3, 0), Verdict("conflicts", 3, 3)], True, "valid"),
        ([Verdict("conflicts", 3, 3)], True, "unknown"),
    ],
)
def test_the_verdict_of_a_run_follows_from_its_guarantees(rows: list[Verdict], verdict: str, *, complete: bool) -> None:
    assert overall(rows, complete=complete) == verdict


def test_at_most_five_witnesses_are_kept() -> None:
    verdict = Verdict("stale_reads")
    for _ in range(7):
        verdict.add(Violation("stale_reads", ()))
    assert (verdict.violated, len(verdict.witnesses)) == (7, 5)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.95, 0.99, 1.0]))
def test_quantiles_of_few_durations_are_exact(durations: list[int], share: float) -> None:
    counted = Distribution()
    for duration in durations:
        counted.add(duration)
    [quantile] = counted.quantiles_ns(share)
    assert sum(duration <= quantile for duration in durations) >= share * len(durations)
    assert sum(duration < quantile for duration in durations) < share * len(durations)
    assert (counted.max_ns, counted.total_ns, counted.count) == (max(durations), sum(durations), len(durations))


def test_quantiles_of_many_durations_are_accurate_to_a_thousandth_in_bounded_memory() -> None:
    counted, other = Distribution(), Distribution()
    for duration in range(1, 400_001):
        (counted if duration % 2 else other).add(duration * 1000)
    counted.merge(other)
    assert counted.count == 400_000
    assert counted.quantiles_ns(0.5)[0] == pytest.approx(200_000_000, rel=1e-3)
    assert len(counted._counts) <= EXACT_VALUES


def test_in_an_incomplete_source_a_read_without_a_recorded_write_is_not_checked() -> None:
    incomplete = JudgeContext(sources=(Source(complete=False),))
    assert judged([read(7, 1, 2)], incomplete).verdicts()["phantom_reads"].checked == 0
    assert judged([read(7, 1, 2)]).verdicts()["phantom_reads"].violated == 1
