"""Faults are undone, however the process that began them ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from random import Random

import psutil
import pytest

from stalewatch.clusters.lab.clusters import MongoLab
from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.clusters.protocol import ClusterError
from stalewatch.faults.catalogue import FAULTS
from stalewatch.faults.guardian import guarded
from tests.conftest import leading

pytestmark = pytest.mark.server

Eventually = Callable[..., None]

DRILL = """
import json, os, sys, time
from stalewatch.faults.guardian import guarded
from stalewatch.faults.catalogue import FAULTS
from stalewatch.clusters.protocol import Recipe

cluster = Recipe(*json.loads(sys.argv[1])).make()
with guarded(cluster) as guard:
    for name, node in json.loads(sys.argv[2]):
        guard.begin(FAULTS[name].make(cluster, [node], {}))
    if sys.argv[3:] == ["fork"] and not os.fork():
        time.sleep(600)  # keeps the pipe open
    print("broken", flush=True)
    time.sleep(600)
"""


@contextmanager
def drill(cluster: MongoCluster, faults: dict[str, str], *more: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a drill in its own process group, and wait until all its faults have begun."""
    words = [json.dumps(cluster.recipe()), json.dumps(list(faults.items())), *more]
    with subprocess.Popen(
        [sys.executable, "-c", DRILL, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "broken\n", process.stderr and process.stderr.read()
            yield process
        finally:
            with suppress(ProcessLookupError):  # its group is gone
                os.killpg(process.pid, signal.SIGKILL)


def guardians_of(drill: int) -> list[int]:
    return [
        process.pid
        for process in psutil.process_iter()
        if (line := _command_line(process))[-1:] == [str(drill)] and "stalewatch.faults.guardian" in line
    ]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def states(cluster: MongoCluster) -> list[str]:
    return [node.state for node in cluster.status()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_faults_of_a_killed_drill_are_undone(
    whole: MongoCluster, eventually: Eventually, number: signal.Signals
) -> None:
    first, second, _ = whole.nodes()
    with drill(whole, {"kill": first, "pause": second}) as process:
        assert states(whole) == ["dead", "paused", "running"]
        os.killpg(process.pid, number)  # as Ctrl-C in a terminal does
        process.wait()
        assert process.stderr
        errors = process.stderr.read()  # until the guardian, which writes there too, has exited
    assert f"undoing pause of {second}" in errors
    assert f"undoing kill of {first}" in errors
    assert states(whole) == ["running"] * 3
    eventually(lambda: guardians_of(process.pid) == [])


def test_faults_are_undone_even_if_a_child_holds_the_pipe_open(whole: MongoCluster, eventually: Eventually) -> None:
    with drill(whole, {"pause": whole.nodes()[0]}, "fork") as process:
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda: states(whole) == ["running"] * 3)


def test_ctrl_c_during_an_isolate_leaves_no_rule(lab: MongoLab, eventually: Eventually) -> None:
    old = leading(lab)
    with drill(lab, {"isolate": old}) as process:
        assert any("cut from" in node.note for node in lab.status())
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        assert process.stderr
        assert f"undoing isolate of {old}" in process.stderr.read()
    assert [node.note for node in lab.status()] == [""] * 3
    eventually(lambda: all(node.healthy for node in lab.status()))


@pytest.mark.soak
def test_a_drill_killed_at_any_moment_leaves_nothing_broken(lab: MongoLab, eventually: Eventually) -> None:
    first, second, third = lab.nodes()
    faults = [("isolate", first), ("delay", second), ("loss", third), ("kill", second), ("pause", third)]
    random = Random(1)
    for _ in range(40):
        words = [json.dumps(lab.recipe()), json.dumps(faults)]
        with subprocess.Popen(
            [sys.executable, "-c", DRILL, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            time.sleep(random.uniform(0.0, 1.5))
            os.killpg(process.pid, signal.SIGKILL)
            assert process.stderr
            process.stderr.read()  # until the guardian has exited too
        assert states(lab) == ["running"] * 3
        assert {node.note for node in lab.status()} == {""}
        assert guardians_of(process.pid) == []
    eventually(lambda: all(node.healthy for node in lab.status()))


def test_only_active_faults_are_undone(whole: MongoCluster) -> None:
    first, second, _ = whole.nodes()
    ended, active = (FAULTS["pause"].make(whole, [node], {}) for node in (first, second))
    with guarded(whole) as guard:
        guard.begin(ended)
        guard.end(ended)
        whole.pause(first)  # not by the drill
        guard.begin(active)
    assert states(whole) == ["paused", "running", "running"]
    assert guardians_of(os.getpid()) == []
    whole.resume(first)


def test_no_fault_begins_without_a_guardian(whole: MongoCluster, eventually: Eventually) -> None:
    with guarded(whole) as guard:
        (guardian,) = guardians_of(os.getpid())
        os.kill(guardian, signal.SIGTERM)  # it ignores this
        os.kill(guardian, signal.SIGKILL)
        eventually(lambda: psutil.Process(guardian).status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(ClusterError, match="nothing is broken without it"):
            guard.begin(FAULTS["pause"].make(whole, [whole.nodes()[0]], {}))
    assert states(whole) == ["running"] * 3
