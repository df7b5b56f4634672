"""The master's side of runs: it names them, adds up reports, drains the workers at the end, and makes the verdict."""

import logging
import time
from argparse import Namespace
from collections.abc import Callable, Collection
from random import SystemRandom
from secrets import token_hex
from typing import Any, NoReturn, TypeVar

import gevent
import msgspec
from locust.env import Environment
from locust.exception import StopTest
from locust.runners import STATE_MISSING, STATE_STOPPING, MasterRunner, Runner

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.protocol import Client, Leaving
from stalewatch.clusters.protocol import ClusterError
from stalewatch.exit_codes import INTERRUPTED, USAGE
from stalewatch.history.clock import RealClock
from stalewatch.locust import messages, options
from stalewatch.locust.ending import Hurry, settle_exit_code, why_early
from stalewatch.locust.master_run import (
    SILENCE_S,
    BackgroundResult,
    MasterRun,
    Turns,
    WorkerRecord,
)
from stalewatch.locust.messages import ClockRequest, Hello, Idle, Refusal, TurnRequest, WorkerReport
from stalewatch.locust.open_database import servers_of
from stalewatch.locust.options import Secrets
from stalewatch.locust.pace import sharing_rate
from stalewatch.locust.report_checks import BadReport, decoded
from stalewatch.locust.result import lines_to_stderr, outcome, print_outcome, salvage, write_files

log = logging.getLogger("stalewatch")

Content = TypeVar("Content")

ENDING = "the last run is still ending: wait for its verdict, then start again"
HURRY_S = 2.0
"""How long the master still waits after a second Ctrl-C: workers that got it too have sent their last report then."""

LOCAL = "local"
"""Locust's id of a process that is its own master."""

REFUSALS_PER_LOG = 10
TICK_S = 0.1
LOG_PROGRESS_S = 5.0
"""How often the master logs which reports it waits for."""


class Master:
    """Listens to Locust's events and to the workers' messages; `databases_of` returns the databases of the users."""

    def __init__(
        self,
        environment: Environment,
        runner: Runner,
        databases_of: Callable[[Environment], Collection[str]],
        secrets: Secrets,
    ) -> None:
        self.run: MasterRun | None = None
        self.exit_code = 0
        self._environment = environment
        self._runner = runner
        self._databases_of = databases_of
        self._secrets = secrets
        self._clock = RealClock()
        self._listener: object = None
        self._joined: set[str] = set()
        """The workers of the same version; others are refused."""
        self._refused: set[str] = set()
        self._users = 0
        self._random_seed: str | None = None
        """The seed that was chosen for the last run, if the options have none."""
        self._interrupted = False
        namespace = environment.parsed_options
        at_once = namespace is not None and (namespace.headless or namespace.autostart)
        self._run_time_s: float | None = namespace.run_time if namespace is not None and at_once else None
        self._listen()
        gevent.spawn(self._watch_forever)

    def _listen(self) -> None:
        events = self._environment.events
        self._runner.register_message(messages.REPORT, self._on_report)
        self._register(messages.IDLE, Idle, self._on_idle)
        if isinstance(self._runner, MasterRunner):
            self._register(messages.HELLO, Hello, self._on_hello)
            self._register(messages.CLOCK, ClockRequest, self._on_clock)
            self._register(messages.TURN, TurnRequest, self._on_turn)
            self._register(messages.TURN_OVER, TurnRequest, self._on_turn_over)
            events.worker_connect.add_listener(self._on_worker_connect)
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)
        events.reset_stats.add_listener(self._on_reset)
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.quitting.add_listener(self._on_quitting)
        settle_exit_code(self._environment, lambda: INTERRUPTED if self._interrupted else self.exit_code)
        events.quit.add_listener(self._on_quit)

    def _register(self, name: str, kind: type[Content], handle: Callable[[str, Content], None]) -> None:
        """Pass a message's sender and content to `handle`, or log why it is malformed."""

        def on_message(msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
            self._listener = gevent.getcurrent()
            try:
                content = msgspec.convert(msg.data, kind)
            except msgspec.ValidationError as error:
                log.warning("ignored a malformed message (%s) of %s: %s", name, msg.node_id, error)
            else:
                handle(str(msg.node_id), content)

        self._runner.register_message(name, on_message)

    def limit(self, run_time_s: float | None) -> None:
        """Note the run time that the page's form gave to the next run, or to the current one from now on."""
        self._run_time_s = run_time_s
        if self.run is not None and not self.run.ending:
            self.run.run_time_s, self.run.started = run_time_s, time.monotonic()

    def on_interrupt(self) -> Hurry:
        """Note that the run was interrupted; if it is ending already, stop waiting."""
        run = self.run
        if run is None or run.phase == "over":
            return Hurry.NOTHING
        self._interrupted = True
        run.hurried = run.hurried or run.ending
        return Hurry.HURRIED if run.ending else Hurry.NOTHING

    def leave_start(self, code: int) -> BaseException | None:
        """Return what to raise in the main greenlet if it is still starting Locust and does not handle signals yet."""
        namespace, environment = self._environment.parsed_options, self._environment
        if namespace is None or not (namespace.headless or namespace.autostart):
            return None
        if self.run is None and isinstance(self._runner, MasterRunner):  # waiting for workers
            for client_id in self._runner.clients:
                self._send("quit", {}, client_id)
            return SystemExit(code)
        if environment.shape_class is not None and self.run is not None and not self.run.ending:
            self._interrupted = self._interrupted or code == INTERRUPTED
            return KeyboardInterrupt()
        return None

    def _on_test_start(self, environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        namespace, databases = environment.parsed_options, self._databases_of(environment)
        assert namespace is not None  # noqa: S101 # Locust's command line always has some
        if self.is_ending:
            raise StopTest(ENDING)
        try:
            options.check(namespace, databases)
        except BadAddress as error:
            self._refuse(str(error))
        name = f"{time.strftime('%Y%m%d%H%M%S')}{token_hex(2)}"
        self._users = self._runner.target_user_count
        if namespace.seed in (None, "", self._random_seed):
            namespace.seed = self._random_seed = str(SystemRandom().randrange(1 << 32))
        setattr(namespace, messages.RUN, name)
        setattr(namespace, messages.TARGET, sharing_rate(environment.user_classes, self._users))
        setattr(namespace, messages.WORKERS, len(self._client_ids()))
        self.exit_code = 0
        self.run = MasterRun(name, Namespace(**vars(namespace)), databases, self._users, self._run_time_s, self._clock)
        for client_id in self._client_ids():
            if not self._is_missing(client_id):
                self._take_part(client_id)
        self._turns = Turns(lambda client_id, database: self._send(messages.TURN, {"database": database}, client_id))
        log.info("run %s", name)

    def _refuse(self, reason: str) -> NoReturn:
        log.error("%s", reason)
        self.exit_code = USAGE
        self._end_test()
        raise StopTest(reason)

    def _end_test(self) -> None:
        """Stop the test in a new greenlet; without a web page, quit."""
        namespace = self._environment.parsed_options
        headless = namespace is not None and namespace.headless
        gevent.spawn(self._runner.quit if headless else self._runner.stop)

    def _on_hello(self, sender: str, theirs: Hello) -> None:
        """Refuse a worker of another version before it does anything: it would report what this one cannot read."""
        ours = Hello()
        if theirs == ours:
            self._joined.add(sender)
        elif sender not in self._refused:
            self._refused.add(sender)
            log.error(
                "refused worker %s: it is %s, but the master is %s: install one version on both", sender, theirs, ours
            )
            reason = f"this worker is {theirs}, but the master is {ours}: install one version on both"
            self._send(messages.REFUSED, msgspec.to_builtins(Refusal("", reason)), sender)
            if self.run is not None:
                self.run.workers.forget(sender)
            elif (namespace := self._environment.parsed_options) is not None and namespace.headless:
                self.exit_code = USAGE  # unless a run starts with other workers

    def _on_worker_connect(self, client_id: str, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        self._listener = gevent.getcurrent()
        if self.run is not None and not self.run.ending:
            self._take_part(client_id)

    def _take_part(self, client_id: str) -> None:
        """Register a worker for the run: from now on it is missed if it does not report."""
        runner = self._runner
        if self.run is not None and client_id not in self._refused:
            number = runner.get_worker_index(client_id) if isinstance(runner, MasterRunner) else 0
            self.run.workers.register(client_id, number)

    def _on_report(self, msg: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's message
        self._listener = gevent.getcurrent()
        run, sender = self.run, str(msg.node_id)
        try:
            report = decoded(msg.data["report"] if isinstance(msg.data, dict) and "report" in msg.data else None)
            if run is None or report.run != run.name:
                self._refuse_worker(sender, report, run)
            elif run.phase in {"decide", "over"}:  # a report now would be counted in addition to what was salvaged
                if not report.last:  # a worker that was given up has come back
                    self._send(messages.DRAIN, {"run": run.name}, sender)
            elif run.workers.get(sender) is not None or sender in self._client_ids():  # it may have been missing
                self._take_part(sender)
                self._add(run, sender, report)
        except BadReport as error:
            if run is not None and run.refuse(sender, str(error)):
                log.error("refused a report of worker %s: %s", sender, error)  # noqa: TRY400 # it is complete

    def _refuse_worker(self, sender: str, report: WorkerReport, run: MasterRun | None) -> None:
        if report.number % REFUSALS_PER_LOG == 0 or report.last:
            log.warning("refused worker %s: it reports on run %s, which this master did not start", sender, report.run)
        self._send(messages.REFUSED, msgspec.to_builtins(Refusal("" if run is None else run.name)), sender)

    def _add(self, run: MasterRun, sender: str, report: WorkerReport) -> None:
        before = run.workers.get(sender)
        known_failure, known_stalls = (before.failure, len(before.stalls)) if before else (None, 0)
        if sender not in {LOCAL, *self._joined}:
            raise BadReport(f"it is of an unknown version of stalewatch, but the master is {Hello()}")
        worker = run.receive(sender, report)
        for stall in worker.stalls[known_stalls:]:
            log.warning("worker %d stalled for %.1f s", worker.worker, (stall.end - stall.start) / 1e9)
        if report.failure and report.failure != known_failure:
            self._on_failure(worker)
        if report.last:
            run.awaited.discard(sender)

    def _on_failure(self, worker: WorkerRecord) -> None:
        log.error("worker %d: %s", worker.worker, worker.failure)
        if worker.exit_code and self.run is not None and not self.run.ending:
            self._end_test()

    def _on_idle(self, sender: str, idle: Idle) -> None:
        run = self.run
        worker = None if run is None or idle.run != run.name else run.workers.get(sender)
        if run is None or worker is None:
            return
        run.awaited.discard(sender)
        if idle.failure is not None and not worker.done:
            worker.fail(idle.failure, USAGE)
            self._on_failure(worker)
        elif not worker.reported:
            run.workers.forget(sender)

    def _on_clock(self, sender: str, request: ClockRequest) -> None:
        self._send(messages.CLOCK, {"sent": request.sent, "master": self._clock.now()}, sender)

    def _on_turn(self, sender: str, turn: TurnRequest) -> None:
        if self.run is not None and turn.run == self.run.name:
            self._turns.request(sender, turn.database)

    def _on_turn_over(self, sender: str, turn: TurnRequest) -> None:
        if self.run is not None and turn.run == self.run.name:
            self._turns.end(sender, turn.database, opened=turn.opened)

    def _send(self, name: str, data: dict[str, Any], receiver: str) -> None:
        self._runner.send_message(name, data, receiver)

    def _watch_forever(self) -> None:
        while True:
            gevent.sleep(1)
            run = self.run
            if run is None or run.ending:
                continue
            self._mark_lost(run)
            if self._runner.target_user_count != self._users:
                self._users = self._runner.target_user_count
                sharing = sharing_rate(self._environment.user_classes, self._users)
                setattr(self._environment.parsed_options, messages.TARGET, sharing)
                self._runner.send_message(messages.USERS, {"users": sharing})

    def _mark_lost(self, run: MasterRun) -> None:
        for worker in run.workers.mark_lost():
            run.awaited.discard(worker.client_id)
            self._turns.lose(worker.client_id)
            log.error("worker %d (%s) is lost: no report for %.0f s", worker.worker, worker.client_id, SILENCE_S)

    def _on_reset(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Reset what the page shows; the verdict still covers everything."""
        if self.run is not None:
            self.run.reset()

    def _on_spawning_complete(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if self._environment.reset_stats:
            self._on_reset()

    def _on_test_stopping(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Drain the workers before Locust stops any users, so that no report is missing."""
        forsaken = isinstance(self._runner, MasterRunner) and not self._runner.worker_count
        self._runner.update_state(STATE_STOPPING)
        self.conclude()
        run, namespace = self.run, self._environment.parsed_options
        if run is not None and run.outcome is not None and self._environment.web_ui is not None:
            with lines_to_stderr(run.options):
                print_outcome(run.outcome)
        if forsaken and namespace is not None and namespace.headless:
            gevent.spawn(self._runner.quit)  # when its last worker is gone, Locust only stops, even if one comes back

    @property
    def is_ending(self) -> bool:
        """Whether the sessions of a run have been told to end and there is no verdict yet."""
        return self.run is not None and self.run.phase in {"drain", "decide"}

    def conclude(self) -> None:
        """Drain the current run and compute its verdict; if another greenlet is doing so, wait for it."""
        run = self.run
        if run is None or run.phase == "over":
            return
        if run.ending:
            if gevent.getcurrent() is not self._workers_listener:
                run.concluded.wait()
            return
        run.end_load(self._clock.now(), why_early(self._runner, run, interrupted=self._interrupted))
        try:
            self._drain(run)
        finally:  # even if this greenlet is killed, those who wait get a verdict
            run.phase = "decide"
            try:
                self._decide(run)
            finally:
                run.phase, run.decided = "over", time.monotonic()
                run.concluded.set()

    def _drain(self, run: MasterRun) -> None:
        ended = {
            worker.client_id for worker in run.workers if worker.state != "running" and not self._may_be_idle(worker)
        }
        run.awaited = self._client_ids() | {worker.client_id for worker in run.workers.running()}
        run.awaited -= ended
        for client_id in list(run.awaited):
            self._send(messages.DRAIN, {"run": run.name}, client_id)
        start = logged = time.monotonic()
        leave_at = float("inf")
        # The greenlet that receives the workers' messages must not wait for their reports: Locust stops the test from
        # there when the last worker has quit, and then there is nothing to wait for.
        while run.awaited and time.monotonic() < leave_at and gevent.getcurrent() is not self._workers_listener:
            gevent.sleep(TICK_S)
            self._mark_lost(run)
            if run.hurried:
                leave_at = min(leave_at, time.monotonic() + HURRY_S)
            if time.monotonic() - start > SILENCE_S:
                run.awaited &= {worker.client_id for worker in run.workers.running()}
            if time.monotonic() - logged > LOG_PROGRESS_S:
                logged = time.monotonic()
                _log_progress(run.workers.running())

    def _may_be_idle(self, worker: WorkerRecord) -> bool:
        """Return whether a worker that never reported is alive: Locust may have given it no users, and no run."""
        return not worker.reported and not self._is_missing(worker.client_id)

    def _is_missing(self, client_id: str) -> bool:
        """Return whether Locust hears nothing of a worker."""
        if not isinstance(self._runner, MasterRunner):
            return False
        return client_id not in self._runner.clients or self._runner.clients[client_id].state == STATE_MISSING

    @property
    def _workers_listener(self) -> object:
        """The greenlet that receives workers' messages; a process that is its own master has none."""
        return self._listener if isinstance(self._runner, MasterRunner) else None

    def _client_ids(self) -> set[str]:
        return set(self._runner.clients) - self._refused if isinstance(self._runner, MasterRunner) else {LOCAL}

    def _decide(self, run: MasterRun) -> None:
        self.exit_code = USAGE  # in case anything fails here
        for worker in run.workers:
            if not worker.done:
                worker.silent_s = run.workers.silent_s(worker)
            if worker.lost and not worker.gap:
                run.count(salvage(worker, run.name, options.path(run.options, "history_dir")))
        run.outcome = outcome(run, run.background.end() if run.background else BackgroundResult({}))
        self.exit_code = run.outcome.exit_code
        self._leave(run)
        for failure in write_files(run.outcome.result, run.options):
            log.error("%s", failure)
            self.exit_code = self.exit_code or USAGE
        log.info("run %s: %s", run.name, run.outcome.result["verdict"])

    def _leave(self, run: MasterRun) -> None:
        """Remove what setting up the databases created if so chosen, and report what stays.

        That is for the master: workers end at different times, and the last of them is not known to any.
        """
        for name in sorted({name for worker in run.workers for name in worker.settings} & DATABASES.keys()):
            database = DATABASES[name]
            try:
                found = servers_of(database, run.options, self._secrets, self._runner)
                if found is not None:
                    _leave(database.open(found, 1, 0, self._clock))
            except (ClientError, ClusterError) as error:
                log.warning("what stays in the database is unknown: %s", error)

    def _on_quitting(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        self.conclude()
        if isinstance(self._runner, MasterRunner) and self.run is not None:
            for worker in self.run.workers:  # Locust forgets a worker that is about to become ready again
                self._send("quit", {}, worker.client_id)

    def _on_quit(self, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        """Print the verdict after everything else, unless the web page showed it."""
        run = self.run
        if run is not None and run.outcome is not None and self._environment.web_ui is None:
            with lines_to_stderr(run.options):
                print_outcome(run.outcome)


def _leave(client: Client) -> None:
    try:
        for line in client.leave() if isinstance(client, Leaving) else ():
            log.info("%s", line)
    finally:
        client.close()


def _log_progress(workers: Collection[WorkerRecord]) -> None:
    for worker in workers:
        done, total, unit = worker.progress
        log.info("worker %d: %s %.0f/%.0f %s", worker.worker, worker.phase, done, total, unit)
