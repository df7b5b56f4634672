"""Builders of JSON results with given figures, as a command would write them."""

import json
from pathlib import Path
from typing import Any

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import wilson
from stalewatch.engine.result import run_result
from stalewatch.recording.totals import Totals


def result(run: str = "r1", database: str = "memory", **options: object) -> dict[str, Any]:
    """Return the result of a run without operations."""
    judge = Judge()
    judge.finish()
    return run_result(
        Totals(judge.findings()),
        database=database,
        run=run,
        options=options,
        duration_s=1.5,
        workload_results={"workloads": ["register"]},
        extra={"interrupted": False},
    )


def with_counts(made: dict[str, Any], guarantee: str, violated: int, checked: int) -> dict[str, Any]:
    """Set the counts of one guarantee."""
    made["guarantees"][guarantee] |= {
        "verdict": "violated" if violated else "holds",
        "checked": checked,
        "violated": violated,
        "rate": violated / checked,
        "interval": list(wilson(violated, checked)),
    }
    made["verdict"] = "invalid" if violated else made["verdict"]
    return made


def with_latency(made: dict[str, Any], kind: str, times: str = "service_ms", **figures: float) -> dict[str, Any]:
    """Set a latency of one kind of operation."""
    made["latency"][kind][times] = {"avg": 1.0, "p50": 1.0, "p95": 2.0, "p99": 3.0, "max": 4.0} | figures
    return made


def with_staleness(made: dict[str, Any], p50: float, largest: float) -> dict[str, Any]:
    """Set how stale the stale reads were, in seconds."""
    made["guarantees"]["stale_reads"]["staleness_s"] = {"p50": p50, "p95": largest, "p99": largest, "max": largest}
    return made


def stale_result(run: str, violated: int, checked: int, **options: object) -> dict[str, Any]:
    """Return the result of a run with stale reads."""
    made = with_counts(result(run, **options), "stale_reads", violated, checked)  # type: ignore[arg-type] # options
    return with_staleness(made, 0.0123, 1.5)


def write_json(folder: Path, name: str, made: object) -> Path:
    path = folder / name
    path.write_text(json.dumps(made))
    return path
