"""The page of a very large run."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.engine.result import run_result
from stalewatch.history.operation import Read, Write
from stalewatch.recording.statistics import Statistics
from stalewatch.recording.totals import Totals

OPERATIONS, KEYS, PER_SECOND = 5_000_000, 1000, 500
MOST_S, MOST_BYTES, MOST_MEMORY_KB = 60, 2_000_000, 500_000

REPORT = """
import resource, sys
from stalewatch.commands.main import main
code = main(["report", *sys.argv[1:]])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def judged_run() -> Totals:
    """Judge reads and writes of a store whose followers are a write behind now and then."""
    rng, judge, statistics, total = random.Random(5), Judge(), Statistics(), Totals()
    versions, now = [0] * KEYS, 10**18
    for number in range(OPERATIONS):
        now += 1_000_000_000 // PER_SECOND
        key, node = rng.randrange(KEYS), f"m{number % 3}"
        times = {"start": now - rng.randrange(500_000, 1_500_000), "end": now, "outcome": "ok", "node": node}
        if rng.random() < 0.3:
            versions[key] += 1
            operation = Write(session=f"s{number % 50}", key=f"k{key}", version=versions[key], **times)  # type: ignore[arg-type] # of several types
        else:
            seen = max(0, versions[key] - (node == "m2" and rng.random() < 0.05))
            operation = Read(session=f"s{number % 50}", key=f"k{key}", version=seen, **times)  # type: ignore[arg-type]
        statistics.on_operation(operation, judge.observe(operation))
        if number % 100_000 == 0:
            total.merge(Totals(judge.drain(), statistics.drain()))
    judge.finish()
    total.merge(Totals(judge.drain(), statistics.drain()))
    return total


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_page_of_five_million_operations_is_small_and_soon_made(tmp_path: Path) -> None:
    made = run_result(
        judged_run(),
        database="mongo",
        run="r",
        options={"write_concern": "1", "read_from": "secondary"},
        duration_s=OPERATIONS / PER_SECOND,
        workload_results={"workloads": ["register"]},
        extra={},
    )
    assert sum(row["ok"] for row in made["operations"].values()) == OPERATIONS
    assert made["guarantees"]["stale_reads"]["violated"] > 10_000
    result, html = tmp_path / "r.json", tmp_path / "r.html"
    result.write_text(json.dumps(made))
    command = [sys.executable, "-c", REPORT, str(result), "--html", str(html)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cpu_s, memory_kb = map(float, done.stderr.split()[-2:])
    print(f"{cpu_s:.1f} s of CPU, {memory_kb / 1024:.0f} MB, page of {html.stat().st_size:,} bytes")
    assert cpu_s < MOST_S
    assert memory_kb < MOST_MEMORY_KB
    assert html.stat().st_size < MOST_BYTES
