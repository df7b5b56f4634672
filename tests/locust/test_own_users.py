"""Users with tasks, a start and a wait time of their own."""

import json
import re
import time
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.locust.conftest import ROOT, STALE, Swarm, assert_agrees

USERS = str(Path(__file__).with_name("own_users.py"))
GUIDE = ROOT / "docs" / "writing-users.md"
SECOND = 1_000_000_000
LOAD = ("-r", "100", "--keys", "200", *STALE)


def run(swarm: Swarm, *arguments: str, expected_code: int = 0) -> str:
    """Run the users to their end and return the log."""
    pid = swarm.alone("--headless", *LOAD, *arguments, locustfile=USERS)
    assert swarm.code(pid) == expected_code, swarm.log(pid)
    return swarm.log(pid)


def operations(swarm: Swarm) -> list[dict[str, Any]]:
    """Return the operations of all histories, without the final reads."""
    lines = [line for file in swarm.histories.glob("*") for line in file.read_text().splitlines()[1:]]
    return [one for one in map(json.loads, lines) if one["op"] in {"read", "write", "append", "draw"}]


def test_own_tasks_run_by_their_weights_and_the_verdict_equals_that_of_the_histories(swarm: Swarm) -> None:
    log = run(swarm, "-u", "20", "-t", "4s", "--processes", "2", "WeightedUser")
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
    run(swarm, "-u", "3", "-t", "3s", "OneKeyUser")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    first = f"{result['run']}-w0-0"
    found = {(one["op"], one["key"]) for one in operations(swarm)}
    assert found == {("write", first), ("read", first), ("append", f"{first}.list"), ("draw", f"{first}.counter")}
    items = [one["item"] for one in operations(swarm) if one["op"] == "append"]
    assert len(set(items)) == len(items)


def test_on_start_gets_a_session_with_and_without_super(swarm: Swarm) -> None:
    log = run(swarm, "-u", "6", "-t", "6s", "WithSuperUser", "WithoutSuperUser", "StartingUser")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=3)  # a file for each workload
    counts = Counter(one["op"] for one in operations(swarm))
    assert all(counts[kind] for kind in ("append", "draw", "read"))
    assert counts["write"] == 2  # each StartingUser writes once
    assert "Traceback" not in log


def test_without_a_rate_users_wait_as_long_as_they_want(swarm: Swarm) -> None:
    run(swarm, "-u", "4", "-t", "6s", "WaitingUser")
    assert_agrees(swarm.result(), swarm.histories, workers=1)
    waits = [later - earlier for starts in by_session(swarm, "start") for earlier, later in pairwise(starts)]
    assert waits
    assert min(waits) > 0.99 * SECOND


def test_users_of_a_database_keep_the_rate_whatever_their_wait_time_and_beside_others(swarm: Swarm) -> None:
    log = run(swarm, "-u", "6", "-t", "5s", "--rate", "40", "WaitingUser", "OtherUser")
    assert log.count("the wait_time of WaitingUser is ignored") == 1
    assert_agrees(swarm.result(), swarm.histories, workers=1)
    assert_is_paced(swarm, SECOND // 10)
    waits = [later - earlier for starts in by_session(swarm, "start") for earlier, later in pairwise(starts)]
    assert min(waits) < 0.9 * SECOND


def test_a_rate_counts_operations_even_if_a_task_performs_several(swarm: Swarm) -> None:
    run(swarm, "-u", "4", "-t", "5s", "--rate", "40", "PairUser")
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


def by_session(swarm: Swarm, field: str) -> list[list[int]]:
    """Return the values of a field of each session's operations, in order."""
    found = defaultdict(list)
    for one in operations(swarm):
        found[one["session"]].append(one[field])
    return [sorted(values) for values in found.values()]


def assert_is_paced(swarm: Swarm, period_ns: int) -> None:
    """Assert that operations are due once every period, except when this machine was busy, and start no earlier."""
    gaps = Counter(later - earlier for dues in by_session(swarm, "due") for earlier, later in pairwise(dues))
    assert min(gaps) == period_ns
    assert gaps[period_ns] > gaps.total() / 2
    assert all(one["due"] <= one["start"] for one in operations(swarm))


def test_the_end_waits_for_operations_in_flight(swarm: Swarm) -> None:
    slow = ("--service", "0.5", "--timeouts", "0.2", "--timeout", "0.9")
    run(swarm, "-u", "20", "-t", "4s", *slow, "WeightedUser")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert "never ended" not in {row["error"] for row in result["errors"]}
    assert "interrupted" not in {row["error"] for row in result["errors"]}
    assert not result["guarantees"]["phantom_reads"]["violated"]


def test_an_operation_of_another_workload_ends_the_test_and_names_the_option(swarm: Swarm) -> None:
    log = run(swarm, "-u", "3", "WrongWorkloadUser", expected_code=2)
    assert "WrongWorkloadUser: append() needs the ledger workload" in log
    assert "use --workload ledger, or set workload = 'ledger'" in log
    assert "Traceback" not in log


def test_a_key_that_the_worker_does_not_have_ends_the_test(swarm: Swarm) -> None:
    log = run(swarm, "-u", "3", "WrongKeyUser", expected_code=2)
    assert "WrongKeyUser: read('mine'): not one of this worker's keys" in log


@pytest.mark.parametrize("number", range(2))
def test_the_guides_examples_run_as_printed(swarm: Swarm, tmp_path: Path, number: int) -> None:
    example = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[number]
    locustfile = tmp_path / "shop_users.py"
    locustfile.write_text(example)
    begun = time.monotonic()
    pid = swarm.alone("--headless", "-u", "5", "-r", "50", "-t", "4s", locustfile=str(locustfile))
    assert swarm.code(pid) == 0, swarm.log(pid)
    assert time.monotonic() - begun < 60
    assert "Traceback" not in swarm.log(pid)
    assert swarm.result()["database"] == "memory"
    assert_agrees(swarm.result(), swarm.histories)
