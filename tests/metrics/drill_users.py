"""Users of a replica set whose primary is killed by the master in the middle of the run, and started again later."""

import os
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from load.master_metrics import faults_of
from locustfiles.mongo_users import MongoUser
from replication.local.mongo import MongoCluster

__all__ = ["MongoUser"]

KILL_AFTER_S = float(os.environ.get("DRILL_KILL_AFTER_S", "9"))
DOWN_S = 8.0


@events.test_start.add_listener
def on_test_start(environment: Environment, **_: Any) -> None:
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn_later(KILL_AFTER_S, drill, environment)


def drill(environment: Environment) -> None:
    cluster = MongoCluster(Path(os.environ["DRILL_HOME"]))
    primary = cluster.primary()
    assert primary is not None
    with faults_of(environment).on("kill", primary):
        cluster.kill(primary)
        gevent.sleep(DOWN_S)
    cluster.restart(primary)
