"""Users of the simulated store, and an injector of our own: the page's path `/faults/begin` hits two nodes."""

from typing import Any

from locust import events, task

from stalewatch.locust import DatabaseUser
from stalewatch.locust.metrics import faults_of

NODES = ("node-0", "node-1")


class SomeUser(DatabaseUser):
    database = "memory"

    @task
    def read_or_write(self) -> None:
        self.step()


@events.init.add_listener
def on_init(environment: Any, **_: Any) -> None:
    if environment.web_ui is None:
        return

    @environment.web_ui.app.route("/faults/<what>")
    def report(what: str) -> str:
        faults = faults_of(environment)
        for node in NODES:
            (faults.begin if what == "begin" else faults.end)("partition", node)
        return what
