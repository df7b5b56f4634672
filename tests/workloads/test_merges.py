"""Merging leaves: what each strategy keeps, and that the leaves alone decide."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from stalewatch.clients.protocol import Body
from stalewatch.workloads import merges

OLD = {
    "v": 4,
    "author": "s1",
    "at": 10,
    "basket": ["s1-1", "s1-2"],
    "count": {"s1": 3, "s2": 1},
    "fields": {"color": 2},
}
NEW = {
    "v": 3,
    "author": "s2",
    "at": 20,
    "basket": ["s1-1", "s2-1"],
    "count": {"s2": 2},
    "fields": {"color": 1, "size": 5},
}
"""Two leaves: the second was written last, with an older register, a smaller counter and an older color."""


@pytest.mark.parametrize(
    ("name", "basket", "count", "fields"),
    [
        ("lww", NEW["basket"], {"s2": 2}, {"color": 1, "size": 5}),
        ("max", NEW["basket"], {"s1": 3, "s2": 1}, {"color": 1, "size": 5}),
        ("union", ["s1-1", "s1-2", "s2-1"], {"s2": 2}, {"color": 1, "size": 5}),
        ("sum", NEW["basket"], {"s1": 3, "s2": 2}, {"color": 1, "size": 5}),
        ("fields", NEW["basket"], {"s2": 2}, {"color": 2, "size": 5}),
    ],
)
def test_each_strategy_mends_one_part_and_takes_the_rest_from_the_last_writer(
    name: str, basket: list[str], count: dict[str, int], fields: dict[str, int]
) -> None:
    merged = merges.strategy(name)([OLD, NEW])
    assert (merged["basket"], merged["count"], merged["fields"]) == (basket, count, fields)
    assert (merged["v"], merged["author"], merged["at"]) == (4, "s1", 20)


LEAVES = some.lists(
    some.fixed_dictionaries(
        {"v": some.integers(0, 5), "author": some.sampled_from("abc")},
        optional={
            "at": some.integers(0, 3),
            "basket": some.lists(some.sampled_from(["i", "j", "k"]), unique=True),
            "count": some.dictionaries(some.sampled_from(["s1", "s2"]), some.integers(1, 4)),
            "fields": some.dictionaries(some.sampled_from(["color", "size"]), some.integers(1, 9)),
        },
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", merges.STRATEGIES[1:])
@given(leaves=LEAVES)
def test_a_merge_hangs_on_the_leaves_alone_and_keeps_the_highest_version(name: str, leaves: list[Body]) -> None:
    merge = merges.strategy(name)
    merged = merge(leaves)
    assert all(merge(list(order)) == merged for order in permutations(leaves))
    assert merged["v"] == max(leaf["v"] for leaf in leaves)
    assert merge([merged, *leaves])["v"] == merged["v"]


@given(leaves=LEAVES)
def test_what_a_strategy_mends_loses_nothing_however_often_it_is_merged(leaves: list[Body]) -> None:
    first, rest = leaves[:2], leaves[2:]
    for name, kept in {"union": merges.basket, "sum": merges.slots, "fields": merges.fields}.items():
        merge = merges.strategy(name)
        assert kept([merge([merge(first), *rest])]) == kept(leaves)


def test_lww_loses_what_the_last_writer_had_not_seen() -> None:
    assert merges.basket([merges.strategy("lww")([OLD, NEW])]) != merges.basket([OLD, NEW])


def test_a_counter_shows_the_increments_of_all_sessions() -> None:
    assert merges.total(merges.slots([OLD, NEW])) == 5
