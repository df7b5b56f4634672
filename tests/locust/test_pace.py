"""When a user's operations are due with `--rate`, and whose delay a response time contains."""

from types import SimpleNamespace

import pytest

from stalewatch.locust.pace import Pace, sharing_rate
from stalewatch.simulator.simulated_time import SimulatedClock

SECOND = 1_000_000_000
SERVICE_S = 0.003


class PacedUser:
    """A user in simulated time, whose operations are due once a period."""

    def __init__(self, period_s: float = 1) -> None:
        self.clock = SimulatedClock()
        self.warnings = 0
        self.pace = Pace(self.clock, lambda: period_s * SECOND, self._warn)
        self.first: int | None = None

    def _warn(self) -> None:
        self.warnings += 1

    def operation(self, service_s: float = SERVICE_S, ends_s: float | None = None) -> tuple[float, float]:
        """Perform an operation; return when it was due, in seconds after the first one, and its response time.

        `ends_s` is when a stall ends before which the server does not begin to answer, in seconds after the first one.
        """
        due = self.pace.next()
        self.first = due if self.first is None else self.first
        if ends_s is not None:
            self.clock.sleep(ends_s - (self.clock.now() - self.first) / SECOND)
        self.clock.sleep(service_s)
        self.pace.on_end()
        return (due - self.first) / SECOND, (self.clock.now() - due) / SECOND


def test_operations_are_due_once_a_period_whether_in_one_task_or_several() -> None:
    user = PacedUser()
    dues = []
    for _ in range(5):
        dues += [user.operation()[0], user.operation()[0]]
        user.pace.wait()
    assert dues == list(range(10))


def test_a_slow_database_makes_later_operations_late() -> None:
    user = PacedUser()
    user.operation(service_s=3)
    assert user.operation() == pytest.approx((1, 2 + SERVICE_S))
    user.pace.wait()
    assert user.operation() == pytest.approx((2, 1 + 2 * SERVICE_S))
    assert not user.warnings


@pytest.mark.parametrize("rate", [200, 500, 1000])
def test_response_times_over_a_stall_are_those_of_the_due_times(rate: int) -> None:
    """One of twenty users who share the rate; the server answers nothing from the third to the fifth second."""
    user, period_s = PacedUser(20 / rate), 20 / rate
    response, truth, ended = [], [], 0.0
    for number in range(round(10 / period_s)):
        due, measured = user.operation(ends_s=5 if 3 <= max(number * period_s, ended) < 5 else None)
        user.pace.wait()
        start = max(number * period_s, ended)
        ended = (5 if 3 <= start < 5 else start) + SERVICE_S
        assert due == pytest.approx(number * period_s)
        response.append(measured)
        truth.append(ended - number * period_s)
    assert sorted(response) == pytest.approx(sorted(truth), rel=0.02)
    assert sum(one > 1 for one in response) >= len(response) // 10 - 1  # those due in the first half of the stall
    assert not user.warnings


@pytest.mark.parametrize("waits", [0, 1], ids=["within a task", "at its end"])
def test_a_pause_of_the_users_own_is_in_no_response_time(waits: int) -> None:
    user = PacedUser()
    for number in range(5):
        assert user.operation() == pytest.approx((number * (5 + SERVICE_S), SERVICE_S))
        user.clock.sleep(5)
        if waits:
            user.pace.wait()
    assert user.warnings == (5 if waits else 4)


def test_a_pause_that_ends_in_time_changes_nothing() -> None:
    user = PacedUser()
    for number in range(5):
        assert user.operation() == pytest.approx((number, SERVICE_S))
        user.clock.sleep(0.9)
        user.pace.wait()
    assert not user.warnings


def test_of_a_late_operation_only_the_databases_delay_counts() -> None:
    user = PacedUser()
    user.operation(service_s=3)
    user.clock.sleep(5)
    assert user.operation() == pytest.approx((6, 2 + SERVICE_S))


def test_a_task_that_waits_itself_skips_nothing() -> None:
    user = PacedUser()
    for number in range(5):
        assert user.operation() == pytest.approx((number, SERVICE_S))
        user.pace.pause()
        user.pace.wait()
    assert not user.warnings


def test_a_task_without_operations_waits_for_its_period() -> None:
    user = PacedUser()
    user.operation()
    user.pace.wait()
    begin = user.clock.now()
    for _ in range(3):
        user.pace.wait()
    assert user.clock.now() - begin == 3 * SECOND


@pytest.mark.parametrize(
    ("users", "sharing"),
    [(1, 1), (2, 1), (3, 2), (11, 7), (20, 13)],
)
def test_users_of_other_systems_do_not_share_the_rate(users: int, sharing: int) -> None:
    classes = [
        SimpleNamespace(database="memory", fixed_count=1, weight=1),
        SimpleNamespace(fixed_count=1, weight=1),
        SimpleNamespace(database="memory", fixed_count=0, weight=2),
        SimpleNamespace(fixed_count=0, weight=1),
    ]
    assert sharing_rate(classes, users) == sharing


def test_all_users_share_the_rate_if_all_are_of_a_database() -> None:
    assert sharing_rate([SimpleNamespace(database="memory", fixed_count=0, weight=3)] * 2, 7) == 7
