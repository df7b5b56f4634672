"""Two primaries: what is sure, what is possible, and what neither may claim."""

from stalewatch.drills.primaries import NS, Said, Span, overlap_ns, two_primaries

POLL = NS // 10


def said(*answers: tuple[float, int | None], takes: float = 0.01) -> list[Said]:
    """Return answers to questions asked at those seconds."""
    return [Said(round(at * NS), round((at + takes) * NS), term) for at, term in answers]


def steady(start: float, end: float, term: int | None) -> list[tuple[float, int | None]]:
    return [(round(start + n / 10, 1), term) for n in range(round((end - start) * 10) + 1)]


def test_one_primary_after_another_are_never_two() -> None:
    low, high = two_primaries(
        {
            "a": said(*steady(0, 1, 1), *steady(1.1, 5, None)),
            "b": said(*steady(0, 2, None), *steady(2.1, 5, 2)),
        },
        POLL,
    )
    assert (low, high) == (0, 0)


def test_a_handover_within_one_poll_is_possible_and_not_sure() -> None:
    low, high = two_primaries(
        {
            "a": said(*steady(0, 2, 1), *steady(2.1, 5, None)),
            "b": said(*steady(0, 2, None), *steady(2.1, 5, 2)),
        },
        POLL,
    )
    assert low == 0
    assert 0 < high < 0.2


def test_two_that_answer_side_by_side_are_sure() -> None:
    low, high = two_primaries(
        {
            "a": said(*steady(0, 4, 1), *steady(4.1, 5, None)),
            "b": said(*steady(0, 2, None), *steady(2.1, 5, 2)),
        },
        POLL,
    )
    assert 1.7 < low < 1.9 < high < 2.2


def test_a_node_that_was_silent_is_possible_and_not_sure() -> None:
    # Frozen from 1 s to 4 s: it says the same term again, yet nobody saw it lead meanwhile.
    low, high = two_primaries(
        {
            "a": said(*steady(0, 1, 1), *steady(4, 4.5, 1), *steady(4.6, 5, None)),
            "b": said(*steady(0, 2, None), *steady(2.1, 5, 2)),
        },
        POLL,
    )
    assert low < 0.5
    assert 2 < high < 2.8


def test_another_term_in_between_is_another_election() -> None:
    low, _ = two_primaries({"a": said((0, 1), (0.1, 3)), "b": said((0, 2), (0.1, 2))}, POLL)
    assert low == 0


def test_slow_answers_claim_no_more_than_lies_between_them() -> None:
    low, _ = two_primaries(
        {"a": said((0, 1), (0.1, 1), takes=0.09), "b": said((0, 2), (0.1, 2), takes=0.01)},
        POLL,
    )
    assert 0 <= low <= 0.0101


def test_overlaps_of_three_count_once() -> None:
    assert overlap_ns([[Span(0, 10)], [Span(2, 8)], [Span(4, 6)]]) == 6
    assert overlap_ns([[Span(0, 5), Span(4, 10)], [Span(10, 12)]]) == 0
