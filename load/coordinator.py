"""The master's side: names runs, adds up what workers report, drains them at the end, and makes the verdict."""

import logging
import secrets
import time
from argparse import Namespace
from collections.abc import Callable, Collection
from random import SystemRandom
from typing import Any, NoReturn

import gevent
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import STATE_STOPPING, MasterRunner, Runner

from clients.errors import BadAddress
from history.clock import RealClock
from load import flags, messages
from load.interrupts import Interrupts
from load.master_metrics import meter_of
from load.outcome import outcome
from load.report import Report, decode
from load.roster import SILENCE_S
from load.run import Run
from load.salvage import salvage
from load.totals import nothing_yet

log = logging.getLogger("stalewatch")

USAGE, INTERRUPTED = 2, 130
LOCAL = "local"
"""What Locust calls a process that is its own master."""

REFUSALS_TOLD = 10
TICK_S = 0.1
TELL_S = 5.0
"""How often the wait for the last reports is told of."""


class Coordinator:
    """Listens to Locust's events and to the workers' messages; `databases_of` says what the chosen users load."""

    def __init__(
        self,
        environment: Environment,
        runner: Runner,
        interrupts: Interrupts,
        databases_of: Callable[[Environment], Collection[str]],
    ) -> None:
        self.run: Run | None = None
        self.exit_code = 0
        self._environment = environment
        self._runner = runner
        self._databases_of = databases_of
        self._clock = RealClock()
        self._listener: object = None
        self._users = 0
        self._interrupted = False
        self._listen()
        interrupts.add_listener(self._on_interrupt)
        gevent.spawn(self._watch_for_ever)

    def _listen(self) -> None:
        events, register = self._environment.events, self._runner.register_message
        register(messages.REPORT, self._on_report)
        register(messages.IDLE, self._on_idle)
        if isinstance(self._runner, MasterRunner):
            register(messages.CLOCK, self._on_clock)
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.reset_stats.add_listener(self._on_reset)
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.quitting.add_listener(self._on_quitting)
        events.quit.add_listener(self._on_quit)

    def _on_interrupt(self) -> None:
        """Remember that a run was cut short; where its end is under way, wait for nobody any more."""
        run = self.run
        if run is not None and not run.concluded.is_set():
            self._interrupted = True
            run.hurried = run.concluding

    def _on_test_start(self, environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        options, databases = environment.parsed_options, self._databases_of(environment)
        assert options is not None  # noqa: S101 # Locust's command line always has some
        try:
            flags.check(options, databases)
        except BadAddress as error:
            self._refuse(str(error))
        name = f"{time.strftime('%Y%m%d%H%M%S')}{secrets.token_hex(2)}"
        self._users = self._runner.target_user_count
        options.seed = options.seed or str(SystemRandom().randrange(1 << 32))
        setattr(options, messages.RUN, name)
        setattr(options, messages.TARGET, self._users)
        self.exit_code = 0
        self.run = Run(name, Namespace(**vars(options)), databases, meter=meter_of(name, databases, options))
        log.info("run %s", name)

    def _refuse(self, reason: str) -> NoReturn:
        log.error("%s", reason)
        self.exit_code = USAGE
        self._end_test()
        raise StopTest(reason)

    def _end_test(self) -> None:
        """Stop the test in a greenlet of its own; where nobody looks at a web page, leave."""
        options = self._environment.parsed_options
        headless = options is not None and options.headless
        gevent.spawn(self._runner.quit if headless else self._runner.stop)

    def _on_report(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self._listener = gevent.getcurrent()
        report, run, sender = decode(msg.data["report"]), self.run, str(msg.node_id)
        if run is None or report.run != run.name:
            self._turn_away(sender, report, run)
        elif run.concluded.is_set():
            if not report.last:  # a worker that was given up woke up again
                self._send(messages.DRAIN, {"run": run.name}, sender)
        else:
            self._add(run, sender, report)

    def _turn_away(self, sender: str, report: Report, run: Run | None) -> None:
        if report.number % REFUSALS_TOLD == 0 or report.last:
            log.warning("refused worker %s: it takes part in run %s, which is not ours", sender, report.run)
        self._send(messages.REFUSED, {"run": "" if run is None else run.name}, sender)

    def _add(self, run: Run, sender: str, report: Report) -> None:
        totals, first_word = report.totals(), not run.roster.knows(sender)
        told_of = None if first_word else run.roster.member(sender).trouble
        member = run.roster.take(sender, report)
        run.count(totals)
        run.shown.merge(totals)
        run.newest.extend(violation for row in report.verdicts for violation in row.witnesses)
        for stall in report.stalls:
            log.warning("worker %d stood still for %.1f s", member.worker, (stall.end - stall.start) / 1e9)
        if report.trouble and report.trouble != told_of:
            log.error("worker %d: %s", member.worker, report.trouble)
            if not run.concluding:
                self._end_test()
        if report.last:
            run.awaited.discard(sender)

    def _on_idle(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        if self.run is not None and msg.data["run"] == self.run.name:
            self.run.awaited.discard(str(msg.node_id))

    def _on_clock(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self._send(messages.CLOCK, {"sent": msg.data["sent"], "master": self._clock.now()}, str(msg.node_id))

    def _send(self, kind: str, data: dict[str, Any], receiver: str) -> None:
        self._runner.send_message(kind, data, receiver)

    def _watch_for_ever(self) -> None:
        while True:
            gevent.sleep(1)
            run = self.run
            if run is None or run.concluding:
                continue
            self._note_lost(run)
            if self._runner.target_user_count != self._users:
                self._users = self._runner.target_user_count
                setattr(self._environment.parsed_options, messages.TARGET, self._users)
                self._runner.send_message(messages.USERS, {"users": self._users})

    def _note_lost(self, run: Run) -> None:
        for member in run.roster.mark_lost():
            run.awaited.discard(member.client_id)
            log.error("worker %d (%s) has been silent for %.0f s: lost", member.worker, member.client_id, SILENCE_S)

    def _on_reset(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Begin to show anew; the verdict goes on over everything."""
        if self.run is not None:
            self.run.shown, self.run.reset = nothing_yet(), True
            self.run.newest.clear()

    def _on_spawning_complete(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if self._environment.reset_stats:
            self._on_reset()

    def _on_test_stopping(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Drain before Locust ends anything, so that nothing of the tail is lost."""
        self._runner.update_state(STATE_STOPPING)
        self.conclude()
        run = self.run
        if run is not None and run.outcome is not None and self._environment.web_ui is not None:
            run.outcome.tell()

    def conclude(self) -> None:
        """Drain the run that is under way and make its verdict; whoever asks meanwhile waits for it."""
        run = self.run
        if run is None or run.concluded.is_set():
            return
        if run.concluding:
            run.concluded.wait()
        else:
            run.concluding, run.stopped = True, time.monotonic()
            try:
                self._drain(run)
            finally:  # whatever kills this greenlet, those who wait get a verdict
                self._decide(run)

    def _drain(self, run: Run) -> None:
        ended = {member.client_id for member in run.roster if not run.roster.is_running(member)}
        run.awaited = self._processes() | {member.client_id for member in run.roster.running()}
        run.awaited -= ended
        for process in list(run.awaited):
            self._send(messages.DRAIN, {"run": run.name}, process)
        began = told = time.monotonic()
        # The greenlet that hears the workers must not wait for their word: Locust stops the test from there when its
        # last worker has left, and then there is nobody to wait for.
        while run.awaited and not run.hurried and gevent.getcurrent() is not self._listener_of_many:
            gevent.sleep(TICK_S)
            self._note_lost(run)
            if time.monotonic() - began > SILENCE_S:
                run.awaited = {process for process in run.awaited if run.roster.knows(process)}
            if time.monotonic() - told > TELL_S:
                told = time.monotonic()
                self._tell_progress(run)

    @property
    def _listener_of_many(self) -> object:
        """The greenlet that hears other processes; one that is its own master hears itself in any greenlet."""
        return self._listener if isinstance(self._runner, MasterRunner) else None

    def _processes(self) -> set[str]:
        return set(self._runner.clients) if isinstance(self._runner, MasterRunner) else {LOCAL}

    def _tell_progress(self, run: Run) -> None:
        for member in run.roster.running():
            done, total, unit = member.progress
            log.info("worker %d: %s %.0f/%.0f %s", member.worker, member.phase, done, total, unit)

    def _decide(self, run: Run) -> None:
        for member in run.roster:
            if not member.whole:
                run.count(salvage(member, run.name, flags.path(run.options, "history_dir")))
        duration_s = (run.stopped or time.monotonic()) - run.began
        run.outcome = outcome(run.name, run.roster, run.totals, run.options, run.databases, duration_s)
        self.exit_code = run.outcome.exit_code
        for failure in run.outcome.write(run.options):
            log.error("%s", failure)
            self.exit_code = self.exit_code or USAGE
        run.decided = time.monotonic()
        log.info("run %s: %s", run.name, run.outcome.result["verdict"])
        run.concluded.set()

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        self.conclude()
        if isinstance(self._runner, MasterRunner) and self.run is not None:
            for member in self.run.roster:  # Locust forgets a worker that is about to be ready again
                self._send("quit", {}, member.client_id)
        code = INTERRUPTED if self._interrupted else self.exit_code
        if code or not self._runner.exceptions:  # a user class that raises keeps Locust's own exit code
            self._environment.process_exit_code = code

    def _on_quit(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Print the verdict last of all where no web page showed it."""
        run = self.run
        if run is not None and run.outcome is not None and self._environment.web_ui is None:
            run.outcome.tell()
