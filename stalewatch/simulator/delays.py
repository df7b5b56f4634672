"""Delay distributions: how to draw a delay, and the probability that one has ended after a given time.

The probabilities make the staleness of the simulated store known: a follower shows the old value for exactly as long
as a delay is pending.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import NamedTuple

Sampler = Callable[[], int]
"""Draws one delay, in nanoseconds."""

_SIGMA = 1.0
"""The standard deviation of the logarithm of a lognormal delay: median 0.6, 99th percentile 6.2 times the mean."""


class DelayDistribution(NamedTuple):
    """A family of delay distributions, parameterized by the mean in seconds."""

    sampler: Callable[[Random, float], Sampler]
    """Takes a source of randomness and a mean above 0."""

    cdf: Callable[[float, float], float]
    """The probability that a delay with that mean is at most that age; both in seconds and above 0."""

    memoryless: bool = False
    """Whether the rest of a pending delay is distributed like a new delay."""


def _constant(_random: Random, mean_s: float) -> Sampler:
    delay = round(mean_s * 1e9)
    return lambda: delay


def _uniform(random: Random, mean_s: float) -> Sampler:
    draw, width = random.random, 2e9 * mean_s
    return lambda: int(width * draw())


def _exponential(random: Random, mean_s: float) -> Sampler:
    draw, log, scale = random.random, math.log, -1e9 * mean_s
    return lambda: int(scale * log(1.0 - draw()))


def _lognormal(random: Random, mean_s: float) -> Sampler:
    draw, location = random.lognormvariate, math.log(mean_s) - _SIGMA**2 / 2
    return lambda: int(1e9 * draw(location, _SIGMA))


def _lognormal_cdf(mean_s: float, age_s: float) -> float:
    return 0.5 + 0.5 * math.erf((math.log(age_s / mean_s) + _SIGMA**2 / 2) / (_SIGMA * math.sqrt(2)))


DISTRIBUTIONS: Mapping[str, DelayDistribution] = {
    "constant": DelayDistribution(_constant, lambda mean, age: float(age >= mean)),
    "uniform": DelayDistribution(_uniform, lambda mean, age: min(1.0, age / (2 * mean))),
    "exponential": DelayDistribution(_exponential, lambda mean, age: -math.expm1(-age / mean), memoryless=True),
    "lognormal": DelayDistribution(_lognormal, _lognormal_cdf),
}


def sampler(distribution: str, random: Random, mean_s: float) -> Sampler:
    """Return a sampler of a distribution, by its name in `DISTRIBUTIONS`; with a mean of 0 there is no delay."""
    return DISTRIBUTIONS[distribution].sampler(random, mean_s) if mean_s > 0 else lambda: 0


def probability_pending(distribution: str, mean_s: float, ages_s: Iterable[float]) -> float:
    """Return the probability that at least one of the delays that began those many seconds ago is pending.

    `ages_s` must be in ascending order. A follower that applies writes in order does not show a write until its own
    delay and those of all earlier writes have ended.
    """
    if mean_s <= 0:
        return 0.0
    all_ended = 1.0
    for age in ages_s:
        ended = DISTRIBUTIONS[distribution].cdf(mean_s, age) if age > 0 else 0.0
        if ended == 1.0:
            break  # older delays have ended too
        all_ended *= ended
    return 1.0 - all_ended
