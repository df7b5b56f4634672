"""The bound of a worker's clock error holds, whatever the exchanges looked like and however the clocks drift."""

from hypothesis import given
from hypothesis import strategies as st
from stalewatch.locust.clock_offset import DRIFT_SHARE, ClockOffset, Sample

SECOND = 1_000_000_000


def sample(at: int, offset: int, there: int, back: int) -> Sample:
    """Return an exchange that began at a time of ours, with the delays of the question and of the answer."""
    return Sample(at, at + there + back, at + there + offset)


def test_the_fastest_exchange_of_the_start_is_used() -> None:
    offset = ClockOffset([sample(0, 500, 90, 10), sample(1000, 500, 1, 1), sample(2000, 500, 10, 90)])
    assert offset.offset_ns == 500
    assert offset.error_ns(1002) == 1


def test_an_answer_that_was_long_on_its_way_is_within_the_bound() -> None:
    offset = ClockOffset([sample(0, 0, 0, 100)])
    assert offset.offset_ns == -50
    assert offset.error_ns(100) == 50


def test_the_error_grows_while_nothing_is_heard() -> None:
    offset = ClockOffset([sample(0, 0, 0, 0)])
    assert offset.error_ns(3600 * SECOND) == round(3600 * SECOND * DRIFT_SHARE)


def test_a_later_sample_does_not_make_the_past_more_certain() -> None:
    offset = ClockOffset([sample(0, 0, 0, 0)])
    offset.take(sample(100 * SECOND, 0, 0, 0))
    assert offset.error_ns(100 * SECOND) == round(100 * SECOND * DRIFT_SHARE)


DELAYS = st.integers(0, SECOND)


@given(
    exchanges=st.lists(st.tuples(st.integers(1, 20), DELAYS, DELAYS), min_size=1, max_size=30),
    drift=st.floats(-DRIFT_SHARE, DRIFT_SHARE),
    offset=st.integers(-(10**12), 10**12),
)
def test_the_bound_holds(exchanges: list[tuple[int, int, int]], drift: float, offset: int) -> None:
    now, used = 0, None
    worst = 0.0

    def true_offset(at: int) -> float:
        return offset + drift * at

    for pause_s, there, back in exchanges:
        answered = now + there
        one = Sample(now, answered + back, answered + round(true_offset(answered)))
        now = answered + back
        if used is None:
            used = ClockOffset([one])
        else:
            used.take(one)
        worst = max(worst, abs(true_offset(now) - used.offset_ns))
        assert worst <= used.error_ns(now) + DRIFT_SHARE * SECOND + 2  # the drift within the first exchange, rounding
        now += pause_s * SECOND
        worst = max(worst, abs(true_offset(now) - used.offset_ns))
    assert used is not None
    assert worst <= used.error_ns(now) + DRIFT_SHARE * SECOND + 2
