"""Drills run from the command line, and the figures of the same run computed from its history files."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from stalewatch.clusters.local.mongo import MongoCluster
from stalewatch.history.operation import Append, Draw, Fault, Read, Write
from stalewatch.history.reader import History

ROOT = Path(__file__).parents[2]
NS = 1_000_000_000
KIND = {Read: "read", Write: "write", Append: "write", Draw: "write"}

BRIEF = ("--at", "2", "--for", "6", "--duration", "14", "--users", "10", "--keys", "200", "--rate", "300")
"""A short drill, of which an election takes four seconds."""


class Done(NamedTuple):
    """A finished drill."""

    code: int
    results: list[dict[str, Any]]
    histories: list[Path]
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        (one,) = self.results
        return one

    @property
    def history(self) -> Path:
        (one,) = self.histories
        return one


def start(
    database: str, fault: str, *options: str, home: Path, folder: Path, outputs: bool = True
) -> "subprocess.Popen[str]":
    """Start the command in a process session of its own."""
    files = ("--json", str(folder / "result.json"), "--history", str(folder / "history.jsonl")) if outputs else ()
    return subprocess.Popen(
        [sys.executable, "-m", "stalewatch", "drill", database, "--fault", fault, *options, *files],
        cwd=ROOT,
        env={**os.environ, "STALEWATCH_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def drill(database: str, fault: str, *options: str, home: Path, folder: Path, timeout_s: float = 280) -> Done:
    """Run a drill and wait for its end."""
    with start(database, fault, *options, home=home, folder=folder) as process:
        out, err = process.communicate(timeout=timeout_s)
    written = folder / "result.json"
    found = json.loads(written.read_text()) if written.exists() else []
    results = found if isinstance(found, list) else [found]
    return Done(process.returncode, results, sorted(folder.glob("*history.jsonl")), out, err)


def ended(histories: Sequence[Path], kind: str) -> list[tuple[int, str]]:
    """Return the end and the outcome of each attempt of a kind, over all files."""
    operations = [one for one, _ in History(list(histories)).operations()]
    return sorted(
        (one.end, one.outcome)
        for one in operations
        if not isinstance(one, Fault) and KIND.get(type(one)) == kind and one.end is not None  # type: ignore[call-overload]
    )


def faults(histories: Sequence[Path]) -> list[Fault]:
    return [one for one, _ in History(list(histories)).operations() if isinstance(one, Fault)]


def recovery_time_s(histories: Sequence[Path], kind: str) -> float:
    """Return the longest time between successes from the first fault on, by the definition."""
    broken = min(one.start for one in faults(histories))
    ok = [end for end, outcome in ended(histories, kind) if outcome == "ok"]
    return max(b - a for a, b in pairwise(ok) if b >= broken) / NS


def elections(cluster: MongoCluster) -> list[float]:
    """Return when members won elections, in seconds since the epoch, by their logs."""
    return sorted(
        datetime.fromisoformat(json.loads(line)["t"]["$date"]).timestamp()
        for log in cluster.folder.glob("*/server.log")
        for line in log.read_text(errors="replace").splitlines()
        if '"Election succeeded, assuming primary role"' in line and line.startswith("{")
    )


def figure(out: str, name: str) -> str:
    """Return the value of a plain line."""
    found = re.search(rf"^{re.escape(name)}: (.*)$", out, re.MULTILINE)
    if found is None:
        pytest.fail(f"no line {name!r} in:\n{out}")
    return found[1]
