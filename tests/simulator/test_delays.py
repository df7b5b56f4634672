"""Delay distributions: samples match their probabilities."""

from math import exp
from random import Random

import pytest

from stalewatch.simulator.simulated_time import DISTRIBUTIONS, probability_pending, sampler
from tests.simulator.stores import wilson

MEAN_S = 0.02


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_samples_match_the_cumulative_distribution(name: str) -> None:
    draw = sampler(name, Random(1), MEAN_S)
    delays_s = [draw() / 1e9 for _ in range(20_000)]
    assert sum(delays_s) / len(delays_s) == pytest.approx(MEAN_S, rel=0.04)
    for age_s in (0.2 * MEAN_S, 0.7 * MEAN_S, 1.001 * MEAN_S, 3 * MEAN_S):
        low, high = wilson(sum(delay <= age_s for delay in delays_s), len(delays_s))
        assert low <= DISTRIBUTIONS[name].cdf(MEAN_S, age_s) <= high


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_delays_are_nonnegative_whole_nanoseconds(name: str) -> None:
    draw = sampler(name, Random(2), 1e-6)
    assert all(isinstance(delay, int) and delay >= 0 for delay in (draw() for _ in range(1000)))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_mean_of_zero_is_no_delay(name: str) -> None:
    assert sampler(name, Random(3), 0)() == 0
    assert probability_pending(name, 0, [0.001]) == 0


def test_a_write_waits_for_all_earlier_delays() -> None:
    ages_s = [0.01, 0.03]
    assert probability_pending("exponential", 0.02, ages_s) == pytest.approx(1 - (1 - exp(-0.5)) * (1 - exp(-1.5)))


def test_a_delay_that_has_not_ended_is_pending() -> None:
    assert probability_pending("exponential", 0.02, [0.0]) == 1
    assert probability_pending("constant", 0.02, [0.019]) == 1
    assert probability_pending("constant", 0.02, [0.02]) == 0
