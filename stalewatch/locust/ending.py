"""How runs and processes end under Locust: whether the load reached its time, and the process's exit code.

Separate from the master, since workers have exit codes too.
"""

import time
from collections.abc import Callable
from enum import Enum
from typing import Any

import gevent
from locust import log as locust_log
from locust.env import Environment
from locust.runners import MasterRunner, Runner

from stalewatch.locust.master_run import MasterRun
from stalewatch.locust.open_database import VIOLATION


class Hurry(Enum):
    """What a Ctrl-C hurries."""

    NOTHING = "nothing that ends: it is to end the run"
    ENDING = "an end that is under way, and goes on"
    HURRIED = "an end that is under way, and leaves something out from now on"


LOCUSTS_TIMERS = frozenset({"stop_and_optionally_quit", "_stop_runners"})
"""The functions that Locust runs, each in a greenlet of its own, when the run time is over: command line, page."""


def why_early(runner: Runner, run: MasterRun, *, interrupted: bool) -> str | None:
    """Return why the load ends before its time; call this in the greenlet that ends it.

    A run without a run time or load shape has no time that it could miss, unless something ended it by force.
    """
    cause = None if _is_timer(gevent.getcurrent()) else _cause(runner, run, interrupted=interrupted)
    if cause is None:
        return None
    limit = "" if run.run_time_s is None else f" of {run.run_time_s:g} s"
    return f"{cause}, after {time.monotonic() - run.started:.1f} s{limit}"


def _is_timer(greenlet: object) -> bool:
    return getattr(getattr(greenlet, "_run", None), "__name__", "") in LOCUSTS_TIMERS


def _cause(runner: Runner, run: MasterRun, *, interrupted: bool) -> str | None:
    for worker in run.workers:
        if worker.failure:
            return f"worker {worker.worker}: {worker.failure}"
    if isinstance(runner, MasterRunner) and not runner.worker_count and not interrupted:
        return f"no worker was left: {'all missed Locust heartbeats' if runner.clients.missing else 'all had quit'}"
    stopped = "interrupted" if interrupted else "stopped"
    if runner.environment.shape_class is not None:
        ended = runner.shape_greenlet is gevent.getcurrent()  # a shape ends the load itself
        return None if ended else f"{stopped} before the load shape ended"
    return None if run.run_time_s is None else stopped


def settle_exit_code(environment: Environment, own: Callable[[], int]) -> None:
    """Exit with the highest of `own`, Locust's own code, and what the user's `events.quitting` handlers chose.

    Those handlers see requests, and cannot know about expectations. Errors of our operations are outcomes to count, so
    unlike the errors of other users they do not raise Locust's code.
    """

    def settle(**_: Any) -> None:  # noqa: ANN401 # Locust's extras
        chosen = environment.process_exit_code
        environment.process_exit_code = max(own(), _locusts_own(environment) if chosen is None else chosen)

    # This event runs its handlers in reverse, and there is no public way to come after those of all locustfiles.
    environment.events.quitting._handlers.insert(0, settle)  # noqa: SLF001


def _locusts_own(environment: Environment) -> int:
    """Return the exit code that Locust would choose if our operations had not failed."""
    runner, namespace = environment.runner, environment.parsed_options
    classes = (environment.available_user_classes or {}).values()
    ours = {VIOLATION, *(getattr(one, "database", VIOLATION) for one in (*classes, *environment.user_classes))}
    if runner is not None and (runner.exceptions or any(error.method not in ours for error in runner.errors.values())):
        return 1 if namespace is None else int(namespace.exit_code_on_error)
    return 2 if locust_log.unhandled_greenlet_exception else 0
