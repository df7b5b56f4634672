"""The worker's side of a run; a process that is its own master has it too."""

import logging
import math
import time
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import gevent
import msgspec
from gevent.event import AsyncResult, Event
from locust import argument_parser
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from stalewatch.clients.options import parse_options
from stalewatch.engine import stopping
from stalewatch.exit_codes import USAGE
from stalewatch.history.clock import RealClock
from stalewatch.locust import messages
from stalewatch.locust.ending import Hurry, settle_exit_code
from stalewatch.locust.messages import ClockOffset, ClockSample, Hello, Idle, Refusal
from stalewatch.locust.metrics import WorkerMetrics
from stalewatch.locust.open_database import WorkerRunSettings
from stalewatch.locust.options import Secrets, path
from stalewatch.locust.worker_run import WorkerRun
from stalewatch.recording.statistics import StallDetector
from stalewatch.workloads.options import LoadOptions

log = logging.getLogger("stalewatch")

REPORT_S = 1.0
"""How often a worker reports; what a killed one did after its last report is only in its history file."""

CLOCK_SAMPLES = 5
CLOCK_WAIT_S = 2.0
REFUSED_EXIT = 1
"""The exit code of a worker that the master refuses because of its run; because of its version, it is `USAGE`."""

LOOK_S = 0.2
"""How often a worker that waits for its turn looks whether its run is over, or its master lost."""

SAME_CTRL_C_S = 5.0
"""For how long after the end of the load the first Ctrl-C may be the one that ended it."""

LOCAL_MASTERS = frozenset({"127.0.0.1", "localhost", "::1"})

INIT_S = 30.0

_WORKERS: "WeakKeyDictionary[Environment, AsyncResult[Worker]]" = WeakKeyDictionary()


def parse_locusts_defaults_once() -> None:
    """Make Locust build the parser of its own options once per process.

    Locust 2.47 builds it again for each option of each spawn message, to find the options that are not its own: 0.1 s
    of CPU a message, many messages while users are spawned, and meanwhile no heartbeat. It has no hook for this. The
    result is the same each time and nobody changes it.
    """
    argument_parser.default_args_dict = cache(argument_parser.default_args_dict)


def worker_of(environment: Environment) -> "Worker":
    """Return the worker of that environment, once there is one.

    A worker that joins a running test is told to spawn users as soon as it is connected, before Locust's init event.
    """
    worker: Worker = _WORKERS.setdefault(environment, AsyncResult()).get(timeout=INIT_S)
    return worker


class Worker:
    """Takes part in every run that the master starts: reports on it, and ends it on request or with the process."""

    def __init__(self, environment: Environment, runner: Runner, secrets: Secrets) -> None:
        self.users = 1
        """The target number of users over all workers who share the rate."""
        self._environment = environment
        self._runner = runner
        self._secrets = secrets
        self._own_clock = RealClock()
        self._run: AsyncResult[WorkerRun | None] = AsyncResult()
        self._run.set(None)
        self._reported_last: set[str] = set()
        self._refused = 0
        """The exit code, once the master has refused this worker."""
        self._interrupted = False
        self._failure: Idle | None = None
        """The run that this worker could not start."""
        self._turns: defaultdict[str, deque[Event]] = defaultdict(deque)
        self._metrics = WorkerMetrics(runner, self._started_run)
        self._clock_answers: dict[int, AsyncResult[ClockSample]] = {}
        self._listen()
        if isinstance(runner, WorkerRunner):
            # Locust looks for a lost master only once it has heard from it.
            runner.last_heartbeat_timestamp = runner.last_heartbeat_timestamp or time.time()
            self._greet()
        if hasattr(environment.parsed_options, messages.RUN):  # the test has started already
            self._on_test_start(environment)
        _WORKERS.setdefault(environment, AsyncResult()).set(self)
        gevent.spawn(self._report_forever)

    def _listen(self) -> None:
        register, events = self._runner.register_message, self._environment.events
        register(messages.DRAIN, self._on_drain)
        register(messages.USERS, self._on_users)
        if isinstance(self._runner, WorkerRunner):
            register(messages.CLOCK, self._on_clock)
            register(messages.TURN, self._on_turn)
            register(messages.REFUSED, self._on_refused)
        events.test_start.add_listener(self._on_test_start)
        events.quitting.add_listener(self._on_quitting)
        if isinstance(self._runner, WorkerRunner):
            settle_exit_code(self._environment, lambda: self._refused)

    def _greet(self) -> None:
        self._runner.send_message(messages.HELLO, msgspec.to_builtins(Hello()))

    def run(self) -> WorkerRun | None:
        """Wait until the current run has started in this process, and return it; None if there is none."""
        run: WorkerRun | None = self._run.get()
        return run

    def _on_test_start(self, environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Start the run in a new greenlet: this one has to receive the master's answers."""
        if isinstance(self._runner, WorkerRunner):
            self._greet()  # again: the master may not have listened yet when this worker joined
        starting: AsyncResult[WorkerRun | None] = AsyncResult()
        self._turns.clear()  # turns of an earlier run will not be granted any more
        self._run = starting
        options = Namespace(**vars(environment.parsed_options or Namespace()))
        self.users = int(getattr(options, messages.TARGET, 1) or 1)
        gevent.spawn(self._start, options).link(starting)

    def _start(self, options: Namespace) -> WorkerRun | None:
        try:
            return self._start_run(options)
        except Exception as error:  # nobody may wait for a run that never starts
            log.exception("this worker cannot start the run: does the master use the same locustfile?")
            text = f"it cannot start the run: {type(error).__name__}: {error}"
            self._failure = Idle(str(getattr(options, messages.RUN, "")), text)
            self._runner.send_message(messages.IDLE, msgspec.to_builtins(self._failure))
            return None

    def _start_run(self, options: Namespace) -> WorkerRun | None:
        load = parse_options(LoadOptions, options)
        offset = self._measured_offset()
        if self._refused:  # the master refuses a worker before it answers about its clock
            return None
        clock = self._own_clock.shifted(offset.offset_ns if offset else 0)
        settings = WorkerRunSettings(
            run=str(getattr(options, messages.RUN)),
            worker=int(getattr(self._runner, "worker_index", 0)),
            options=options,
            secrets=self._secrets,
            load=load,
            clock=clock,
            stalls=StallDetector(clock),
            environment=self._environment,
            history_dir=path(options, "history_dir"),
            turn=self._turn if isinstance(self._runner, WorkerRunner) else lambda _database: nullcontext(),
            users=math.ceil(self.users / max(1, getattr(options, messages.WORKERS, 1))),
            own_master=not isinstance(self._runner, WorkerRunner),
            metrics=self._metrics.serve(options),
            local=not isinstance(self._runner, WorkerRunner) or self._runner.master_host in LOCAL_MASTERS,
        )
        run = WorkerRun(settings, offset)
        self._send(run)
        return run

    def _started_run(self) -> WorkerRun | None:
        return self._run.get() if self._run.ready() else None

    def _measured_offset(self) -> ClockOffset | None:
        if not isinstance(self._runner, WorkerRunner):
            return None
        samples = [sample for _ in range(CLOCK_SAMPLES) if (sample := self._clock_sample())]
        return ClockOffset(samples) if samples else None

    def _clock_sample(self) -> ClockSample | None:
        sent = self._own_clock.now()
        answer = self._clock_answers[sent] = AsyncResult()
        self._runner.send_message(messages.CLOCK, {"sent": sent})
        sample: ClockSample | None = answer.wait(CLOCK_WAIT_S)
        del self._clock_answers[sent]
        return sample

    def _on_clock(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        received, answer = self._own_clock.now(), self._clock_answers.get(msg.data["sent"])
        if answer is not None:
            answer.set(ClockSample(msg.data["sent"], received, msg.data["master"]))

    @contextmanager
    def _turn(self, database: str) -> Iterator[None]:
        """Wait until this worker may open the database, and tell the master whether that succeeded."""
        turn_of: dict[str, Any] = {"run": getattr(self._environment.parsed_options, messages.RUN), "database": database}
        turn = Event()
        self._turns[database].append(turn)  # users of several workloads open a database several times
        self._runner.send_message(messages.TURN, turn_of)
        opened = False
        try:
            while not turn.wait(LOOK_S) and not self._is_over():
                pass  # a master that is lost, or was stopped, grants no turn
            yield
            opened = True
        finally:
            self._runner.send_message(messages.TURN_OVER, {**turn_of, "opened": opened})

    def _is_over(self) -> bool:
        run = self._started_run()
        return run is not None and run.over

    def _on_turn(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        if waiting := self._turns[msg.data["database"]]:
            waiting.popleft().set()

    def _on_users(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self.users = max(1, int(msg.data["users"]))

    def _on_drain(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        gevent.spawn(self._drain, msg.data["run"])

    def _drain(self, name: str) -> None:
        run = self._run.get()
        if run is None or run.settings.run != name or name in self._reported_last:
            failed = self._failure is not None and self._failure.run == name
            self._runner.send_message(messages.IDLE, msgspec.to_builtins(self._failure if failed else Idle(name)))
        else:
            self._end(run)

    def _end(self, run: WorkerRun) -> None:
        run.end()
        if run.settings.run not in self._reported_last:
            self._reported_last.add(run.settings.run)
            self._send(run, last=True)

    def _send(self, run: WorkerRun, *, last: bool = False) -> None:
        self._runner.send_message(messages.REPORT, {"report": messages.encode(run.report(last=last))})

    def _report_forever(self) -> None:
        while True:
            gevent.sleep(REPORT_S)
            run = self._started_run()
            if run is None or run.settings.run in self._reported_last:
                continue
            try:
                self._send(run)
            except Exception:  # without reports, this worker would count as lost
                log.exception("cannot send a report to the master")
            if run.offset is not None and (sample := self._clock_sample()):
                run.offset.add(sample)

    def _on_refused(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        refusal, run = msgspec.convert(msg.data, Refusal), self._started_run()
        if self._refused:
            return
        if refusal.reason is not None:
            log.error("refused by the master: %s", refusal.reason)
            self._leave(USAGE)
        elif run is not None and run.settings.run != refusal.run:
            log.error(
                "refused by the master: this worker is still in run %s, but %s; exiting, start this worker again",
                run.settings.run,
                f"the master is in run {refusal.run}" if refusal.run else "the master has no run",
            )
            self._leave(REFUSED_EXIT)

    def _leave(self, code: int) -> None:
        self._refused = code
        gevent.spawn(self._runner.quit)

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """End the run: whatever ends this process, its last report reaches the master first, if there is a master."""
        if isinstance(self._runner, WorkerRunner):
            stopping.in_background(stopping.exit_after, stopping.LOCUST_STOP_S, 1)
        run = self._run.wait(timeout=CLOCK_WAIT_S * CLOCK_SAMPLES)
        if run is not None:
            self._end(run)

    def on_interrupt(self) -> Hurry:
        """Skip the rest of the final reads if the run is ending already, and this Ctrl-C is not what ended it.

        A terminal sends Ctrl-C to the master and to its workers. On a busy machine, the master's message that the load
        is over can be here before this process has looked at the signal.
        """
        first, self._interrupted = not self._interrupted, True
        run = self._started_run()
        if run is None or run.over_since is None or run.ended.is_set():
            return Hurry.NOTHING
        if first and isinstance(self._runner, WorkerRunner) and time.monotonic() - run.over_since < SAME_CTRL_C_S:
            return Hurry.ENDING
        run.abandoned = True
        return Hurry.HURRIED
