"""Running the bench in a subprocess, as users do, and the shapes of its first lines."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240

SHAPES = (
    r"write avg/p95 ms: \d+\.\d+ / \d+\.\d+",
    r"read avg/p95 ms: \d+\.\d+ / \d+\.\d+",
    r"stale_read_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"ryw_violation_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"monotonic_violation_rate: \d\.\d{4} \(\d+/\d+, 95% \d\.\d{4}-\d\.\d{4}\)",
    r"conflicts: 0",
)


def bench(*arguments: str, python: Path | str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "bench.py", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def result_of(done: subprocess.CompletedProcess[str], path: Path) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(path.read_text())
    return result
