"""Conflict resolution: what each strategy keeps, that merges depend on the leaves alone, and the resolver threads."""

import threading
from collections.abc import Callable, Sequence
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from stalewatch.clients.protocol import Body, Resolved, Resolver
from stalewatch.history.clock import RealClock
from stalewatch.workloads.resolution import (
    STRATEGIES,
    ResolverThreads,
    merged_basket,
    merged_counter,
    merged_fields,
    strategy,
    total,
)

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
"""Two leaves; NEW was written last, but has an older register, a lower counter and an older color."""


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
def test_each_strategy_merges_one_part_and_takes_the_others_from_the_last_writer(
    name: str, basket: list[str], count: dict[str, int], fields: dict[str, int]
) -> None:
    merged = strategy(name)([OLD, NEW])
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


@pytest.mark.parametrize("name", STRATEGIES[1:])
@settings(deadline=None)
@given(leaves=LEAVES)
def test_a_merge_depends_on_the_leaves_alone_and_keeps_the_highest_version(name: str, leaves: list[Body]) -> None:
    merge = strategy(name)
    merged = merge(leaves)
    assert all(merge(list(order)) == merged for order in permutations(leaves))
    assert merged["v"] == max(leaf["v"] for leaf in leaves)
    assert merge([merged, *leaves])["v"] == merged["v"]


@settings(deadline=None)
@given(leaves=LEAVES)
def test_the_part_that_a_strategy_merges_loses_nothing_in_repeated_merges(leaves: list[Body]) -> None:
    first, rest = leaves[:2], leaves[2:]
    for name, kept in (("union", merged_basket), ("sum", merged_counter), ("fields", merged_fields)):
        merge = strategy(name)
        assert kept([merge([merge(first), *rest])]) == kept(leaves)


def test_last_writer_wins_loses_what_the_last_writer_had_not_seen() -> None:
    assert merged_basket([strategy("lww")([OLD, NEW])]) != merged_basket([OLD, NEW])


def test_a_counter_is_the_sum_of_all_sessions_increments() -> None:
    assert total(merged_counter([OLD, NEW])) == 5


class ScriptedResolver:
    """A resolver of one leader, with the outcomes of the attempts at each key in turn."""

    def __init__(self, outcomes: dict[str, list[Resolved | Exception]]) -> None:
        self.outcomes = outcomes
        self.done = threading.Event()
        self.closed = False
        self._suspects = [*outcomes, "another run's key"]

    def suspects(self) -> list[str]:
        suspects, self._suspects = self._suspects, []
        return suspects

    def resolve(self, key: str, merge: Callable[[Sequence[Body]], Body]) -> Resolved:
        assert merge([OLD, NEW])
        outcome = self.outcomes[key].pop(0)
        if not any(self.outcomes.values()):
            self.done.set()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def close(self) -> None:
        self.closed = True


class ScriptedLeaders:
    """A client whose leaders have those resolvers."""

    def __init__(self, *resolvers: Resolver) -> None:
        self._resolvers = resolvers

    def resolvers(self) -> Sequence[Resolver]:
        return self._resolvers

    def leaves(self, key: str) -> Sequence[Body]:
        return []


def test_resolver_threads_retry_keys_that_changed_or_failed_until_they_are_resolved() -> None:
    leaders = (
        ScriptedResolver({"k": ["disturbed", "merged"], "l": ["single"]}),
        ScriptedResolver({"k": [OSError("down"), OSError("down"), "merged"], "l": ["merged"]}),
    )
    merge = strategy("union")
    threads = ResolverThreads(ScriptedLeaders(*leaders), RealClock(), ["k", "l"], merge)
    threads.start()
    assert all(leader.done.wait(30) for leader in leaders)
    threads.stop()
    assert (threads.merged, threads.errors) == (3, 2)
    assert all(leader.closed for leader in leaders)
