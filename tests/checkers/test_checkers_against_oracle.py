"""The streaming checkers agree with the brute-force oracle on generated histories."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import GUARANTEES, Judge
from stalewatch.checkers.verdict import FRESH_PERCENTAGES
from stalewatch.history.codec import encode
from stalewatch.history.reader import History
from tests.checkers import oracle
from tests.checkers.histories import history_text, multi_file_histories, random_history, scaled, single_file_histories

SEEDS, SOAK_SEEDS = 1000, 100_000
SCALES = (1, 100_000, 1_000_000, 1_000_000_000, 10_000_000_000)
"""Nanoseconds that stand for one, so that the ages of reads fall into every bucket, and on their edges."""


# The guarantees whose violating operation is the first of a witness, not the last.
FIRST = {"phantom_reads", "lost_writes", "conflicts"}

CAUSES = {"stale_reads", "read_regressions", "consistent_prefix", "unexpected_items"}


def judge_from_text(files: Sequence[oracle.File], folder: Path) -> tuple[Judge, dict[str, Counter[bytes]]]:
    paths = []
    for index, file in enumerate(files):
        path = folder / f"{index}.jsonl"
        path.write_text(history_text(file))
        paths.append(path)
    history = History(paths)
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    violations = [one for operation, source in history.operations() for one in judge.observe(operation, source)]
    violations += judge.finish()
    broken: dict[str, Counter[bytes]] = {name: Counter() for name in GUARANTEES}
    for one in violations:
        broken[one.guarantee][encode(one.operations[0 if one.guarantee in FIRST else -1])] += 1
    return judge, broken


def found(judge: Judge, broken: dict[str, Counter[bytes]]) -> dict[str, object]:
    rows: dict[str, object] = {
        name: (
            verdict.checked,
            verdict.violated,
            verdict.verdict,
            broken[name],
            dict(verdict.causes) if name in CAUSES else None,
        )
        for name, verdict in judge.verdicts().items()
    }
    staleness = judge.verdicts()["stale_reads"].staleness
    rows["staleness"] = sorted(staleness._counts.elements())
    freshness = judge.verdicts()["stale_reads"].freshness
    rows["freshness"] = [tuple(bucket) for bucket in freshness.buckets() if bucket.checked or bucket.stale]
    rows["fresh after"] = [freshness.fresh_after_ns(share) for share in FRESH_PERCENTAGES.values()]
    rows["items"] = (judge.duplicate_items, judge.phantom_items)
    rows["overall"] = judge.verdict()
    return rows


def violating(files: Sequence[oracle.File], result: oracle.Result) -> Counter[bytes]:
    counted: Counter[bytes] = Counter()
    for file, place in result.violating:
        counted[encode(files[file].operations[place])] += result.times[file, place] or 1
    return counted


def expected(files: Sequence[oracle.File]) -> dict[str, object]:
    results = oracle.judge(files)
    rows: dict[str, object] = {
        name: (
            results[name].checked,
            results[name].violated,
            results[name].verdict,
            violating(files, results[name]),
            dict(results[name].causes) if name in CAUSES else None,
        )
        for name in GUARANTEES
    }
    rows["staleness"] = sorted(results["stale_reads"].staleness_ns)
    rows["freshness"] = oracle.freshness(results["stale_reads"])
    rows["fresh after"] = [oracle.fresh_after_ns(results["stale_reads"], percentage) for percentage in (99, 99.9)]
    rows["items"] = (len(oracle.duplicate_items(files)), len(oracle.phantom_items(files)))
    rows["overall"] = oracle.overall(files, results)
    return rows


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(files=single_file_histories())
def test_one_file_gets_the_counts_of_the_oracle(files: list[oracle.File], tmp_path: Path) -> None:
    assert found(*judge_from_text(files, tmp_path)) == expected(files)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(files=multi_file_histories())
def test_several_files_get_the_counts_of_the_oracle(files: list[oracle.File], tmp_path: Path) -> None:
    assert found(*judge_from_text(files, tmp_path)) == expected(files)


def test_a_thousand_seeded_histories_get_the_counts_of_the_oracle(tmp_path: Path) -> None:
    compare(range(SEEDS), tmp_path)


@pytest.mark.soak
def test_a_hundred_thousand_seeded_histories_get_the_counts_of_the_oracle(tmp_path: Path) -> None:
    compare(range(SEEDS, SOAK_SEEDS), tmp_path)


def compare(seeds: Iterable[int], tmp_path: Path) -> None:
    for seed in seeds:
        scale = SCALES[seed % len(SCALES)]
        files = scaled(random_history(seed), scale)
        assert found(*judge_from_text(files, tmp_path)) == expected(files), f"scaled(random_history({seed}), {scale})"


def test_long_histories_get_the_counts_of_the_oracle(tmp_path: Path) -> None:
    for seed in range(12):
        files = random_history(seed, 150)
        assert found(*judge_from_text(files, tmp_path)) == expected(files), f"random_history({seed}, 150)"
