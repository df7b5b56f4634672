"""Real masters with fake workers, and real workers with a fake master: nobody goes deaf, hangs, or takes a verdict."""

import re
import time
from pathlib import Path

import stalewatch
from stalewatch.locust import messages
from stalewatch.locust.messages import Hello, HistoryFile, encode
from tests.adversary.fake_swarm import GARBAGE, FakeMaster, fake_workers
from tests.locust.conftest import MEMORY, ROOT, Swarm, assert_agrees
from tests.locust.worker_reports import report

LOAD = ("--headless", "-u", "5", "-r", "50", "--keys", "50", "--reread", "0.9")
OTHER = "import stalewatch\nstalewatch.__version__ = '0.0.9'\n"
HASTY = "import locust.runners\nlocust.runners.MASTER_HEARTBEAT_TIMEOUT = 2\n"
MALFORMED = (
    ("heartbeat", None),
    ("stats", {"stats": [{"name": 1}]}),
    ("spawning_complete", {"user_classes_count": {"MemoryUser": "many"}, "user_count": 1}),
    ("client_ready", {}),
    ("logs", 7),
    ("exception", []),
    (messages.REPORT, None),
    (messages.REPORT, {"report": "text"}),
    (messages.IDLE, {"run": 7}),
    (messages.CLOCK, {}),
    (messages.TURN, {"run": "r", "database": []}),
    (messages.HELLO, "hello"),
)


def locustfile(folder: Path, first: str) -> str:
    """Return a locustfile of memory users with some lines before it."""
    path = folder / "users.py"
    path.write_text(first + (ROOT / MEMORY).read_text())
    return str(path)


def run_of(swarm: Swarm, master: int) -> str:
    """Return the name of the run once it has started."""
    swarm.await_log(master, "stalewatch: run ")
    found = re.search(r"stalewatch: run (\w+)\n", swarm.log(master))
    assert found
    return found[1]


def test_packets_of_strangers_and_other_versions_change_nothing(swarm: Swarm, tmp_path: Path) -> None:
    master = swarm.master(*LOAD)
    swarm.worker()
    run = run_of(swarm, master)
    old = swarm.worker(locustfile=locustfile(tmp_path, OTHER))
    with fake_workers(swarm.master_port, "stranger", "impostor") as (stranger, impostor):
        forged = report(last=True, at=time.time_ns())
        forged.run, forged.worker = run, 0
        for frames in GARBAGE:
            stranger.send_frames(*frames)
        for kind, data in (*MALFORMED, ("quit", None), (messages.REPORT, {"report": encode(forged)})):
            stranger.send(kind, data)
        impostor.send(messages.REPORT, {"report": encode(forged)}, name="stranger")
        swarm.await_log(master, "in the name of 'stranger'")
    assert swarm.code(old) == 2
    theirs, ours = Hello("0.0.9"), Hello()
    assert f"refused by the master: this worker is {theirs}, but the master is {ours}" in swarm.log(old)
    assert f": it is {theirs}, but the master is {ours}" in swarm.log(master)
    assert swarm.finish(master) == 0
    result = swarm.result()
    assert (result["verdict"], result["complete"], len(result["workers"])) == ("valid", True, 1)
    assert_agrees(result, swarm.histories, workers=1)
    assert swarm.log(master).count("ignored all messages of stranger, which has not joined this master") == 1
    assert "Traceback" not in swarm.log(master)


def test_every_worker_that_joined_is_in_the_verdict_whatever_it_sends(swarm: Swarm) -> None:
    master = swarm.master(*LOAD, "--expect-workers", "3")
    swarm.worker()
    with fake_workers(swarm.master_port, "frozen", "liar", "old") as (frozen, liar, old):
        frozen.join()
        number = liar.join()
        run = run_of(swarm, master)
        old.join(Hello("9.9.9", 9))
        reason = old.receive(messages.REFUSED)["reason"]
        assert "9.9.9 (message format 9)" in reason
        assert stalewatch.__version__ in reason
        for kind, data in MALFORMED:
            liar.send(kind, data)
        for frames in GARBAGE:
            liar.send_frames(*frames)
        forged = report(last=True, at=time.time_ns())
        forged.run, forged.worker = run, number
        forged.histories = [HistoryFile("/proc/kmsg", 0, 0, finished=False)]
        forged.verdicts[0].checked, forged.verdicts[0].violated = 10**6, 10**6 + 1
        liar.send(messages.REPORT, {"report": encode(forged)})
        swarm.await_log(master, "refused a report of worker liar")
        assert swarm.finish(master) == 0
    result = swarm.result()
    assert (result["verdict"], result["complete"]) == ("unknown", False)
    unchecked = {worker["id"]: worker["unchecked"] for worker in result["workers"]}
    assert len(unchecked) == 3
    assert unchecked["frozen"].startswith("it never reported")
    assert unchecked["liar"].startswith("at least one of its reports was refused")
    assert None in unchecked.values()
    result["complete"], result["verdict"] = True, "valid"  # as far as the histories go
    assert_agrees(result, swarm.histories, workers=1)


def test_a_worker_ends_if_its_master_is_lost_while_it_waits_for_its_turn(swarm: Swarm, tmp_path: Path) -> None:
    master = FakeMaster(swarm.master_port)
    worker = swarm.worker(locustfile=locustfile(tmp_path, HASTY))
    try:
        master.serve_until(messages.TURN)
        assert swarm.code(worker) is not None
    finally:
        master.close()
    assert "Didn't get heartbeat from master" in swarm.log(worker)
    assert not swarm.living()


def test_a_worker_that_cannot_start_the_run_ends_it_and_is_in_the_verdict(swarm: Swarm) -> None:
    master = swarm.master(*LOAD, "--expect-workers", "1")
    with fake_workers(swarm.master_port, "unable") as (unable,):
        unable.join()
        unable.send(messages.IDLE, {"run": run_of(swarm, master), "failure": "it has another locustfile"})
        assert swarm.code(master) == 2
    result = swarm.result()
    assert (result["verdict"], result["complete"]) == ("unknown", False)
    assert [worker["trouble"] for worker in result["workers"]] == ["it has another locustfile"]
