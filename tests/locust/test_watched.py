"""Users with blocks around operations of their own: `stalewatch.locust.Watched`."""

import os
import re
import signal
from collections import Counter
from pathlib import Path

import psutil
import pytest

from stalewatch.history.reader import History
from tests.locust.conftest import Swarm, assert_agrees, operations

USERS = str(Path(__file__).with_name("watched_users.py"))
LOAD = ("-r", "100", "--keys", "40")


def start(swarm: Swarm, *arguments: str) -> int:
    return swarm.alone("--headless", *LOAD, *arguments, locustfile=USERS)


def run(swarm: Swarm, *arguments: str, workers: int = 1, lines: int = 300, code: int = 0) -> str:
    """Run the users until each worker has written more than `lines` operations, and return the log."""
    pid = start(swarm, *arguments)
    assert swarm.finish(pid, workers, lines) == code, swarm.log(pid)
    return swarm.log(pid)


def refused(swarm: Swarm, *arguments: str, code: int = 2) -> str:
    pid = start(swarm, "-u", "3", *arguments)
    assert swarm.code(pid) == code, swarm.log(pid)
    return swarm.log(pid)


def test_a_correct_store_gets_no_violation_however_its_users_operate(swarm: Swarm) -> None:
    log = run(swarm, "-u", "20", "--processes", "2", "--distribution", "zipfian", "CorrectUser", workers=2)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert result["database"] == "own"
    assert result["verdict"] == "valid"
    assert result["workloads"] == ["ledger", "register", "sequence"]
    rows = result["guarantees"]
    judged = ("stale_reads", "read_your_writes", "read_regressions", "lost_writes", "unexpected_items", "unique_ids")
    assert all(rows[name]["verdict"] == "holds" for name in judged)
    assert result["operations"]["write"]["unknown"]
    assert set(re.findall(r"own +(\w+) CorrectUser", log)) == {"read", "write", "append", "draw"}
    assert {file.name for file in swarm.histories.glob("*")} == {f"{result['run']}-w{n}-own.jsonl" for n in (0, 1)}


def test_a_cache_and_lost_writes_are_found_and_expectations_count(swarm: Swarm) -> None:
    expected = ("--expect", "read_your_writes=0,phantom_reads=0", "--rate", "10")
    log = run(swarm, "-u", "10", *expected, "CachedUser", lines=600, code=1)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    rows = result["guarantees"]
    assert all(rows[name]["violated"] for name in ("stale_reads", "read_your_writes", "lost_writes"))
    assert not rows["phantom_reads"]["violated"]
    assert "expected read_your_writes=0: it is" in log
    assert "--rate 10 does not pace CachedUser: set wait_time" in log
    assert "write CachedUser" not in log  # show_operations
    header = History(sorted(swarm.histories.glob("*"))).headers[0]
    assert (header.database, header.registers) == ("own", "overwriting")


def test_without_final_reads_nobody_waits_and_losses_have_no_evidence(swarm: Swarm) -> None:
    run(swarm, "-u", "5", "WithoutFinalReads")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    assert (result["guarantees"]["lost_writes"]["verdict"], result["verdict"]) == ("no_evidence", "valid")
    assert result["unread_keys"] == 0


def test_classes_that_derive_from_one_share_its_keys_and_others_do_not(swarm: Swarm) -> None:
    run(swarm, "-u", "9", "WriterUser", "CorrectUser", "SeparateUser", workers=2, lines=100)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)  # a file for each group
    keys = [{one["key"] for one in map(_fields, History([file]).operations())} for file in swarm.histories.glob("*")]
    assert keys[0].isdisjoint(keys[1])
    assert {"shop 1", "shop 2"} in keys


def _fields(pair: tuple[object, int]) -> dict[str, object]:
    return {"key": getattr(pair[0], "key", None)}


def test_entities_may_have_the_names_that_the_application_gives(swarm: Swarm) -> None:
    log = run(swarm, "-u", "5", "NamingUser")
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    names = {f"id of {result['run']}-w0-{number}" for number in range(40)}
    assert {one["key"] for one in operations(swarm)} <= names
    assert result["guarantees"]["lost_writes"]["checked"]
    assert all(f"removed {name} " in log for name in names)


def test_every_worker_gets_its_own_part_of_entities_that_exist(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD, "-u", "10", "--expect-workers", "2", "SharingUser", locustfile=USERS)
    for _ in range(2):
        swarm.worker("SharingUser", locustfile=USERS)
    assert swarm.finish(pid, workers=2, lines=100) == 0, swarm.log(pid)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    parts = [{one["key"] for one in map(_fields, History([file]).operations())} for file in swarm.histories.glob("*")]
    assert sorted(parts, key=len) == [{f"shop {n}" for n in (1, 3, 5)}, {f"shop {n}" for n in (0, 2, 4, 6)}]
    assert result["verdict"] == "valid"


def test_entities_are_not_shared_among_an_unknown_number_of_workers(swarm: Swarm) -> None:
    pid = swarm.master("--headless", *LOAD, "-u", "4", "SharingUser", locustfile=USERS)
    for _ in range(2):
        swarm.worker("SharingUser", locustfile=USERS)
    assert swarm.code(pid) == 2, swarm.log(pid)
    log = swarm.log(pid)
    assert re.search(r"SharingUser.share: worker [01] cannot tell its part", log), log
    assert "--expect-workers N" in log


def test_two_classes_do_not_number_the_versions_of_one_entity(swarm: Swarm) -> None:
    log = refused(swarm, "SharingUser", "SeparateUser")
    assert "would both number the versions of 'shop" in log
    assert "derive from one class" in log


def test_exceptions_and_the_end_leave_unknown_writes_and_no_turn_taken(swarm: Swarm) -> None:
    run(swarm, "-u", "12", "StoppingUser", lines=40, code=1)  # Locust counts exceptions of tasks
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=1)
    writes = Counter((one["outcome"], one.get("error")) for one in operations(swarm) if one["op"] == "write")
    assert writes["unknown", "ConnectionError: refused"] > 5
    assert writes["ok", None]
    assert "never ended" not in {error for _, error in writes}


def test_a_killed_worker_is_counted_to_the_end_of_its_history(swarm: Swarm) -> None:
    pid = start(swarm, "-u", "10", "--processes", "2", "CorrectUser")
    swarm.await_operations(workers=2)
    workers = [one for one in psutil.Process(pid).children() if one.status() != "zombie"]
    os.kill(workers[0].pid, signal.SIGKILL)
    swarm.await_log(pid, "is lost")
    os.kill(pid, signal.SIGTERM)
    swarm.code(pid)
    result = swarm.result()
    assert_agrees(result, swarm.histories, workers=2)
    assert (result["verdict"], result["complete"]) == ("unknown", False)
    assert sorted(row["state"] for row in result["workers"]) == ["done", "lost"]


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("ForeignKeyUser", "'mine' is not a key of this worker"),
        ("NestedUser", "performs one operation at a time"),
        ("WatchingStartUser", "only `if self.scheduled`"),
    ],
)
def test_a_mistake_ends_the_test_with_one_line(swarm: Swarm, user: str, message: str) -> None:
    log = refused(swarm, user)
    assert len([line for line in log.splitlines() if "ERROR" in line and message in line]) == 1
    assert f"own: {user}" in log
    assert "Traceback" not in log


def test_a_final_read_that_returns_no_version_fails_without_waiting_for_recovery(swarm: Swarm) -> None:
    log = run(swarm, "-u", "3", "TextFinalReadUser", lines=20, code=2)
    assert "returned '3': return a version, or 0 if there is no value" in log


def test_a_mistake_in_the_code_of_a_final_read_fails_without_waiting_for_recovery(swarm: Swarm) -> None:
    log = run(swarm, "-u", "3", "BrokenFinalReadUser", lines=20, code=2)
    assert "which no waiting mends: AttributeError: 'str' object has no attribute 'version' (line " in log
    assert "Traceback" not in log


def test_entities_that_cannot_be_created_end_the_test_and_name_the_line(swarm: Swarm) -> None:
    log = refused(swarm, "FailingCreateUser", code=3)
    assert "FailingCreateUser.create(" in log
    assert "failed: ConnectionError: http://***@localhost/ refused" in log
    assert "secret" not in log
    assert "watched_users.py)" in log
    assert "Traceback" not in log
