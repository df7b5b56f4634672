"""Ranges of versions are a set: the same members, in the memory of its gaps."""

from hypothesis import given
from hypothesis import strategies as st

from stalewatch.history.versions import VersionRanges
from tests.history.examples import examples

SMALL = st.integers(-3, 12)
VERSIONS = st.lists(SMALL, max_size=20) | st.lists(SMALL | st.integers(), max_size=20)


def ranges_of(versions: list[int]) -> VersionRanges:
    ranges = VersionRanges()
    for version in versions:
        ranges.add(version)
    return ranges


@examples(100)
@given(VERSIONS)
def test_it_holds_what_was_added_and_nothing_else(versions: list[int]) -> None:
    ranges, members = VersionRanges(), set[int]()
    for version in versions:
        assert ranges.add(version) is (version not in members)
        members.add(version)
        assert len(ranges) == len(members)
    near = {version + step for version in versions for step in (-1, 0, 1)}
    assert {version for version in near if version in ranges} == members


@examples(100)
@given(VERSIONS, SMALL | st.integers())
def test_the_members_above_a_version_are_those_greater_than_it(versions: list[int], version: int) -> None:
    above, members = ranges_of(versions).above(version), {member for member in versions if member > version}
    assert len(above) == len(members)
    assert all(member in above for member in members)
    assert version not in above


@examples(100)
@given(VERSIONS)
def test_its_size_is_the_number_of_runs(versions: list[int]) -> None:
    runs = sum(version - 1 not in versions for version in set(versions))
    assert len(ranges_of(versions)._firsts) == runs


@examples(100)
@given(st.permutations(range(30)))
def test_versions_without_gaps_are_one_range_in_whatever_order_they_came(versions: list[int]) -> None:
    ranges = ranges_of(versions)
    assert (ranges._firsts, ranges._lasts) == ([0], [29])
