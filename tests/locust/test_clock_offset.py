"""The offset of the master's clock from a worker's, and the bound of its error."""

from hypothesis import given
from hypothesis import strategies as st

from stalewatch.locust.messages import MAX_DRIFT, ClockOffset, ClockSample

SECOND = 1_000_000_000


def sample(at: int, offset: int, there: int, back: int) -> ClockSample:
    """Return an exchange that started at `at` by our clock, with the delays of the request and of the answer."""
    return ClockSample(at, at + there + back, at + there + offset)


def test_the_fastest_exchange_determines_the_offset() -> None:
    offset = ClockOffset([sample(0, 500, 90, 10), sample(1000, 500, 1, 1), sample(2000, 500, 10, 90)])
    assert offset.offset_ns == 500
    assert offset.error_ns(1002) == 1


def test_a_slow_answer_is_within_the_bound() -> None:
    offset = ClockOffset([sample(0, 0, 0, 100)])
    assert offset.offset_ns == -50
    assert offset.error_ns(100) == 50


def test_the_bound_grows_between_samples() -> None:
    offset = ClockOffset([sample(0, 0, 0, 0)])
    assert offset.error_ns(3600 * SECOND) == round(3600 * SECOND * MAX_DRIFT)


def test_a_later_sample_does_not_lower_the_bound_of_the_past() -> None:
    offset = ClockOffset([sample(0, 0, 0, 0)])
    offset.add(sample(100 * SECOND, 0, 0, 0))
    assert offset.error_ns(100 * SECOND) == round(100 * SECOND * MAX_DRIFT)


DELAYS = st.integers(0, SECOND)


@given(
    exchanges=st.lists(st.tuples(st.integers(1, 20), DELAYS, DELAYS), min_size=1, max_size=30),
    drift=st.floats(-MAX_DRIFT, MAX_DRIFT),
    offset=st.integers(-(10**12), 10**12),
)
def test_the_bound_holds_whatever_the_delays(exchanges: list[tuple[int, int, int]], drift: float, offset: int) -> None:
    now, used = 0, None
    worst = 0.0

    def true_offset(at: int) -> float:
        return offset + drift * at

    for pause_s, there, back in exchanges:
        answered = now + there
        one = ClockSample(now, answered + back, answered + round(true_offset(answered)))
        now = answered + back
        if used is None:
            used = ClockOffset([one])
        else:
            used.add(one)
        worst = max(worst, abs(true_offset(now) - used.offset_ns))
        assert worst <= used.error_ns(now) + MAX_DRIFT * SECOND + 2  # the drift within the first exchange, rounding
        now += pause_s * SECOND
        worst = max(worst, abs(true_offset(now) - used.offset_ns))
    assert used is not None
    assert worst <= used.error_ns(now) + MAX_DRIFT * SECOND + 2
