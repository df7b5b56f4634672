"""Processes that are killed, or paused, at random moments: nothing is left, files are readable, the next run works."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import psutil
import pytest

from stalewatch.clusters.local import ports
from stalewatch.clusters.local.couch import CouchCluster
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.commands.check import judge_files
from tests.adversary.running import ROOT
from tests.conftest import settle_leaders, settle_members
from tests.locust.conftest import MEMORY, SLOW

pytestmark = pytest.mark.server

ENDS_S = 90.0
HOWS = ("kill all", "kill one", "pause one")
HASTY = "import locust.runners\nlocust.runners.MASTER_HEARTBEAT_TIMEOUT = 3\n"


class Victim:
    """A command in a process session of its own, whose output and files are in a folder of its own."""

    def __init__(self, folder: Path, home: Path, *arguments: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._output = folder / "output"
        self.home = home
        with self._output.open("a") as output:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**os.environ, "STALEWATCH_HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def strike(self, random: Random, within_s: float, how: str) -> None:
        """Kill or pause at a random moment; if it ended before, let it be."""
        time.sleep(random.uniform(0, within_s))
        members = self._members()
        if not members:
            return
        one = random.choice(members)
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if how == "kill all":
                os.killpg(self._process.pid, signal.SIGKILL)
            elif how == "kill one":
                one.kill()
            else:
                one.suspend()
                time.sleep(random.uniform(0.5, 5))
                one.resume()

    def _members(self) -> list[psutil.Process]:
        """Return its living processes."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error, ProcessLookupError):
                if os.getsid(one.pid) == self._process.pid and one.status() != psutil.STATUS_ZOMBIE:
                    found.append(one)
        return sorted(found, key=lambda one: one.pid)

    def ended(self) -> int:
        """Wait until the command and all that it has started in its session have ended; return its exit code."""
        code = self._process.wait(ENDS_S)
        deadline = time.monotonic() + ENDS_S
        while left := self._members():
            assert time.monotonic() < deadline, (left, self._output.read_text()[-3000:])
            time.sleep(0.1)
        return code

    def succeeded(self) -> None:
        code = self.ended()
        assert code == 0, self._output.read_text()[-3000:]


def assert_readable(folder: Path) -> None:
    """Assert that what was written can be used: histories to where they end, other files as a whole or not at all."""
    for file in folder.rglob("*.jsonl"):
        if b"\n" in file.read_bytes():  # else it was killed before it had written the first line
            judge_files([file])
    for file in folder.rglob("*.json"):
        json.loads(file.read_text())


def processes_of(home: Path) -> list[psutil.Process]:
    """Return the processes that work for the clusters of that folder."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.environ().get("STALEWATCH_HOME") == str(home) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


class Field(NamedTuple):
    """What a scenario has to work with."""

    leaders: CouchCluster
    members: MongoCluster
    folder: Path
    random: Random
    how: str


def kill_a_bench(field: Field, home: Path, database: str) -> None:
    folder = field.folder
    load = ("bench.py", database, "--users", "3", "--keys", "10", "--rate", "100")
    files = ("--history", str(folder / "history.jsonl"), "--json", str(folder / "result.json"))
    victim = Victim(folder, home, *load, "--duration", "3", *files)
    victim.strike(field.random, 6, field.how)
    victim.ended()
    assert_readable(folder)
    Victim(folder, home, *load, "--ops", "50").succeeded()
    Victim(folder, home, "-m", "stalewatch", "clean", database, "--yes").succeeded()
    Victim(folder / "again", home, "-m", "stalewatch", "clean", database).succeeded()
    assert (folder / "again" / "output").read_text() == "nothing of any run was found\n"


def kill_a_drill(field: Field, cluster: CouchCluster | MongoCluster, faults: Sequence[str]) -> None:
    folder, database = field.folder, cluster.database
    before = [node.note for node in cluster.status()]
    times = ("--at", "1", "--for", "2", "--duration", "5", "--users", "3", "--keys", "20", "--rate", "100")
    files = ("--history", str(folder / "history.jsonl"), "--json", str(folder / "result.json"))
    drill = ("-m", "stalewatch", "drill", database, "--fault", field.random.choice(faults))
    victim = Victim(folder, cluster.home, *drill, *times, *files)
    victim.strike(field.random, 9, field.how)
    victim.ended()
    deadline = time.monotonic() + ENDS_S
    while (now := cluster.status()) and [node.note for node in now if node.healthy] != before:
        assert time.monotonic() < deadline, now
        time.sleep(0.2)
    assert_readable(folder)
    with cluster.reserved(print):
        pass


def kill_a_swarm(field: Field) -> None:
    folder = field.folder
    users = folder / "users.py"
    users.write_text(HASTY + (ROOT / MEMORY).read_text())
    load = ("-m", "locust", "-f", str(users), "--headless", "-u", "4", "-r", "50", "--keys", "20", *SLOW)
    port = str(*ports.free(1))
    binds = ("--master-bind-port", port, "--master-port", port)
    files = ("--history-dir", str(folder / "histories"), "--report-json", str(folder / "result.json"))
    victim = Victim(folder, folder / "home", *load, "-t", "3s", "--processes", "2", *binds, *files)
    victim.strike(field.random, 9, field.how)
    victim.ended()
    assert_readable(folder)
    Victim(folder, folder / "home", *load, "-t", "1s").succeeded()


def kill_a_cluster(field: Field, cluster: CouchCluster | MongoCluster) -> None:
    home, database = cluster.home, cluster.database
    action = field.random.choice(["up", "down"])
    command = ("-m", "stalewatch", "cluster")
    if action == "down":
        Victim(field.folder, home, *command, "up", database).succeeded()
    victim = Victim(field.folder, home, *command, action, database)
    victim.strike(field.random, 3, field.how)
    victim.ended()
    try:
        Victim(field.folder, home, *command, "up", database).succeeded()
        assert all(node.healthy for node in cluster.status())
    finally:
        Victim(field.folder, home, *command, "down", database, "--wipe").succeeded()
    assert processes_of(home) == []


SCENARIOS: Mapping[str, Callable[[Field], None]] = {
    "bench": lambda field: kill_a_bench(field, field.leaders.home, "couch"),
    "drill": lambda field: kill_a_drill(field, field.leaders, ["kill-leader", "link-down"]),
    "swarm": kill_a_swarm,
    "cluster": lambda field: kill_a_cluster(field, settle_leaders(CouchCluster(field.folder / "home"))),
    "mongo bench": lambda field: kill_a_bench(field, field.members.home, "mongo"),
    "mongo drill": lambda field: kill_a_drill(field, field.members, ["kill-primary", "pause-primary"]),
    "mongo cluster": lambda field: kill_a_cluster(field, settle_members(MongoCluster(field.folder / "home"))),
}


# Seeds with which the bench, the drill and the swarm are killed under load, the swarm's master alone.
@pytest.mark.parametrize(
    ("scenario", "seed", "how"),
    [("bench", 9, "kill all"), ("drill", 16, "kill all"), ("swarm", 35, "kill one"), ("cluster", 16, "kill all")],
)
def test_a_killed_command_leaves_nothing_behind(
    leaders: CouchCluster, whole: MongoCluster, tmp_path: Path, scenario: str, seed: int, how: str
) -> None:
    SCENARIOS[scenario](Field(leaders, whole, tmp_path, Random(seed), how))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10))
def test_a_hundred_commands_killed_at_random_leave_nothing_behind(
    leaders: CouchCluster, whole: MongoCluster, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    for number in range(10):
        scenario, how = random.choice(sorted(SCENARIOS)), random.choice(HOWS)
        folder = tmp_path / f"{number}-{scenario.replace(' ', '-')}"
        folder.mkdir()
        print(number, scenario, how, flush=True)
        SCENARIOS[scenario](Field(leaders, whole, folder, random, how))
