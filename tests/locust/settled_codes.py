"""Print the exit codes that Locust ends with, for the cases on stdin; a process of its own, since Locust patches it.

A case holds our own code, the methods of the requests that failed, and the code that a user's handler chooses, if any.
"""

import json
import sys

from locust import User
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.event import Events

from stalewatch.locust.ending import settle_exit_code


class StoreUser(User):
    database = "memory"


def settled(own: int, failed: list[str], chosen: int | None) -> int | None:
    namespace = get_parser(default_config_files=[]).parse_args(["--exit-code-on-error", "5"])
    environment = Environment(events=Events(), user_classes=[StoreUser], parsed_options=namespace)
    environment.create_local_runner()
    settle_exit_code(environment, lambda: own)
    if chosen is not None:
        environment.events.quitting.add_listener(lambda **_: setattr(environment, "process_exit_code", chosen))
    for method in failed:
        environment.stats.log_error(method, "name", "refused")
    environment.events.quitting.fire(environment=environment, reverse=True)
    return environment.process_exit_code


print(json.dumps([settled(*case) for case in json.load(sys.stdin)]))
