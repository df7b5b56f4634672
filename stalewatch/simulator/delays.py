"""Distributions of delays: how to draw one, and how likely one is to be over after a given time.

The second half is what makes the simulated store's staleness known: a follower still shows the old value exactly when
a delay has not run out.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import NamedTuple

Draw = Callable[[], int]
"""Draws one delay, in nanoseconds."""

_SPREAD = 1.0
"""The standard deviation of a lognormal delay's logarithm: a median of 0.6 means and a 99th percentile of 6.2 means."""


class Distribution(NamedTuple):
    """One family of delays, given by its mean in seconds."""

    sampler: Callable[[Random, float], Draw]
    """Of a source of randomness and a mean above 0."""

    over: Callable[[float, float], float]
    """The probability that a delay with that mean (first) is at most an age (second), both in seconds and above 0."""

    memoryless: bool = False
    """Whether a delay that still runs is as good as one that begins now."""


def _constant(_random: Random, mean_s: float) -> Draw:
    delay = round(mean_s * 1e9)
    return lambda: delay


def _uniform(random: Random, mean_s: float) -> Draw:
    draw, width = random.random, 2e9 * mean_s
    return lambda: int(width * draw())


def _exponential(random: Random, mean_s: float) -> Draw:
    draw, log, scale = random.random, math.log, -1e9 * mean_s
    return lambda: int(scale * log(1.0 - draw()))


def _lognormal(random: Random, mean_s: float) -> Draw:
    draw, location = random.lognormvariate, math.log(mean_s) - _SPREAD**2 / 2
    return lambda: int(1e9 * draw(location, _SPREAD))


def _lognormal_over(mean_s: float, age_s: float) -> float:
    return 0.5 + 0.5 * math.erf((math.log(age_s / mean_s) + _SPREAD**2 / 2) / (_SPREAD * math.sqrt(2)))


DISTRIBUTIONS: Mapping[str, Distribution] = {
    "constant": Distribution(_constant, lambda mean, age: float(age >= mean)),
    "uniform": Distribution(_uniform, lambda mean, age: min(1.0, age / (2 * mean))),
    "exponential": Distribution(_exponential, lambda mean, age: -math.expm1(-age / mean), memoryless=True),
    "lognormal": Distribution(_lognormal, _lognormal_over),
}


def sampler(distribution: str, random: Random, mean_s: float) -> Draw:
    """Return what draws delays of that distribution (a name in `DISTRIBUTIONS`) and mean; a mean of 0 is no delay."""
    return DISTRIBUTIONS[distribution].sampler(random, mean_s) if mean_s > 0 else lambda: 0


def not_over(distribution: str, mean_s: float, ages_s: Iterable[float]) -> float:
    """Return the probability that one delay at least is not over, for delays that began those many seconds ago.

    `ages_s` must rise. A follower that applies writes in order does not show a write as long as a delay of its own or
    of any earlier one runs.
    """
    if mean_s <= 0:
        return 0.0
    all_over = 1.0
    for age in ages_s:
        over = DISTRIBUTIONS[distribution].over(mean_s, age) if age > 0 else 0.0
        if over == 1.0:
            break  # So it is for every older one.
        all_over *= over
    return 1.0 - all_over
