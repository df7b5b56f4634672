"""The choice of keys: probabilities, recency and determinism."""

from collections import Counter
from itertools import islice
from random import Random

import pytest

from stalewatch.workloads.register import DISTRIBUTIONS, RECENT_KEYS, ZIPF_EXPONENT, KeyChoice, Latest, Uniform, Zipfian
from tests.engine.running import assert_share

KEYS = [f"k{number}" for number in range(50)]
DRAWS = 40_000


def counts(choice: KeyChoice, seed: int = 1) -> Counter[str]:
    random = Random(seed)
    return Counter(choice.choose(random) for _ in range(DRAWS))


def zipf_shares(ranks: int) -> list[float]:
    weights = [1 / rank**ZIPF_EXPONENT for rank in range(1, ranks + 1)]
    return [weight / sum(weights) for weight in weights]


def test_uniform_chooses_all_keys_equally_often() -> None:
    chosen = counts(Uniform(KEYS))
    for key in KEYS:
        assert_share(chosen[key], DRAWS, 1 / len(KEYS))


def test_zipfian_chooses_the_nth_key_with_its_weight() -> None:
    chosen = counts(Zipfian(KEYS))
    for key, share in zip(KEYS, zipf_shares(len(KEYS)), strict=True):
        assert_share(chosen[key], DRAWS, share)


def test_the_first_of_a_thousand_zipfian_keys_gets_an_eighth() -> None:
    keys = [f"k{number}" for number in range(1000)]
    assert counts(Zipfian(keys))["k0"] / DRAWS == pytest.approx(0.13, abs=0.01)


def test_latest_chooses_the_key_written_n_writes_ago_with_its_weight() -> None:
    choice = Latest(KEYS)
    for key in KEYS[:20]:
        choice.note_write(key)
    chosen = counts(choice)
    for key, share in zip(reversed(KEYS[:20]), zipf_shares(20), strict=True):
        assert_share(chosen[key], DRAWS, share)


def test_latest_is_uniform_until_a_key_is_written() -> None:
    chosen = counts(Latest(KEYS))
    for key in KEYS:
        assert_share(chosen[key], DRAWS, 1 / len(KEYS))


def test_latest_adds_up_the_weights_of_a_key_that_was_written_repeatedly() -> None:
    choice = Latest(KEYS)
    for key in ("a", "b", "a"):
        choice.note_write(key)
    first, second, third = zipf_shares(3)
    assert_share(counts(choice)["a"], DRAWS, first + third)
    assert_share(counts(choice)["b"], DRAWS, second)


def test_latest_forgets_keys_written_long_ago() -> None:
    choice = Latest(KEYS)
    for number in range(RECENT_KEYS + 10):
        choice.note_write(f"{number}")
    assert not {f"{number}" for number in range(10)} & counts(choice).keys()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_single_key_is_always_chosen(name: str) -> None:
    choice = DISTRIBUTIONS[name](["only"])
    choice.note_write("only")
    assert set(counts(choice)) == {"only"}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_the_same_seed_makes_the_same_choices(name: str) -> None:
    def choices(seed: int) -> list[str]:
        choice, random = DISTRIBUTIONS[name](KEYS), Random(seed)
        return list(islice(iter(lambda: choice.choose(random), None), 100))

    assert choices(3) == choices(3) != choices(4)
