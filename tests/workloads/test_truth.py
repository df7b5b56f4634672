"""Whole runs: what is measured agrees with the known truth of the simulated store."""

from math import exp

import pytest

from stalewatch.checkers.verdict import AGE_EDGES_NS, FRESH_PERCENTAGES, wilson
from stalewatch.history.operation import Read
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.state import NEVER
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import Played, play, simulated

LAG_S = 0.02
LAGGING = {
    "read_from": "follower",
    "lag": "exponential",
    "lag_s": LAG_S,
    "lag_order": "key",
    "service": "constant",
    "service_s": 1e-4,
    "remember": True,
}
LOAD = LoadOptions(users=10, operations=20_000, rate=2000, keys=1000, write_ratio=0.3, reread=0.3)


def ages_of(run: Played) -> list[tuple[float, bool, Read]]:
    """Return, for every read that could be stale, the age of its newest acknowledged write, and whether it is stale."""
    acknowledged, found = dict[str, list[tuple[int, int]]](), list[tuple[float, bool, Read]]()
    for operation in run.loaded:
        writes = acknowledged.setdefault(operation.key, [])
        if not isinstance(operation, Read):
            writes.append((operation.version or 0, operation.end or 0))
        elif floor := max(((version, end) for version, end in writes if end < operation.start), default=None):
            found.append(((operation.start - floor[1]) / 1e9, (operation.version or 0) < floor[0], operation))
    return found


def expected_rate(run: Played) -> float:
    """Return the mean probability of a stale read according to the truth."""
    acknowledged, chances = dict[str, list[tuple[int, int]]](), []
    for operation in run.loaded:
        writes = acknowledged.setdefault(operation.key, [])
        if not isinstance(operation, Read):
            writes.append((operation.version or 0, operation.end or 0))
        elif floor := max((version for version, end in writes if end < operation.start), default=0):
            middle = (operation.start + operation.end) // 2
            chances.append(run.client.truth.stale_probability(operation.key, floor, middle))
    return sum(chances) / len(chances)


@pytest.fixture(scope="module")
def lagging() -> Played:
    return play(simulated(seed=1, **LAGGING), LOAD)


def test_the_true_rate_of_stale_reads_is_within_the_measured_interval(lagging: Played) -> None:
    stale = lagging.recorder.judge.verdicts()["stale_reads"]
    assert stale.interval is not None
    assert stale.checked > 5000
    assert stale.interval[0] <= expected_rate(lagging) <= stale.interval[1]


def test_staleness_decays_with_the_age_of_the_write_like_the_exponential_lag(lagging: Played) -> None:
    ages = sorted(ages_of(lagging), key=lambda one: one[0])
    young = [one for one in ages if one[0] < 4 * LAG_S]
    inside, bins = 0, 8
    for place in range(bins):
        of_bin = young[place * len(young) // bins : (place + 1) * len(young) // bins]
        low, high = wilson(sum(stale for _, stale, _ in of_bin), len(of_bin))
        inside += low <= sum(exp(-age_s / LAG_S) for age_s, _, _ in of_bin) / len(of_bin) <= high
    assert inside >= bins - 1  # one of eight 95% intervals may miss


def test_the_reported_staleness_is_the_time_since_the_oldest_write_that_the_read_missed(lagging: Played) -> None:
    stale = lagging.recorder.judge.verdicts()["stale_reads"]
    assert stale.violated == sum(is_stale for _, is_stale, _ in ages_of(lagging))
    for violation in stale.witnesses:
        write, read = violation.operations[0], violation.operations[-1]
        assert violation.staleness_ns == read.start - (write.end or 0)


@pytest.mark.parametrize("seed", range(10))
def test_a_linearizable_store_with_timeouts_and_refusals_shows_no_violation(seed: int) -> None:
    client = simulated(
        topology="linearizable", seed=seed, timeouts=0.02, refusals=0.02, timeout_s=0.05, service="lognormal"
    )
    load = LoadOptions(users=20, operations=10_000, keys=20, write_ratio=0.4, reread=0.5, seed=seed)
    run = play(client, load)
    verdicts = run.recorder.judge.verdicts()
    assert run.violated() == {}
    assert len(run.loaded) == 10_000
    assert sum(one.outcome == "unknown" for one in run.writes) > 50
    assert all(verdicts[name].checked > 1000 for name in ("stale_reads", "read_regressions", "phantom_reads"))


def test_the_same_run_with_follower_reads_shows_violations() -> None:
    options = MemoryOptions(read_from="follower", lag_s=0.001, timeouts=0.02, refusals=0.02, timeout_s=0.05)
    client = simulated(**vars(options))
    run = play(client, LoadOptions(users=20, operations=10_000, keys=20, write_ratio=0.4, reread=0.5))
    assert {"stale_reads", "read_your_writes", "monotonic_reads", "read_regressions"} <= run.violated().keys()


def stale_share(ages_s: list[float]) -> float:
    """Return the mean probability that a read of such an age is stale: it falls exponentially, as the lag does."""
    return sum(exp(-age_s / LAG_S) for age_s in ages_s) / len(ages_s)


def test_the_freshness_of_the_verdict_has_the_truth_within_its_intervals(lagging: Played) -> None:
    freshness = lagging.recorder.judge.verdicts()["stale_reads"].freshness
    ages_s, inside = [age_s for age_s, _, _ in ages_of(lagging)], []
    for begin_ns, end_ns, checked, stale in freshness.buckets():
        of_bucket = [age_s for age_s in ages_s if begin_ns <= round(age_s * 1e9) < (end_ns or NEVER)]
        assert len(of_bucket) == checked
        if checked >= 50:
            low, high = wilson(stale, checked)
            inside.append(low <= stale_share(of_bucket) <= high)
    assert len(inside) >= 8
    assert inside.count(False) <= 1  # a 95 % interval may miss


@pytest.mark.parametrize("share", FRESH_PERCENTAGES.values(), ids=list(FRESH_PERCENTAGES))
def test_reads_are_fresh_after_the_time_reported_and_not_much_earlier(lagging: Played, share: float) -> None:
    after_ns = lagging.recorder.judge.verdicts()["stale_reads"].freshness.fresh_after_ns(share)
    assert after_ns is not None
    ages_s = [age_s for age_s, _, _ in ages_of(lagging)]
    two_edges_earlier = AGE_EDGES_NS[AGE_EDGES_NS.index(after_ns) - 2]  # one edge earlier may merely be uncertain
    assert stale_share([age_s for age_s in ages_s if age_s * 1e9 >= after_ns]) <= share
    assert stale_share([age_s for age_s in ages_s if age_s * 1e9 >= two_edges_earlier]) > share
