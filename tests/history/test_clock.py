"""The clock of a process: it never goes back, and its times can be held against those of other processes."""

import time

import pytest

from stalewatch.history.clock import RealClock

NEAR_NS = 5_000_000_000


def test_it_never_goes_back() -> None:
    clock = RealClock()
    times = [clock.now() for _ in range(20_000)]
    assert times == sorted(times)


def test_it_shows_whole_nanoseconds_since_the_epoch() -> None:
    now = RealClock().now()
    assert isinstance(now, int)
    assert abs(now - time.time_ns()) < NEAR_NS


def test_a_wall_clock_that_is_stepped_back_does_not_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = RealClock()
    before = clock.now()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert 0 <= clock.now() - before < NEAR_NS


def test_two_clocks_of_one_process_agree() -> None:
    first, second = RealClock(), RealClock()
    assert abs(first.now() - second.now()) < NEAR_NS


def test_time_that_is_over_needs_no_sleep() -> None:
    clock = RealClock()
    clock.sleep(-1)
    clock.sleep(0)


def test_real_time_waits_for_no_session() -> None:
    clock = RealClock()
    clock.expect(2)
    clock.join("s1")
    clock.leave()
