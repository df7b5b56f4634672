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
def test_above_counts_the_members_greater_than_a_version(versions: list[int], version: int) -> None:
    assert ranges_of(versions).above(version) == len({member for member in versions if member > version})


@examples(100)
@given(VERSIONS)
def test_the_number_of_ranges_is_the_number_of_contiguous_runs(versions: list[int]) -> None:
    runs = sum(version - 1 not in versions for version in set(versions))
    assert sum(first <= last for first, last in ranges_of(versions).ranges()) == runs


@examples(100)
@given(st.permutations(range(30)))
def test_versions_without_gaps_form_one_range_in_any_order_of_arrival(versions: list[int]) -> None:
    assert list(ranges_of(versions).ranges()) == [(0, 29)]
