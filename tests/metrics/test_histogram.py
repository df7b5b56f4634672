"""Buckets count the values up to and including their bound."""

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from stalewatch.metrics.histogram import Histogram


@given(st.lists(st.integers(0, 5_000)))
def test_buckets_match_a_count_by_hand(values: list[int]) -> None:
    histogram = Histogram((0.5, 1.0, 2.0), scale=1000)
    for value in values:
        histogram.add({value: 1}, value)
    ordered = sorted(values)
    assert list(histogram.buckets()) == [
        (name, bisect_right(ordered, bound)) for name, bound in (("0.5", 500), ("1.0", 1000), ("2.0", 2000))
    ] + [("+Inf", len(values))]
    assert histogram.total == sum(values) / 1000
