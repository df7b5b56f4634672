"""Locust as real processes on free ports, and the comparison of its verdict with the history files."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from jsonschema import Draft202012Validator

from stalewatch.clusters.local import ports
from stalewatch.commands.check import judge_files
from stalewatch.engine.result import check_result
from stalewatch.reports.schema import schema
from tests.adversary.hostile import HostileServer

ROOT = Path(__file__).parents[2]
MEMORY = "locustfiles/memory_users.py"
STALE = ("--read-from", "secondary", "--lag", "0.02")
"""Options with which the simulated store shows many stale reads."""

SLOW = ("--service", "0.02")
"""Options with which a closed loop on the simulated store leaves most of the processor to others."""

SECOND = 1_000_000_000
WAIT_S = 120.0


class Swarm:
    """Locust processes: a master and workers, or a process that is its own master; all end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.histories = folder / "histories"
        self.result_file = folder / "result.json"
        self.web_port, self.master_port = ports.free(2)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}

    def start(self, *arguments: str, locustfile: str = MEMORY, env: dict[str, str] | None = None) -> int:
        """Start a Locust process in its own process session and return its pid."""
        log = self.folder / f"{len(self._processes)}.log"
        command = [sys.executable, "-m", "locust", "-f", locustfile, *arguments]
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "STALEWATCH_HOME": str(self.folder / "home"), **(env or {})},
            )
        self._processes.append(process)
        self._logs[process.pid] = log
        return process.pid

    def master(self, *arguments: str, **options: Any) -> int:
        """Start a master that writes its result, and whose workers write histories."""
        outputs = ("--report-json", str(self.result_file), "--history-dir", str(self.histories))
        binds = ("--master", "--master-bind-port", str(self.master_port), "--web-port", str(self.web_port))
        return self.start(*binds, *outputs, *arguments, **options)

    def worker(self, *arguments: str, **options: Any) -> int:
        """Start a worker of that master."""
        return self.start("--worker", "--master-port", str(self.master_port), *arguments, **options)

    def alone(self, *arguments: str, **options: Any) -> int:
        """Start a process that is its own master, or a master with `--processes`."""
        outputs = ("--report-json", str(self.result_file), "--history-dir", str(self.histories))
        binds = ("--master-bind-port", str(self.master_port), "--master-port", str(self.master_port))
        return self.start(*binds, "--web-port", str(self.web_port), *outputs, *arguments, **options)

    def log(self, pid: int) -> str:
        """Return the output of a process so far."""
        return self._logs[pid].read_text(errors="replace")

    def await_log(self, pid: int, text: str, times: int = 1) -> None:
        """Wait until a process has printed a text."""
        deadline = time.monotonic() + WAIT_S
        while self.log(pid).count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in:\n{self.log(pid)}"
            time.sleep(0.05)

    def await_users(self, pid: int) -> None:
        """Wait until Locust has spawned its users; it does not wait for reports of workers that are slow."""
        deadline = time.monotonic() + WAIT_S
        while not any(text in self.log(pid) for text in ("All users spawned", "Spawning is complete")):
            assert time.monotonic() < deadline, f"no users were spawned:\n{self.log(pid)}"
            time.sleep(0.05)

    def await_page(self) -> None:
        """Wait until the web page responds."""
        deadline = time.monotonic() + WAIT_S
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", self.web_port)):
                assert time.monotonic() < deadline, "the web page does not respond"
                time.sleep(0.05)

    def lines(self) -> list[int]:
        """Return how many lines each history has so far."""
        return [file.read_bytes().count(b"\n") for file in self.histories.glob("*")]

    def await_operations(self, workers: int = 1, lines: int = 500) -> None:
        """Wait until that many workers have each written more than `lines` operations."""
        deadline = time.monotonic() + WAIT_S
        while sum(found > lines for found in self.lines()) < workers:
            assert time.monotonic() < deadline, list(self.histories.glob("*"))
            time.sleep(0.05)

    def finish(self, pid: int, workers: int = 1, lines: int = 500) -> int:
        """Wait until that many workers have written more than `lines` operations, end the run, return the exit code.

        A run of a fixed time may contain nothing on a busy machine.
        """
        self.await_operations(workers, lines)
        os.kill(pid, signal.SIGTERM)
        return self.code(pid)

    def code(self, pid: int) -> int:
        """Wait until a process has ended, and return its exit code."""
        process = next(process for process in self._processes if process.pid == pid)
        try:
            return process.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the process has not ended:\n{self.log(pid)[-5000:]}")

    def interrupt(self, pid: int) -> None:
        """Send SIGINT to a process and its children, as Ctrl-C in its terminal does."""
        os.killpg(pid, signal.SIGINT)

    def result(self) -> dict[str, Any]:
        """Return the JSON result that the master wrote."""
        result: dict[str, Any] = json.loads(self.result_file.read_text())
        return result

    def post(self, path: str, **form: object) -> requests.Response:
        """Submit a form to the web page."""
        self.await_page()
        return requests.post(f"http://127.0.0.1:{self.web_port}{path}", data=form, timeout=WAIT_S)

    def post_reset(self) -> requests.Response:
        """Reset the statistics."""
        return self.post("/stats/reset")

    def get(self, path: str) -> requests.Response:
        """Request a path of the web page."""
        self.await_page()
        return requests.get(f"http://127.0.0.1:{self.web_port}{path}", timeout=WAIT_S)

    def living(self) -> list[psutil.Process]:
        """Return the processes that still run, including the children of those that were started."""
        sessions = {process.pid for process in self._processes}
        return [one for one in psutil.process_iter() if _session(one) in sessions and one.status() != "zombie"]

    def end(self) -> None:
        for process in self.living():
            process.kill()
        for started in self._processes:
            started.wait(WAIT_S)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return -1


class RecordingProxy(HostileServer):
    """Passes bytes between workers and their master, and keeps what it passed."""

    def __init__(self, master_port: int) -> None:
        self.passed = bytearray()
        self._master_port = master_port
        super().__init__(self._connect)

    def _connect(self, worker: socket.socket, _closing: threading.Event) -> None:
        # A master that is not there yet: the worker tries again.
        with socket.create_connection(("127.0.0.1", self._master_port)) as master:
            back = threading.Thread(target=self._pass, args=(master, worker), daemon=True)
            back.start()
            self._pass(worker, master)
            back.join()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                self.passed += piece
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):  # the other thread was first
                end.shutdown(socket.SHUT_RDWR)


PAGES = (
    "/",
    "/stats/requests",
    "/logs",
    "/stats/report",
    "/exceptions",
    "/tasks",
    "/consistency.csv",
    "/stale-share.json",
    "/stalewatch.js",
)


def artefacts(swarm: Swarm, proxy: RecordingProxy) -> dict[str, bytes]:
    """Return what others could see of a run, by place: files, pages, command lines, the bytes on the workers' port."""
    files = [file for file in swarm.folder.rglob("*") if file.is_file() and "home" not in file.parts]
    lines = [" ".join(process.cmdline()) for process in swarm.living()]
    return {
        **{f"page {path}": swarm.get(path).content for path in PAGES},
        **{str(file): file.read_bytes() for file in files},
        "command lines": "\n".join(lines).encode(),
        "workers' port": bytes(proxy.passed),
    }


def assert_keeps_secret(
    swarm: Swarm, secrets: Sequence[str], *master: str, env: dict[str, str], locustfile: str
) -> None:
    """Run a test from the page with one worker, and assert that nobody could see any of the secrets.

    A run with real servers: the passwords are needed, and work.
    """
    page = swarm.folder / "report.html"
    options = ("-L", "DEBUG", "--keys", "20", "--report", str(page), *master)
    pid = swarm.master(*options, locustfile=locustfile, env=env)
    with RecordingProxy(swarm.master_port) as proxy:
        worker = swarm.start(
            *("--worker", "--master-port", str(proxy.port), "-L", "DEBUG"), locustfile=locustfile, env=env
        )
        swarm.await_log(pid, "reported as ready")
        assert swarm.post("/swarm", user_count=2, spawn_rate=10).json()["success"]
        swarm.await_operations(lines=50)
        running = artefacts(swarm, proxy)
        assert swarm.post("/stop").json()["success"]
        found = {**artefacts(swarm, proxy), **{f"{place}, during the run": seen for place, seen in running.items()}}
        os.kill(pid, signal.SIGTERM)
        assert [swarm.code(pid), swarm.code(worker)] == [0, 0]
        found["logs at the end"] = (swarm.log(pid) + swarm.log(worker)).encode()
    result = swarm.result()
    assert sum(counts["ok"] for counts in result["operations"].values()) > 50
    assert b"parsed_options" in found["workers' port"]  # in clear, as there is no token
    assert str(page) in found
    for secret in secrets:
        assert [place for place, seen in found.items() if secret.encode() in seen] == [], secret


COUNTED = ("checked", "violated", "verdict")


def assert_agrees(result: dict[str, Any], histories: Path, workers: int | None = None) -> None:
    """Assert that a run's verdict equals that of `stalewatch check` on its history files: all counts and operations."""
    Draft202012Validator(schema()).validate(result)
    files = sorted(histories.glob(f"{result['run']}-*"))
    assert files
    assert workers is None or len(files) == workers
    again = check_result(judge_files(files).findings())
    for name, row in again["guarantees"].items():
        assert {field: result["guarantees"][name][field] for field in COUNTED} == {
            field: row[field] for field in COUNTED
        }, name
    for field in ("complete", "duplicate_items", "phantom_items"):
        assert result[field] == again[field], field
    unproved = again["verdict"] == "valid" and (result["ended_early"] or result["unread_keys"])  # files hold neither
    assert result["verdict"] == ("unknown" if unproved else again["verdict"])
    for field in ("causes", "staleness_s", "freshness", "fresh_after_s"):
        assert result["guarantees"]["stale_reads"][field] == again["guarantees"]["stale_reads"][field]
    assert outcomes(result["operations"]) == recorded(files)


KINDS = {"read": "read", "write": "write", "append": "write", "draw": "write"}


def outcomes(operations: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
    return {(kind, name): count for kind, counts in operations.items() for name, count in counts.items() if count}


def recorded(files: Sequence[Path]) -> dict[tuple[str, str], int]:
    """Return how many operations of each kind and outcome are in the files."""
    found: dict[tuple[str, str], int] = {}
    for file in files:
        for line in file.read_bytes().split(b"\n")[1:-1]:
            operation = json.loads(line)
            if operation["op"] in KINDS:
                name = (KINDS[operation["op"]], operation["outcome"])
                found[name] = found.get(name, 0) + 1
    return found


def operations(swarm: Swarm) -> list[dict[str, Any]]:
    """Return the operations of all histories, without the final reads."""
    lines = [line for file in swarm.histories.glob("*") for line in file.read_text().splitlines()[1:]]
    return [one for one in map(json.loads, lines) if one["op"] in {"read", "write", "append", "draw"}]


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
