"""A process that stood still knows it, and which operations were under way."""

from stalewatch.recording.statistics import LATE_NS, Stall, StallDetector

SECOND = 1_000_000_000


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 1000 * SECOND

    def now(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None: ...
    def expect(self, sessions: int) -> None: ...
    def join(self, session: str) -> None: ...
    def leave(self) -> None: ...


def stalled() -> tuple[StallDetector, Hand, int, int]:
    """Return a pulse that noted having missed its beats for seven seconds, and when that began and ended."""
    clock = Hand()
    pulse = StallDetector(clock)
    begin = clock.time
    clock.time += 7 * SECOND
    pulse.look()
    return pulse, clock, begin, clock.time


def test_an_operation_that_was_under_way_is_met() -> None:
    pulse, _, begin, end = stalled()
    assert pulse.overlaps(begin - SECOND, end)


def test_also_one_that_began_in_the_middle_of_it_or_ends_later() -> None:
    pulse, _, begin, end = stalled()
    assert pulse.overlaps(begin + SECOND, end + SECOND)


def test_one_that_ended_before_is_not() -> None:
    pulse, _, begin, _ = stalled()
    assert not pulse.overlaps(begin - 2 * SECOND, begin - SECOND)


def test_one_that_began_afterwards_is_not() -> None:
    pulse, _, _, end = stalled()
    assert not pulse.overlaps(end, end + SECOND)


def test_a_stall_is_told_of_once() -> None:
    pulse, _, begin, end = stalled()
    pulse.look()
    assert pulse.drain() == [Stall(begin, end)]
    assert pulse.drain() == []


def test_a_beat_that_is_a_little_late_is_none() -> None:
    clock = Hand()
    pulse = StallDetector(clock)
    clock.time += LATE_NS
    pulse.look()
    assert not pulse.overlaps(clock.time - 1, clock.time)
    assert pulse.drain() == []


def test_an_operation_met_by_the_first_of_two_stalls_in_a_row_is_still_met() -> None:
    pulse, clock, begin, _ = stalled()
    clock.time += 2 * SECOND
    pulse.look()
    assert pulse.overlaps(begin - 1, begin + SECOND)


def test_so_is_one_met_by_the_first_of_two_stalls_with_a_beat_between_them() -> None:
    pulse, clock, begin, end = stalled()
    pulse._beat = clock.time = end + SECOND  # what `start` does, without a thread
    clock.time += 2 * SECOND
    pulse.look()
    assert pulse.overlaps(begin - 1, end)
    assert pulse.overlaps(clock.time - SECOND, clock.time)
    assert not pulse.overlaps(end, end + SECOND)
