"""The side of a process that has users: a worker's, or that of a process that is its own master."""

import logging
from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.event import AsyncResult, Event
from locust.env import Environment
from locust.runners import Runner, WorkerRunner

from stalewatch.clients.options import parse_options
from stalewatch.history.clock import RealClock
from stalewatch.locust import flags, messages
from stalewatch.locust.clock_offset import ClockOffset, Sample
from stalewatch.locust.interrupts import Interrupts
from stalewatch.locust.part import Setting
from stalewatch.locust.report import encode
from stalewatch.locust.secrets import Vault
from stalewatch.locust.share import Share
from stalewatch.locust.worker_metrics import WorkerMetrics
from stalewatch.recording.statistics import StallDetector
from stalewatch.workloads.options import LoadOptions

log = logging.getLogger("stalewatch")

REPORT_S = 1.0
"""How often a worker reports; what a killed one did after its last report is only in its history file."""

CLOCK_SAMPLES = 5
CLOCK_WAIT_S = 2.0
UNWANTED = 1
"""The exit code of a worker that the master does not want."""

LOCAL_MASTERS = frozenset({"127.0.0.1", "localhost", "::1"})

INIT_S = 30.0

_PARTICIPANTS: "WeakKeyDictionary[Environment, AsyncResult[Participant]]" = WeakKeyDictionary()


def participant_of(environment: Environment) -> "Participant":
    """Return the participant of that environment, once there is one.

    A worker that joins a running test is told to spawn users as soon as it is connected, before Locust's init event.
    """
    participant: Participant = _PARTICIPANTS.setdefault(environment, AsyncResult()).get(timeout=INIT_S)
    return participant


class Participant:
    """Takes its share of every run that the master starts, reports on it, and ends it when asked or when it leaves."""

    def __init__(self, environment: Environment, runner: Runner, interrupts: Interrupts, vault: Vault) -> None:
        self.users = 1
        """The users that there are to be in the whole run, among whom the rate is divided."""
        self._environment = environment
        self._runner = runner
        self._vault = vault
        self._own_clock = RealClock()
        self._share: AsyncResult[Share | None] = AsyncResult()
        self._share.set(None)
        self._reported_last: set[str] = set()
        self._refused = False
        self._turns: defaultdict[str, deque[Event]] = defaultdict(deque)
        self._metrics = WorkerMetrics(runner, self._running_share)
        self._clock_answers: dict[int, AsyncResult[Sample]] = {}
        self._listen()
        if hasattr(environment.parsed_options, messages.RUN):  # the test's start came before us, with its options
            self._on_test_start(environment)
        _PARTICIPANTS.setdefault(environment, AsyncResult()).set(self)
        interrupts.hurries(self._on_interrupt)
        gevent.spawn(self._report_for_ever)

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

    def share(self) -> Share | None:
        """Return the share of the run that is under way, once the run has begun here; None where there is none."""
        share: Share | None = self._share.get()
        return share

    def _on_test_start(self, environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Begin in a greenlet of its own: this one has to hear the master's answers."""
        beginning: AsyncResult[Share | None] = AsyncResult()
        self._turns.clear()  # whoever waits for a turn of an earlier run waits in vain
        self._share = beginning
        options = self._vault.opened(environment.parsed_options or Namespace())
        self.users = int(getattr(options, messages.TARGET, 1) or 1)
        gevent.spawn(self._begin, options).link(beginning)

    def _begin(self, options: Namespace) -> Share | None:
        try:
            return self._begun(options)
        except Exception:  # nobody may wait for a share that never comes
            log.exception("this worker cannot take part: does the master run the same locustfile?")
            return None

    def _begun(self, options: Namespace) -> Share:
        load = parse_options(LoadOptions, options)
        offset = self._measured_offset()
        clock = self._own_clock.shifted(offset.offset_ns if offset else 0)
        setting = Setting(
            run=str(getattr(options, messages.RUN)),
            worker=int(getattr(self._runner, "worker_index", 0)),
            options=options,
            load=load,
            clock=clock,
            stalls=StallDetector(clock),
            environment=self._environment,
            history_dir=flags.path(options, "history_dir"),
            turn=self._turn if isinstance(self._runner, WorkerRunner) else lambda _database: nullcontext(),
            own_master=not isinstance(self._runner, WorkerRunner),
            metrics=self._metrics.serve(options),
            local=not isinstance(self._runner, WorkerRunner) or self._runner.master_host in LOCAL_MASTERS,
        )
        share = Share(setting, offset)
        self._send(share)
        return share

    def _running_share(self) -> Share | None:
        return self._share.get() if self._share.ready() else None

    def _measured_offset(self) -> ClockOffset | None:
        if not isinstance(self._runner, WorkerRunner):
            return None
        samples = [sample for _ in range(CLOCK_SAMPLES) if (sample := self._clock_sample())]
        return ClockOffset(samples) if samples else None

    def _clock_sample(self) -> Sample | None:
        sent = self._own_clock.now()
        answer = self._clock_answers[sent] = AsyncResult()
        self._runner.send_message(messages.CLOCK, {"sent": sent})
        try:
            sample: Sample = answer.get(timeout=CLOCK_WAIT_S)
        except gevent.Timeout:
            return None
        else:
            return sample
        finally:
            del self._clock_answers[sent]

    def _on_clock(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        received, answer = self._own_clock.now(), self._clock_answers.get(msg.data["sent"])
        if answer is not None:
            answer.set(Sample(msg.data["sent"], received, msg.data["master"]))

    @contextmanager
    def _turn(self, database: str) -> Iterator[None]:
        """Wait until this worker may open the database, and tell the master how that ended."""
        told: dict[str, Any] = {"run": getattr(self._environment.parsed_options, messages.RUN), "database": database}
        turn = Event()
        self._turns[database].append(turn)  # users of several workloads open a database several times
        self._runner.send_message(messages.TURN, told)
        opened = False
        try:
            turn.wait()
            yield
            opened = True
        finally:
            self._runner.send_message(messages.TURN_OVER, {**told, "opened": opened})

    def _on_turn(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self._turns[msg.data["database"]].popleft().set()

    def _on_users(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self.users = max(1, int(msg.data["users"]))

    def _on_drain(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        gevent.spawn(self._drain, msg.data["run"])

    def _drain(self, run: str) -> None:
        share = self._share.get()
        if share is None or share.setting.run != run or run in self._reported_last:
            self._runner.send_message(messages.IDLE, {"run": run})
        else:
            self._end(share)

    def _end(self, share: Share) -> None:
        share.end()
        if share.setting.run not in self._reported_last:
            self._reported_last.add(share.setting.run)
            self._send(share, last=True)

    def _send(self, share: Share, *, last: bool = False) -> None:
        self._runner.send_message(messages.REPORT, {"report": encode(share.report(last=last))})

    def _report_for_ever(self) -> None:
        while True:
            gevent.sleep(REPORT_S)
            share = self._running_share()
            if share is None or share.setting.run in self._reported_last:
                continue
            try:
                self._send(share)
            except Exception:  # whatever it was, a silent worker would count as lost
                log.exception("a report could not be sent")
            if share.offset is not None and (sample := self._clock_sample()):
                share.offset.take(sample)

    def _on_refused(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        share = self._running_share()
        if share is not None and share.setting.run != msg.data["run"] and not self._refused:
            log.error(
                "refused: this worker still takes part in run %s, the master %s; it leaves now, start it again",
                share.setting.run,
                f"runs {msg.data['run']}" if msg.data["run"] else "runs nothing",
            )
            self._refused = True
            gevent.spawn(self._runner.quit)

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Leave in order: whatever ends this process, what its sessions saw reaches the master first."""
        if isinstance(self._runner, WorkerRunner):  # what is missed or fails is the master's to say
            self._environment.process_exit_code = UNWANTED if self._refused else 0
        share = self._share.get(timeout=CLOCK_WAIT_S * CLOCK_SAMPLES)
        if share is not None:
            self._end(share)

    def _on_interrupt(self) -> bool:
        """Leave the final reads out where the end is under way already; tell whether it is."""
        share = self._running_share()
        if share is None or not share.over or share.ended.is_set():
            return False
        share.abandoned = True
        return True
