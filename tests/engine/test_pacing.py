"""Open and closed loops in simulated time, where due times match the formula to the nanosecond."""

from math import ceil

import pytest

from stalewatch.engine.process_run import NAP_S, OpenLoop
from stalewatch.history.clock import Clock
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import EPOCH_NS, SimulatedClock
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import HookedClient, Played, play, simulated

SECOND_NS = 1_000_000_000
STALL_NS = (EPOCH_NS + 1 * SECOND_NS, EPOCH_NS + 3 * SECOND_NS)


def steady(load: LoadOptions) -> Played:
    return play(simulated(topology="linearizable", service="constant", service_s=0.001), load)


def stalling(load: LoadOptions) -> Played:
    """Run against a store that does not answer from the first to the third second."""
    clock = SimulatedClock()

    def stall(_session: str, _kind: str) -> None:
        if STALL_NS[0] <= clock.now() < STALL_NS[1]:
            clock.sleep((STALL_NS[1] - clock.now()) / 1e9)

    options = MemoryOptions("linearizable", service="constant", service_s=0.005)
    return play(HookedClient(options, clock, stall), load)


def waits(clock: Clock) -> list[float]:
    """Return a list to which a clock adds the length of every sleep."""
    slept, sleep = [], clock.sleep

    def noted(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    clock.sleep = noted  # type: ignore[method-assign] # to observe it
    return slept


@pytest.mark.parametrize("rate", [1000.0, 333.3, 7.0])
def test_operations_are_due_at_regular_times_and_start_then(rate: float) -> None:
    operations = steady(LoadOptions(users=7, operations=500, rate=rate)).loaded
    dues = sorted(one.due or 0 for one in operations)
    assert all(abs(due - EPOCH_NS - round(number * SECOND_NS / rate)) <= 1 for number, due in enumerate(dues))
    assert all(one.start == one.due for one in operations)


def test_operations_have_no_due_time_in_a_closed_loop() -> None:
    run = steady(LoadOptions(users=7, operations=500))
    assert all(one.due is None for one in run.loaded)
    assert not run.recorder.statistics.response["read"].count


@pytest.mark.parametrize("users", [1, 20])
def test_the_rate_is_reached_if_the_store_can_keep_up(users: int) -> None:
    run = steady(LoadOptions(users=users, operations=None, duration_s=10, rate=200))
    assert len(run.loaded) == 2000
    assert run.run.duration_s == pytest.approx(10, abs=0.001)


def test_a_stall_delays_all_operations_due_meanwhile_and_each_is_measured_from_its_due_time() -> None:
    run = stalling(LoadOptions(users=10, operations=None, duration_s=5, rate=100))
    assert len(run.loaded) == 500
    meanwhile = [one for one in run.loaded if STALL_NS[0] < (one.due or 0) < STALL_NS[1]]
    assert len(meanwhile) == 199
    assert all((one.end or 0) >= STALL_NS[1] for one in meanwhile)
    response, service = (run.recorder.statistics.response["read"], run.recorder.statistics.service["read"])
    assert response.count == service.count > 300
    share_waiting = sum(ns > 0.1 * SECOND_NS for ns in response._counts.elements()) / response.count
    assert 0.3 < share_waiting < 0.4
    assert response.max_ns >= 1.9 * SECOND_NS
    assert service.quantiles_ns(0.95) == [5_000_000]


@pytest.mark.parametrize("rate", [200, 500, 1000])
def test_response_time_percentiles_are_those_of_the_due_times(rate: int) -> None:
    """Compare with the truth, operation by operation: users * 5 ms at most, so that they catch up within the run."""
    users, seconds, service_ns = rate // 50, 10, 5_000_000
    run = stalling(LoadOptions(users=users, operations=None, duration_s=seconds, rate=rate, write_ratio=0))
    truth = []
    for user in range(users):
        ended = 0
        for number in range(user, seconds * rate, users):
            due = EPOCH_NS + number * SECOND_NS // rate
            start = max(due, ended)
            ended = (STALL_NS[1] if STALL_NS[0] <= start < STALL_NS[1] else start) + service_ns
            truth.append(ended - due)
    truth.sort()
    response = run.recorder.statistics.response["read"]
    assert response.count == len(truth)
    for share in (0.5, 0.9, 0.95, 0.99):
        (measured,) = response.quantiles_ns(share)
        assert measured == pytest.approx(truth[ceil(share * len(truth)) - 1], rel=0.02)
    assert response.quantiles_ns(0.9)[0] > SECOND_NS / 10  # a closed loop shows 5 ms here


def test_a_closed_loop_hides_the_same_stall() -> None:
    run = stalling(LoadOptions(users=10, operations=None, duration_s=3.5))
    service = run.recorder.statistics.service["read"]
    assert sum(ns > 0.1 * SECOND_NS for ns in service._counts.elements()) <= 10
    assert service.quantiles_ns(0.95) == [5_000_000]


def test_a_late_session_catches_up_without_pausing() -> None:
    run = stalling(LoadOptions(users=10, operations=None, duration_s=5, rate=100))
    late = [one for one in run.loaded if (one.due or 0) < one.start < STALL_NS[1] + SECOND_NS]
    assert len(late) > 150
    assert all(one.start <= STALL_NS[1] + 25 * 5_000_000 for one in late)  # about twenty each, one after the other


def test_a_wait_beyond_the_end_of_the_run_ends_with_the_run() -> None:
    clock = SimulatedClock()
    slept = waits(clock)
    over = iter([False, False, True])
    assert (
        OpenLoop(clock, EPOCH_NS + 3600 * SECOND_NS, SECOND_NS).wait(lambda: next(over)) == EPOCH_NS + 3600 * SECOND_NS
    )
    assert slept == [NAP_S, NAP_S]


def test_a_run_that_has_used_up_its_operations_does_not_wait_for_idle_sessions() -> None:
    run = steady(LoadOptions(users=20, operations=5, rate=1))
    assert len(run.loaded) == 5
    assert 4 < run.run.duration_s < 4 + 2 * NAP_S
