"""Users with tasks, a start and a wait time of their own."""

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.locust.conftest import ROOT, SECOND, STALE, Swarm, assert_agrees, assert_is_paced, by_session, operations

USERS = str(Path(__file__).with_name("own_users.py"))
GUIDE = ROOT / "docs" / "writing-users.md"
LOAD = ("-r", "100", "--keys", "200", *STALE)


def run(swarm: Swarm, *arguments: str, workers: int = 1, lines: int = 500) -> str:
    """Run the users until each worker has written more than `lines` operations, and return the log."""
    pid = swarm.alone("--headless", *LOAD, *arguments, locustfile=USERS)
    assert swarm.finish(pid, workers, lines) == 0, swarm.log(pid)
    return swarm.log(pid)


def refused(swarm: Swarm, *arguments: str) -> str:
    """Run the users, which end the test by a mistake, and return the log."""
    pid = swarm.alone("--headless", *LOAD, *arguments, locustfile=USERS)
    assert swarm.code(pid) == 2, swarm.log(pid)
    return swarm.log(pid)


def test_own_tasks_run_by_their_weights_and_the_verdict_equals_that_of_the_histories(swarm: Swarm) -> None:
    log = run(swarm, "-u", "20", "--processes", "2", "WeightedUser", workers=2)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    counts = Counter(one["op"] for one in operations(swarm))
    assert counts["read"] > counts["write"] > counts["append"]
    assert counts["read"] / counts.total() == pytest.approx(0.6, abs=0.1)
    assert counts["draw"] / counts.total() == pytest.approx(0.1, abs=0.05)
    rows = result["guarantees"]
    assert all(rows[name]["checked"] for name in ("stale_reads", "read_your_writes", "lost_writes", "unique_ids"))
    assert rows["read_your_writes"]["violated"]
    assert result["complete"]
    assert all(f"{kind} w=1" in log for kind in ("write", "append", "draw"))


def test_operations_can_be_sent_to_given_keys(swarm: Swarm) -> None:
    run(swarm, "-u", "3", "OneKeyUser")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    first = f"{result['run']}-w0-0"
    found = {(one["op"], one["key"]) for one in operations(swarm)}
    assert found == {("write", first), ("read", first), ("append", f"{first}.list"), ("draw", f"{first}.counter")}
    items = [one["item"] for one in operations(swarm) if one["op"] == "append"]
    assert len(set(items)) == len(items)


def test_on_start_gets_a_session_with_and_without_super(swarm: Swarm) -> None:
    log = run(swarm, "-u", "6", "WithSuperUser", "WithoutSuperUser", "StartingUser", workers=3, lines=50)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=3)  # a file for each workload
    counts = Counter(one["op"] for one in operations(swarm))
    assert all(counts[kind] for kind in ("append", "draw", "read"))
    assert counts["write"] == 2  # each StartingUser writes once
    assert "Traceback" not in log


def test_without_a_rate_users_wait_as_long_as_they_want(swarm: Swarm) -> None:
    run(swarm, "-u", "4", "WaitingUser", lines=12)
    assert_agrees(swarm.result(), swarm.histories, workers=1)
    waits = [later - earlier for starts in by_session(swarm, "start") for earlier, later in pairwise(starts)]
    assert waits
    assert min(waits) > 0.99 * SECOND


def test_users_of_a_database_keep_the_rate_whatever_their_wait_time_and_beside_others(swarm: Swarm) -> None:
    log = run(swarm, "-u", "6", "--rate", "40", "WaitingUser", "OtherUser", lines=80)
    assert log.count("the wait_time of WaitingUser is ignored") == 1
    assert_agrees(swarm.result(), swarm.histories, workers=1)
    assert_is_paced(swarm, SECOND // 10)
    waits = [later - earlier for starts in by_session(swarm, "start") for earlier, later in pairwise(starts)]
    assert min(waits) < 0.9 * SECOND


def test_a_rate_counts_operations_even_if_a_task_performs_several(swarm: Swarm) -> None:
    run(swarm, "-u", "4", "--rate", "40", "PairUser", lines=80)
    assert_agrees(swarm.result(), swarm.histories, workers=1)
    assert_is_paced(swarm, SECOND // 10)


def test_pauses_of_tasks_are_in_no_response_time(swarm: Swarm) -> None:
    pid = swarm.alone("--headless", "-u", "2", "--rate", "20", *LOAD, "PausingUser", locustfile=USERS)
    swarm.await_log(pid, "users of PausingUser do other things than operations")
    swarm.interrupt(pid)
    assert swarm.code(pid) == 130
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert max(latency["response_ms"]["max"] for latency in result["latency"].values() if latency["response_ms"]) < 1900


def test_the_end_waits_for_operations_in_flight(swarm: Swarm) -> None:
    slow = ("--service", "0.5", "--timeouts", "0.2", "--timeout", "0.9")
    run(swarm, "-u", "20", *slow, "WeightedUser", lines=50)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert "never ended" not in {row["error"] for row in result["errors"]}
    assert "interrupted" not in {row["error"] for row in result["errors"]}
    assert not result["guarantees"]["phantom_reads"]["violated"]


def test_an_operation_of_another_workload_ends_the_test_and_names_the_option(swarm: Swarm) -> None:
    log = refused(swarm, "-u", "3", "WrongWorkloadUser")
    assert "WrongWorkloadUser: append() needs the ledger workload" in log
    assert "use --workload ledger, or set workload = 'ledger'" in log
    assert "Traceback" not in log


def test_a_key_that_the_worker_does_not_have_ends_the_test(swarm: Swarm) -> None:
    log = refused(swarm, "-u", "3", "WrongKeyUser")
    assert "WrongKeyUser: read('mine'): not one of this worker's keys" in log


@pytest.mark.parametrize("number", range(2))
def test_the_guides_examples_run_as_printed(swarm: Swarm, tmp_path: Path, number: int) -> None:
    example = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[number]
    locustfile = tmp_path / "shop_users.py"
    locustfile.write_text(example)
    pid = swarm.alone("--headless", "-u", "5", "-r", "50", locustfile=str(locustfile))
    assert swarm.finish(pid, lines=50) == 0, swarm.log(pid)
    assert "Traceback" not in swarm.log(pid)
    assert swarm.result()["database"] == "memory"
    assert_agrees(swarm.result(), swarm.histories)
