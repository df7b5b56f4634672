"""A process notices that it stalled, and which operations were in flight meanwhile."""

from stalewatch.history.operation import Read
from stalewatch.recording.statistics import LATE_NS, Stall, StallDetector, Statistics

SECOND = 1_000_000_000


class ManualClock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.time = 1000 * SECOND

    def now(self) -> int:
        return self.time

    def sleep(self, seconds: float) -> None: ...
    def expect(self, sessions: int) -> None: ...
    def join(self, session: str) -> None: ...
    def leave(self) -> None: ...


def stalled() -> tuple[StallDetector, ManualClock, int, int]:
    """Return a detector that noticed a stall of seven seconds, its clock, and the start and end of the stall."""
    clock = ManualClock()
    detector = StallDetector(clock)
    begin = clock.time
    clock.time += 7 * SECOND
    detector.look()
    return detector, clock, begin, clock.time


def test_a_stall_overlaps_an_operation_that_was_in_flight() -> None:
    detector, _, begin, end = stalled()
    assert detector.overlaps(begin - SECOND, end)


def test_a_stall_overlaps_an_operation_that_started_in_it_and_ended_later() -> None:
    detector, _, begin, end = stalled()
    assert detector.overlaps(begin + SECOND, end + SECOND)


def test_a_stall_does_not_overlap_an_operation_that_ended_before() -> None:
    detector, _, begin, _ = stalled()
    assert not detector.overlaps(begin - 2 * SECOND, begin - SECOND)


def test_a_stall_does_not_overlap_an_operation_that_started_after() -> None:
    detector, _, _, end = stalled()
    assert not detector.overlaps(end, end + SECOND)


def test_a_stall_is_drained_once() -> None:
    detector, _, begin, end = stalled()
    detector.look()
    assert detector.drain() == [Stall(begin, end)]
    assert detector.drain() == []


def test_a_heartbeat_that_is_slightly_late_is_not_a_stall() -> None:
    clock = ManualClock()
    detector = StallDetector(clock)
    clock.time += LATE_NS
    detector.look()
    assert not detector.overlaps(clock.time - 1, clock.time)
    assert detector.drain() == []


def test_the_first_of_two_consecutive_stalls_still_overlaps_its_operations() -> None:
    detector, clock, begin, _ = stalled()
    clock.time += 2 * SECOND
    detector.look()
    assert detector.overlaps(begin - 1, begin + SECOND)


def test_both_of_two_stalls_with_a_heartbeat_between_them_overlap_their_operations() -> None:
    detector, clock, begin, end = stalled()
    detector._beat = clock.time = end + SECOND  # what `start` does, without a thread
    clock.time += 2 * SECOND
    detector.look()
    assert detector.overlaps(begin - 1, end)
    assert detector.overlaps(clock.time - SECOND, clock.time)
    assert not detector.overlaps(end, end + SECOND)


def test_an_operation_that_was_due_in_a_stall_has_no_response_time() -> None:
    detector, _, begin, end = stalled()
    statistics = Statistics(detector)
    late, later = (
        Read(session="s", key="k", version=0, start=end + 1, end=end + 2, outcome="ok", due=due)
        for due in (begin + SECOND, end)
    )
    statistics.on_operation(late, ())
    statistics.on_operation(later, ())
    assert statistics.service["read"].count == 2
    assert (statistics.response["read"].count, statistics.response["read"].max_ns) == (1, 2)
