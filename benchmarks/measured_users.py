"""The users of `locustfiles/`, with what an operation cost their process printed at the end of the run."""

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
"""When measuring begins, after connecting and creating keys."""

_begun: dict[str, float] = {}


@events.test_start.add_listener
def _begin(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    def note() -> None:
        _begun.update(cpu=time.process_time(), operations=environment.stats.total.num_requests)

    if not isinstance(environment.runner, MasterRunner):
        gevent.spawn_later(SETTLED_S, note)


@events.test_stopping.add_listener
def _end(environment: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's
    if _begun:
        operations = environment.stats.total.num_requests - _begun["operations"]
        print(f"cpu_us_per_operation: {(time.process_time() - _begun['cpu']) / operations * 1e6:.1f}", flush=True)
