"""The users of `locustfiles/` for benchmarks: with batches, or sampled in the course of a run."""

import json
import os
import time
from typing import Any

# ruff: noqa: E402 # the null server has to be in the table of databases before it is read
from benchmarks import null

null.register()

import gevent
import psutil
from locust import events, task
from locust.runners import MasterRunner

from benchmarks.subjects import CONTROL, Gate, answer_under_locust
from locustfiles.cassandra_users import CassandraUser
from locustfiles.couch_users import CouchUser
from locustfiles.memory_users import MemoryUser
from locustfiles.mongo_users import MongoUser
from stalewatch.locust import DatabaseUser

__all__ = ["CassandraUser", "CouchUser", "CountedUser", "MemoryUser", "MongoUser", "NullUser"]

SAMPLES = "BENCHMARKS_SAMPLES"
"""The environment variable with the file for samples of this process, one line every `SAMPLE_S`."""

SAMPLE_S = 5.0
BEAT_S = 0.05

gate = Gate()
begun: dict[str, float] = {}


class NullUser(DatabaseUser):
    """Reads and writes the null server."""

    database = "null"

    @task
    def next_operation(self) -> None:
        """Perform the workload's next operation."""
        self.step()


class CountedUser(MemoryUser):
    """A user of the simulated store; once the last of them has opened its session, prints what that took."""

    def on_start(self) -> None:
        """Open the session."""
        super().on_start()
        begun["users"] += 1
        if begun["users"] == int(os.environ.get("BENCHMARKS_SPAWNED", "0")):
            used = {"wall_s": time.monotonic() - begun["wall"], "cpu_s": time.process_time() - begun["cpu"]}
            print(json.dumps({"spawned": begun["users"], **used}), flush=True)


def _wait_time(_user: DatabaseUser) -> float:
    gate.passed()
    return 0


if CONTROL in os.environ:
    for users in (CassandraUser, CouchUser, MongoUser, NullUser):
        users.wait_time = _wait_time


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    begun.update(users=0, wall=time.monotonic(), cpu=time.process_time())
    if isinstance(environment.runner, MasterRunner):
        return
    answer_under_locust(gate, environment.runner.quit)
    if SAMPLES in os.environ:
        gevent.spawn(_sample_forever, environment)


def _sample_forever(environment: Any) -> None:  # noqa: ANN401 # Locust's
    process, lags, marked = psutil.Process(), [], time.monotonic()
    with open(os.environ[SAMPLES], "a", encoding="utf-8") as file:  # noqa: PTH123
        while True:
            begun = time.perf_counter()
            gevent.sleep(BEAT_S)
            lags.append(time.perf_counter() - begun - BEAT_S)
            if (now := time.monotonic()) - marked >= SAMPLE_S:
                marked = now
                sample = {
                    "at_s": now,
                    "cpu_s": time.process_time(),
                    "operations": environment.stats.total.num_requests,
                    "failures": environment.stats.total.num_failures,
                    "rss": process.memory_info().rss,
                    "lags_ms": [round(lag * 1000, 2) for lag in lags],
                }
                lags.clear()
                file.write(json.dumps(sample) + "\n")
                file.flush()
