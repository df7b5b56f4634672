"""The choice of a leader for each operation."""

from collections import Counter
from random import Random

import pytest

from stalewatch.clients.couchdb.client import A, B, Routing, home

KEYS = [f"run-w0-{number}" for number in range(1000)]


def routing(write_to: str, read_from: str = "a") -> Routing:
    return Routing(write_to, read_from, Random(1))


@pytest.mark.parametrize(("place", "leader"), [("a", A), ("b", B)])
def test_a_named_leader_takes_every_operation(place: str, leader: int) -> None:
    routes = routing(place, place)
    assert {routes.to_write(key) for key in KEYS} == {leader} == {routes.to_read(key) for key in KEYS}


def test_both_spreads_writes_evenly_whatever_the_key() -> None:
    routes = routing("both")
    for keys in (KEYS, KEYS[:1] * 1000):
        counts = Counter(routes.to_write(key) for key in keys)
        assert abs(counts[A] - 500) < 80


def test_home_splits_the_keys_evenly_and_alike_for_all_sessions() -> None:
    one, other = routing("home", "same"), Routing("home", "other", Random(2))
    assert [one.to_write(key) for key in KEYS] == [other.to_write(key) for key in KEYS] == [home(key) for key in KEYS]
    assert abs(sum(map(home, KEYS)) - 500) < 80


@pytest.mark.parametrize("write_to", ["a", "b", "home"])
def test_same_and_other_are_relative_to_the_keys_writes(write_to: str) -> None:
    same, other = routing(write_to, "same"), routing(write_to, "other")
    for key in KEYS[:50]:
        assert same.to_read(key) == same.to_write(key)
        assert other.to_read(key) == 1 - other.to_write(key)


def test_with_both_same_is_the_leader_of_the_sessions_last_write() -> None:
    same, other = routing("both", "same"), routing("both", "other")
    for key in KEYS[:50]:
        assert same.to_read(key) == other.to_read(key) - 1 + 2 * same.to_read(key)
        wrote = same.to_write(key), other.to_write(key)
        assert (same.to_read("another"), other.to_read("another")) == (wrote[0], 1 - wrote[1])
