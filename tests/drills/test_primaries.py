"""Bounds on the time with two primaries: certain, possible, and no more than the claims support."""

from stalewatch.drills.primaries import NS, Claim, Span, overlap_ns, two_primaries

POLL = NS // 10


def claims(*answers: tuple[float, int | None], takes: float = 0.01) -> list[Claim]:
    """Return the claims in answers to questions asked at those seconds."""
    return [Claim(round(at * NS), round((at + takes) * NS), term) for at, term in answers]


def each_poll(start: float, end: float, term: int | None) -> list[tuple[float, int | None]]:
    return [(round(start + n / 10, 1), term) for n in range(round((end - start) * 10) + 1)]


def test_one_primary_after_another_is_never_two() -> None:
    low, high = two_primaries(
        {
            "a": claims(*each_poll(0, 1, 1), *each_poll(1.1, 5, None)),
            "b": claims(*each_poll(0, 2, None), *each_poll(2.1, 5, 2)),
        },
        POLL,
    )
    assert (low, high) == (0, 0)


def test_an_overlap_within_one_poll_is_possible_but_not_certain() -> None:
    low, high = two_primaries(
        {
            "a": claims(*each_poll(0, 2, 1), *each_poll(2.1, 5, None)),
            "b": claims(*each_poll(0, 2, None), *each_poll(2.1, 5, 2)),
        },
        POLL,
    )
    assert low == 0
    assert 0 < high < 0.2


def test_two_nodes_that_claim_at_the_same_time_are_certain() -> None:
    low, high = two_primaries(
        {
            "a": claims(*each_poll(0, 4, 1), *each_poll(4.1, 5, None)),
            "b": claims(*each_poll(0, 2, None), *each_poll(2.1, 5, 2)),
        },
        POLL,
    )
    assert 1.7 < low < 1.9 < high < 2.2


def test_a_silent_node_is_possible_but_not_certain() -> None:
    # Frozen from 1 s to 4 s: it claims the same term again, but gave no answer in between.
    low, high = two_primaries(
        {
            "a": claims(*each_poll(0, 1, 1), *each_poll(4, 4.5, 1), *each_poll(4.6, 5, None)),
            "b": claims(*each_poll(0, 2, None), *each_poll(2.1, 5, 2)),
        },
        POLL,
    )
    assert low < 0.5
    assert 2 < high < 2.8


def test_claims_of_different_terms_are_different_elections() -> None:
    low, _ = two_primaries({"a": claims((0, 1), (0.1, 3)), "b": claims((0, 2), (0.1, 2))}, POLL)
    assert low == 0


def test_only_the_time_between_slow_answers_is_certain() -> None:
    low, _ = two_primaries(
        {"a": claims((0, 1), (0.1, 1), takes=0.09), "b": claims((0, 2), (0.1, 2), takes=0.01)},
        POLL,
    )
    assert 0 <= low <= 0.0101


def test_overlaps_of_three_nodes_count_once() -> None:
    assert overlap_ns([[Span(0, 10)], [Span(2, 8)], [Span(4, 6)]]) == 6
    assert overlap_ns([[Span(0, 5), Span(4, 10)], [Span(10, 12)]]) == 0
