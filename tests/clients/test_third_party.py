"""The database of docs/adding-a-database.md, registered by another package's entry point."""

import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stalewatch.clusters.local import ports
from tests.locust.conftest import Swarm, assert_agrees

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs/adding-a-database.md"
STORE = "            self._shelf.values[key] = value\n"
FORGET = "            if value.version % 10:\n                self._shelf.values[key] = value\n"
"""A bug: every tenth write is acknowledged and not stored."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def source(file: str) -> str:
    """Return a file of the guide, whose blocks start with its name."""
    return "\n\n".join(block for block in blocks("python") if block.startswith(f"# {file}"))


def install(folder: Path, *, package: str = "shelf", module: str, entry_points: str) -> dict[str, str]:
    """Install a package into a folder, and return the environment in which Python finds it."""
    information = folder / f"stalewatch_{package}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: stalewatch-{package}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(entry_points)
    (folder / f"{package}.py").write_text(module)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


@pytest.fixture
def shelf(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Install the guide's package, with some of its source replaced."""

    def make(replaced: str = "", by: str = "") -> dict[str, str]:
        groups = tomllib.loads(blocks("toml")[0])["project"]["entry-points"]
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in groups[group].items()) for group in groups
        ]
        module = source("shelf.py")
        assert not replaced or module.count(replaced) == 1
        return install(
            tmp_path / "site", module=module.replace(replaced, by) if replaced else module, entry_points="".join(lines)
        )

    return make


def stalewatch(
    arguments: Sequence[str | Path], environment: dict[str, str], code: int = 0
) -> subprocess.CompletedProcess[str]:
    process = subprocess.run(
        [sys.executable, "-m", "stalewatch", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == code, process.stderr
    return process


def bench(folder: Path, environment: dict[str, str], *arguments: str | Path) -> dict[str, Any]:
    result = folder / "result.json"
    load = ("--ops", "300", "--keys", "10", "--write-ratio", "0.5")
    stalewatch(("bench", "shelf", *load, "--json", result, *arguments), environment)
    found: dict[str, Any] = json.loads(result.read_text())
    return found


def test_the_bench_finds_a_correct_database_valid(tmp_path: Path, shelf: Callable[..., dict[str, str]]) -> None:
    result = bench(tmp_path, shelf(), "--shelf", "attic")
    assert (result["verdict"], result["complete"], result["database"]) == ("valid", True, "shelf")
    assert result["options"]["shelf"] == "attic"
    assert sum(result["operations"]["write"].values()) + sum(result["operations"]["read"].values()) == 300


def test_the_bench_finds_a_database_that_forgets_writes_invalid(
    tmp_path: Path, shelf: Callable[..., dict[str, str]]
) -> None:
    result = bench(tmp_path, shelf(STORE, FORGET))
    assert result["verdict"] == "invalid"
    assert result["guarantees"]["stale_reads"]["violated"]


def test_lists_and_counters_are_used_by_their_workloads(tmp_path: Path, shelf: Callable[..., dict[str, str]]) -> None:
    result = bench(tmp_path, shelf(), "--workload", "register,ledger,sequence")
    assert result["verdict"] == "valid"
    for guarantee in ("lost_writes", "unique_ids"):
        assert result["guarantees"][guarantee]["checked"]


def test_an_error_of_the_client_ends_the_run_with_its_message(shelf: Callable[..., dict[str, str]]) -> None:
    process = stalewatch(("bench", "shelf", "--keys", "10", "--capacity", "5"), shelf(), code=3)
    assert "the shelf 'books' is full (all 5 places are taken): choose fewer --keys" in process.stderr


def test_an_exception_of_the_session_has_the_outcome_of_its_row(
    tmp_path: Path, shelf: Callable[..., dict[str, str]]
) -> None:
    result = bench(tmp_path, shelf(), "--workload", "ledger", "--capacity", "100")
    assert result["operations"]["write"]["fail"] == 200
    assert [(one["error"], one["count"]) for one in result["errors"]] == [("ShelfFull", 200)]
    assert result["verdict"] == "valid"


def test_its_options_are_checked_and_listed(shelf: Callable[..., dict[str, str]]) -> None:
    environment = shelf()
    assert (
        "--capacity '0': must be a whole number"
        in stalewatch(("bench", "shelf", "--capacity", "0"), environment, code=2).stderr
    )
    help_text = stalewatch(("bench", "shelf", "--help"), environment).stdout
    assert "name of the shelf (default books) [SHELF_NAME]" in " ".join(help_text.split())


def test_reports_and_histories_of_it_can_be_read_without_its_package(
    tmp_path: Path, shelf: Callable[..., dict[str, str]]
) -> None:
    history = tmp_path / "run.jsonl"
    result = bench(tmp_path, shelf(), "--history", history)
    checked = json.loads(stalewatch(("check", "--json", history), {"PYTHONPATH": str(ROOT)}).stdout)
    assert checked["guarantees"] == result["guarantees"]
    assert "shelf: " in stalewatch(("report", tmp_path / "result.json"), {"PYTHONPATH": str(ROOT)}).stdout


def test_drills_do_not_offer_a_database_without_a_cluster(shelf: Callable[..., dict[str, str]]) -> None:
    environment = shelf()
    assert "shelf" not in stalewatch(("drill", "--list"), environment).stdout
    refused = stalewatch(("drill", "shelf", "--fault", "kill-primary"), environment, code=2)
    assert "invalid choice: 'shelf'" in refused.stderr


def locustfile(folder: Path) -> str:
    path = folder / "locustfile.py"
    path.write_text(source("locustfile.py"))
    return str(path)


LOAD = ("--headless", "-u", "5", "-r", "100", "--keys", "5", "--rate", "500")


def test_locust_finds_a_correct_database_valid(
    tmp_path: Path, swarm: Swarm, shelf: Callable[..., dict[str, str]]
) -> None:
    pid = swarm.alone(*LOAD, "--shelf", "attic", locustfile=locustfile(tmp_path), env=shelf())
    assert swarm.finish(pid) == 0, swarm.log(pid)
    result = swarm.result()
    assert (result["verdict"], result["complete"], result["database"]) == ("valid", True, "shelf")
    assert re.search(r"shelf +write memory", swarm.log(pid))
    assert_agrees(result, swarm.histories)


def test_locust_finds_a_database_that_forgets_writes_invalid(
    tmp_path: Path, swarm: Swarm, shelf: Callable[..., dict[str, str]]
) -> None:
    expected = ("--expect", "stale_reads=0")
    pid = swarm.alone(*LOAD, *expected, locustfile=locustfile(tmp_path), env=shelf(STORE, FORGET))
    assert swarm.finish(pid) == 1, swarm.log(pid)
    assert swarm.result()["verdict"] == "invalid"


def test_locust_exposes_metrics_of_it(tmp_path: Path, swarm: Swarm, shelf: Callable[..., dict[str, str]]) -> None:
    (port,) = ports.free(1)
    swarm.alone(*LOAD, "--metrics-port", str(port), locustfile=locustfile(tmp_path), env=shelf())
    swarm.await_operations(lines=50)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        assert 'database="shelf"' in answer.read().decode()
