"""The users of `locustfiles/`; the CPU time per operation of their process is printed at the end of the run."""

import time
from typing import Any

import gevent
from locust import events
from locust.runners import MasterRunner

from locustfiles.cassandra_users import CassandraUser
from locustfiles.couch_users import CouchUser
from locustfiles.memory_users import MemoryUser
from locustfiles.mongo_users import MongoUser

__all__ = ["CassandraUser", "CouchUser", "MemoryUser", "MongoUser"]

SETTLED_S = 2.0
"""When measuring starts: after connecting and creating keys."""

_started: dict[str, float] = {}


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    def note() -> None:
        _started.update(cpu=time.process_time(), operations=environment.stats.total.num_requests)

    if not isinstance(environment.runner, MasterRunner):
        gevent.spawn_later(SETTLED_S, note)


@events.test_stopping.add_listener
def _end(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    if _started:
        operations = environment.stats.total.num_requests - _started["operations"]
        print(f"cpu_us_per_operation: {(time.process_time() - _started['cpu']) / operations * 1e6:.1f}", flush=True)
