"""Version ranges behave like a set, and need memory for its gaps only."""

from hypothesis import given
from hypothesis import strategies as st

from stalewatch.history.rules import VersionRanges
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
def test_ranges_contain_exactly_the_versions_added(versions: list[int]) -> None:
    ranges, members = VersionRanges(), set[int]()
    for version in versions:
        assert ranges.add(version) is (version not in members)
        members.add(version)
        assert len(ranges) == len(members)
    near = {version + step for version in versions for step in (-1, 0, 1)}
    assert {version for version in near if version in ranges} == members


@examples(100)
@given(VERSIONS, SMALL | st.integers())
def test_above_returns_the_members_greater_than_a_version(versions: list[int], version: int) -> None:
    above, members = ranges_of(versions).above(version), {member for member in versions if member > version}
    assert len(above) == len(members)
    assert all(member in above for member in members)
    assert version not in above


@examples(100)
@given(VERSIONS)
def test_the_number_of_ranges_is_the_number_of_contiguous_runs(versions: list[int]) -> None:
    runs = sum(version - 1 not in versions for version in set(versions))
    assert len(ranges_of(versions)._firsts) == runs


@examples(100)
@given(st.permutations(range(30)))
def test_versions_without_gaps_form_one_range_in_any_order_of_arrival(versions: list[int]) -> None:
    ranges = ranges_of(versions)
    assert (ranges._firsts, ranges._lasts) == ([0], [29])
