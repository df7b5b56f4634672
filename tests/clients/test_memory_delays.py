from math import exp, sqrt
from random import Random

import pytest

from stalewatch.simulator.delays import DISTRIBUTIONS, not_over, sampler

MEAN_S = 0.02


def wilson(hits: int, trials: int) -> tuple[float, float]:
    z, rate = 1.96, hits / trials
    middle, width = rate + z * z / 2 / trials, z * sqrt(rate * (1 - rate) / trials + (z / 2 / trials) ** 2)
    scale = 1 + z * z / trials
    return (middle - width) / scale, (middle + width) / scale


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_distribution_draws_what_its_probabilities_say(name: str) -> None:
    draw = sampler(name, Random(1), MEAN_S)
    delays_s = [draw() / 1e9 for _ in range(20_000)]
    assert sum(delays_s) / len(delays_s) == pytest.approx(MEAN_S, rel=0.04)
    for age_s in (0.2 * MEAN_S, 0.7 * MEAN_S, 1.001 * MEAN_S, 3 * MEAN_S):
        low, high = wilson(sum(delay <= age_s for delay in delays_s), len(delays_s))
        assert low <= DISTRIBUTIONS[name].over(MEAN_S, age_s) <= high


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_delays_are_whole_nanoseconds_and_never_negative(name: str) -> None:
    draw = sampler(name, Random(2), 1e-6)
    assert all(isinstance(delay, int) and delay >= 0 for delay in (draw() for _ in range(1000)))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_mean_of_nothing_is_no_delay(name: str) -> None:
    assert sampler(name, Random(3), 0)() == 0
    assert not_over(name, 0, [0.001]) == 0


def test_a_write_waits_for_every_delay_before_its_own() -> None:
    ages_s = [0.01, 0.03]
    assert not_over("exponential", 0.02, ages_s) == pytest.approx(1 - (1 - exp(-0.5)) * (1 - exp(-1.5)))


def test_a_write_that_is_not_there_yet_is_not_shown() -> None:
    assert not_over("exponential", 0.02, [0.0]) == 1
    assert not_over("constant", 0.02, [0.019]) == 1
    assert not_over("constant", 0.02, [0.02]) == 0
