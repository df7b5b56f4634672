"""Verdicts on recorded histories are the same to the byte; `tests.checkers.record` records them again.

`recorded.json.gz` holds 200 runs: 160 generated ones, with up to three files each, and 40 seeded runs of the simulated
store, with what `stalewatch check --json` printed of each.
"""

import gzip
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stalewatch.commands.main import main

ROOT = Path(__file__).parents[2]
RECORDED: dict[str, Any] = json.loads(gzip.decompress(Path(__file__).with_name("recorded.json.gz").read_bytes()))


def test_recorded_histories_get_the_verdicts_that_they_got(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(RECORDED["histories"]) == 200
    for number, case in enumerate(RECORDED["histories"]):
        paths = [tmp_path / f"{number}-{index}.jsonl" for index in range(len(case["files"]))]
        for path, text in zip(paths, case["files"], strict=True):
            path.write_text(text)
        code = main(["check", "--json", *map(str, paths)])
        assert (code, capsys.readouterr().out) == (case["exit"], case["json"]), number


@pytest.mark.parametrize("case", RECORDED["seeded"][:8], ids=lambda case: " ".join(case["arguments"][:4]))
def test_seeded_runs_give_the_operations_that_they_gave(case: dict[str, Any], tmp_path: Path) -> None:
    history, result = tmp_path / "h.jsonl", tmp_path / "r.json"
    files = ("--history", str(history), "--json", str(result))
    done = subprocess.run(
        [sys.executable, "bench.py", "memory", *case["arguments"], *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[:6] == case["stdout"]
    operations = history.read_text().partition("\n")[2].replace(json.loads(result.read_text())["run"], "RUN")
    assert hashlib.sha256(operations.encode()).hexdigest() == case["operations_sha256"]
