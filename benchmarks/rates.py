"""Whether response times tell the truth about a server that stalls for two seconds, in the bench and under Locust.

Operations are due at fixed times. One that is due during the stall counts from then, although its session could not
send it before (else percentiles would show next to nothing of the stall: coordinated omission). The truth is computed
here operation by operation, from the formula of due times and the median service time of the same run.
"""

import json
import math
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measurement import Row, output_of, progress
from benchmarks.operation import HERE, null_server

RATES = (200, 500, 1000)
USERS = 20
DURATION_S, STALL_AFTER_S, STALL_S = 10.0, 3.0, 2.0
SPARE = 2.5
"""How many times the rate the users can reach together, so that they catch up within the run."""

PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
COMPARED = ("p95", "p99")
"""The median is the service time, which the truth is computed from."""

BENCH = "from benchmarks import null; null.register(); from stalewatch.__main__ import start; raise SystemExit(start())"


def measure(_rounds: int) -> Iterator[Row]:
    """Yield the largest error of a percentile, and how little of the stall service times show."""
    for rate in RATES:
        for name in ("bench", "Locust"):
            progress(f"rates: {name} at {rate} operations/s")
            latency = _run(name, rate)["latency"]["read"]
            measured, service_ms = latency["response_ms"], latency["service_ms"]
            if measured is None:
                raise SystemExit(f"rates: {name} at {rate}/s left out all latencies: its process was not run for long")
            truth = true_ms(rate, service_ms["p50"] / 1000)
            errors = [abs(measured[one] / truth[one] - 1) * 100 for one in COMPARED]
            figures = ", ".join(f"{one} {measured[one]:.0f} (truth {truth[one]:.0f})" for one in COMPARED)
            note = f"ms: {figures}; service time p95 {service_ms['p95']:.0f}"
            what = f"{name} at {rate}/s: largest error"
            yield Row("rates", what, max(errors), "%", min(errors), max(errors), "<= 2", note)


def true_ms(rate: float, service_s: float) -> dict[str, float]:
    """Return percentiles of the response times of all operations that are due in the run, in milliseconds."""
    times = []
    for user in range(USERS):
        ended = 0.0
        for number in range(round(DURATION_S * rate / USERS)):
            due = (user + number * USERS) / rate
            start = max(due, ended)
            stalled = STALL_AFTER_S <= start < STALL_AFTER_S + STALL_S
            ended = (STALL_AFTER_S + STALL_S if stalled else start) + service_s
            times.append((ended - due) * 1000)
    times.sort()
    return {name: times[math.ceil(share * len(times)) - 1] for name, share in PERCENTILES.items()}


def _run(name: str, rate: int) -> dict[str, Any]:
    service_s = USERS / rate / SPARE
    server = null_server(str(STALL_AFTER_S), str(STALL_S), str(service_s))
    with server as (port,), tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        load = ("--null-port", port, "--rate", str(rate), "--write-ratio", "0.1", "--seed", "1")
        if name == "bench":
            once = ("--users", str(USERS), "--duration", str(DURATION_S), "--json", str(result))
            command: list[str] = ["-c", BENCH, "bench", "null", *load, *once]
        else:
            once = ("-u", str(USERS), "-r", "1000", "-t", f"{DURATION_S:.0f}s", "--report-json", str(result))
            command = ["-m", "locust", "--headless", "--only-summary", "-f", str(HERE / "our_users.py")]
            command += [*once, *load, "NullUser"]
        output_of([sys.executable, *command], PYTHONPATH=str(HERE.parent))
        found: dict[str, Any] = json.loads(result.read_text())
        return found
