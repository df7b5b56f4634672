"""The master's side: names runs, adds up what workers report, drains them at the end, and makes the verdict."""

import logging
import secrets
import time
from argparse import Namespace
from collections.abc import Callable, Collection
from random import SystemRandom
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import gevent
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import STATE_STOPPING, MasterRunner, Runner

from stalewatch.clients.errors import BadAddress
from stalewatch.history.clock import RealClock
from stalewatch.locust import flags, messages
from stalewatch.locust.interrupts import Interrupts
from stalewatch.locust.master_metrics import meter_of
from stalewatch.locust.part import USAGE
from stalewatch.locust.report import Report, decode
from stalewatch.locust.result import outcome
from stalewatch.locust.roster import SILENCE_S
from stalewatch.locust.run import Aside, Run
from stalewatch.locust.salvage import salvage
from stalewatch.locust.turns import Turns
from stalewatch.recording.totals import Totals, no_totals

log = logging.getLogger("stalewatch")

INTERRUPTED = 130
ENDING = "the last run is still ending: wait for its verdict, then start again"
HURRY_S = 2.0
"""How long a hurried end still waits: workers that were hurried too have sent their last word by then."""

LOCAL = "local"
"""What Locust calls a process that is its own master."""

REFUSALS_TOLD = 10
TICK_S = 0.1
TELL_S = 5.0
"""How often the wait for the last reports is told of."""


_COORDINATORS: "WeakKeyDictionary[Environment, Coordinator]" = WeakKeyDictionary()


def coordinator_of(environment: Environment) -> "Coordinator | None":
    """Return the coordinator of that environment, in the master's process."""
    return _COORDINATORS.get(environment)


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
        self._own_seed: str | None = None
        """The seed of the last run, where nobody gave one."""
        self._interrupted = False
        _COORDINATORS[environment] = self
        self._listen()
        interrupts.hurries(self._on_interrupt)
        interrupts.leaves_start(self._leave_start)
        gevent.spawn(self._watch_for_ever)

    def _listen(self) -> None:
        events, register = self._environment.events, self._runner.register_message
        register(messages.REPORT, self._on_report)
        register(messages.IDLE, self._on_idle)
        if isinstance(self._runner, MasterRunner):
            register(messages.CLOCK, self._on_clock)
            register(messages.TURN, self._on_turn)
            register(messages.TURN_OVER, self._on_turn_over)
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.reset_stats.add_listener(self._on_reset)
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.quitting.add_listener(self._on_quitting)
        events.quit.add_listener(self._on_quit)

    def _on_interrupt(self) -> bool:
        """Remember that a run was cut short; hurry its end where that is under way, and tell whether it is."""
        run = self.run
        if run is None or run.phase == "over":
            return False
        self._interrupted = True
        run.hurried = run.hurried or run.ending
        return run.ending

    def _leave_start(self, code: int) -> BaseException | None:
        """Return what to raise in the main greenlet where it is still in Locust's start, and so takes no signal yet."""
        options, environment = self._environment.parsed_options, self._environment
        if options is None or not (options.headless or options.autostart):
            return None
        if self.run is None and isinstance(self._runner, MasterRunner):  # waiting for workers
            for process in self._runner.clients:
                self._send("quit", {}, process)
            return SystemExit(code)
        if environment.shape_class is not None and self.run is not None and not self.run.ending:
            self._interrupted = self._interrupted or code == INTERRUPTED
            return KeyboardInterrupt()
        return None

    def _on_test_start(self, environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        options, databases = environment.parsed_options, self._databases_of(environment)
        assert options is not None  # noqa: S101 # Locust's command line always has some
        if self.is_ending:
            raise StopTest(ENDING)
        try:
            flags.check(options, databases)
        except BadAddress as error:
            self._refuse(str(error))
        name = f"{time.strftime('%Y%m%d%H%M%S')}{secrets.token_hex(2)}"
        self._users = self._runner.target_user_count
        if options.seed in (None, "", self._own_seed):
            options.seed = self._own_seed = str(SystemRandom().randrange(1 << 32))
        setattr(options, messages.RUN, name)
        setattr(options, messages.TARGET, self._users)
        self.exit_code = 0
        meter = meter_of(name, databases, options)
        self.run = Run(name, Namespace(**vars(options)), databases, self._users, meter=meter)
        self._turns = Turns(lambda process, database: self._send(messages.TURN, {"database": database}, process))
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
        elif run.phase in {"decide", "over"}:  # what comes now would be counted beside what was salvaged
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
        known = 0 if first_word else len(run.roster.member(sender).stalls)
        member = run.roster.take(sender, report)
        run.count(totals)
        run.shown.merge(Totals(totals.findings, totals.statistics))
        run.newest.extend(violation for row in report.verdicts for violation in row.witnesses)
        for stall in member.stalls[known:]:
            log.warning("worker %d stood still for %.1f s", member.worker, (stall.end - stall.start) / 1e9)
        if report.trouble and report.trouble != told_of:
            log.error("worker %d: %s", member.worker, report.trouble)
            if not run.ending:
                self._end_test()
        if report.last:
            run.awaited.discard(sender)

    def _on_idle(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        if self.run is not None and msg.data["run"] == self.run.name:
            self.run.awaited.discard(str(msg.node_id))

    def _on_clock(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self._send(messages.CLOCK, {"sent": msg.data["sent"], "master": self._clock.now()}, str(msg.node_id))

    def _on_turn(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        if self.run is not None and msg.data["run"] == self.run.name:
            self._turns.ask(str(msg.node_id), msg.data["database"])

    def _on_turn_over(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        if self.run is not None and msg.data["run"] == self.run.name:
            self._turns.end(str(msg.node_id), msg.data["database"], opened=msg.data["opened"])

    def _send(self, kind: str, data: dict[str, Any], receiver: str) -> None:
        self._runner.send_message(kind, data, receiver)

    def _watch_for_ever(self) -> None:
        while True:
            gevent.sleep(1)
            run = self.run
            if run is None or run.ending:
                continue
            self._note_lost(run)
            if self._runner.target_user_count != self._users:
                self._users = self._runner.target_user_count
                setattr(self._environment.parsed_options, messages.TARGET, self._users)
                self._runner.send_message(messages.USERS, {"users": self._users})

    def _note_lost(self, run: Run) -> None:
        for member in run.roster.mark_lost():
            run.awaited.discard(member.client_id)
            self._turns.lose(member.client_id)
            log.error("worker %d (%s) has been silent for %.0f s: lost", member.worker, member.client_id, SILENCE_S)

    def _on_reset(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Begin to show anew; the verdict goes on over everything."""
        if self.run is not None:
            self.run.shown, self.run.reset = no_totals(), True
            self.run.newest.clear()

    def _on_spawning_complete(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if self._environment.reset_stats:
            self._on_reset()

    def _on_test_stopping(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Drain before Locust ends anything, so that nothing of the tail is lost."""
        self._runner.update_state(STATE_STOPPING)
        self.conclude()
        run, options = self.run, self._environment.parsed_options
        if run is not None and run.outcome is not None and self._environment.web_ui is not None:
            run.outcome.tell()
        if isinstance(self._runner, MasterRunner) and not self._runner.worker_count and options and options.headless:
            gevent.spawn(self._runner.quit)  # Locust only stops when its last worker is gone

    @property
    def is_ending(self) -> bool:
        """Whether a run is over for its users, and has no verdict yet."""
        return self.run is not None and self.run.phase in {"drain", "decide"}

    def conclude(self) -> None:
        """Drain the run that is under way and make its verdict; whoever asks meanwhile waits for it."""
        run = self.run
        if run is None or run.phase == "over":
            return
        if run.ending:
            if gevent.getcurrent() is not self._listener_of_many:
                run.concluded.wait()
            return
        run.phase, run.stopped_ns = "drain", self._clock.now()
        try:
            self._drain(run)
        finally:  # whatever kills this greenlet, those who wait get a verdict
            run.phase = "decide"
            try:
                self._decide(run)
            finally:
                run.phase, run.decided = "over", time.monotonic()
                run.concluded.set()

    def _drain(self, run: Run) -> None:
        ended = {member.client_id for member in run.roster if member.state != "running"}
        run.awaited = self._processes() | {member.client_id for member in run.roster.running()}
        run.awaited -= ended
        for process in list(run.awaited):
            self._send(messages.DRAIN, {"run": run.name}, process)
        began = told = time.monotonic()
        leave_at = float("inf")
        # The greenlet that hears the workers must not wait for their word: Locust stops the test from there when its
        # last worker has left, and then there is nobody to wait for.
        while run.awaited and time.monotonic() < leave_at and gevent.getcurrent() is not self._listener_of_many:
            gevent.sleep(TICK_S)
            self._note_lost(run)
            if run.hurried:
                leave_at = min(leave_at, time.monotonic() + HURRY_S)
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
        self.exit_code = USAGE  # should anything fail here
        for member in run.roster:
            member.give_up(run.roster.silent_s(member))
            if member.lost and not member.gap:
                run.count(salvage(member, run.name, flags.path(run.options, "history_dir")))
        run.outcome = outcome(run, run.beside.end() if run.beside else Aside({}))
        self.exit_code = run.outcome.exit_code
        for failure in run.outcome.write(run.options):
            log.error("%s", failure)
            self.exit_code = self.exit_code or USAGE
        log.info("run %s: %s", run.name, run.outcome.result["verdict"])

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
