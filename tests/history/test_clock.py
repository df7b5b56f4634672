"""The clock of a process never goes back, and its times are comparable with those of other processes."""

import time

import pytest

from stalewatch.history.clock import RealClock

NEAR_NS = 5_000_000_000


def test_the_clock_never_goes_back() -> None:
    clock = RealClock()
    times = [clock.now() for _ in range(20_000)]
    assert times == sorted(times)


def test_times_are_integer_nanoseconds_since_the_epoch() -> None:
    now = RealClock().now()
    assert isinstance(now, int)
    assert abs(now - time.time_ns()) < NEAR_NS


def test_stepping_the_wall_clock_back_does_not_affect_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RealClock()
    before = clock.now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 0 <= clock.now() - before < NEAR_NS


def test_two_clocks_of_one_process_agree() -> None:
    first, second = RealClock(), RealClock()
    assert abs(first.now() - second.now()) < NEAR_NS


def test_sleeping_for_zero_or_less_returns_at_once() -> None:
    clock = RealClock()
    clock.sleep(-1)
    clock.sleep(0)


def test_the_real_clock_does_not_wait_for_sessions() -> None:
    clock = RealClock()
    clock.expect(2)
    clock.join("s1")
    clock.leave()
