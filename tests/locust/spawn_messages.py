"""Print how often Locust parses its own defaults while a worker handles spawn messages."""

from argparse import Namespace
from typing import Any

import gevent
from gevent.pool import Group
from locust import argument_parser
from locust.env import Environment
from locust.event import Events
from locust.rpc.protocol import Message
from locust.runners import STATE_RUNNING, WorkerRunner

import stalewatch.locust.user  # noqa: F401 # what a locustfile imports

MESSAGES, OPTIONS = 3, 50


class Unconnected(WorkerRunner):
    """A worker without a master, which spawns nobody."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.client = self  # type: ignore[assignment] # `send` is all it needs
        self.client_id = "worker"
        self.worker_state = STATE_RUNNING
        self.last_received_spawn_timestamp = 0
        self.spawning_greenlet = None
        self.greenlet = Group()

    def send(self, message: Message) -> None: ...

    def start_worker(self, user_classes_count: dict[str, int], **_: Any) -> None: ...


def main() -> None:
    parsed = 0
    setup = argument_parser.setup_parser_arguments

    def counted(parser: Any) -> None:
        nonlocal parsed
        parsed += 1
        setup(parser)

    argument_parser.setup_parser_arguments = counted
    worker = Unconnected(Environment(events=Events(), parsed_options=Namespace()))
    for number in range(1, MESSAGES + 1):
        sent = {f"option_{index}": number for index in range(OPTIONS)} | {"headless": True}
        job = {"timestamp": number, "host": None, "stop_timeout": 0, "user_classes_count": {}, "parsed_options": sent}
        worker.handle_message(Message("spawn", job, "worker"))
        gevent.sleep(0)
    options = vars(worker.environment.parsed_options)
    print(parsed, options["option_7"], "headless" in options)


if __name__ == "__main__":
    main()
