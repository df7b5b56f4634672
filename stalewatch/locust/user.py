"""The base class of users: each user is one session of a database, scheduled by Locust."""

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from gevent import GreenletExit
from locust import User, events
from locust.env import Environment
from locust.runners import WorkerRunner

from stalewatch.engine.database_run import DatabaseRun
from stalewatch.locust import listener, plugin
from stalewatch.locust.open_database import OpenDatabase
from stalewatch.locust.pace import Pace
from stalewatch.locust.worker import Worker, parse_locusts_defaults_once, worker_of
from stalewatch.workloads import WORKLOADS

log = logging.getLogger("stalewatch")


class UserError(Exception):
    """A mistake in a locustfile: an operation that the workload lacks, or a key that the worker does not have."""


class UserSession:
    """A user's session in a run, which checks what a locustfile asks of it."""

    def __init__(self, run: DatabaseRun, name: str) -> None:
        session = run.session(name)
        self.step = session.step
        """Perform the workload's next operation."""
        self._workloads = run.workload_names
        self._operations = session.operations()
        self._keys = run.keys_by_kind

    def keys(self, kind: str) -> Sequence[str]:
        """Return the keys for a kind of operation; raise `UserError` if the run's workload has none."""
        self._require(kind)
        return list(self._keys[kind])

    def perform(self, kind: str, key: str | None, due: int | None) -> None:
        """Perform an operation of that kind on a key, or on one that the workload chooses (raises `UserError`)."""
        self._require(kind)
        if key is not None and key not in self._keys[kind]:
            raise UserError(f"{kind}({key!r}): not one of this worker's keys; choose one of keys({kind!r})")
        self._operations[kind](key, due)

    def _require(self, kind: str) -> None:
        if kind not in self._operations:
            needed = next(name for name, spec in WORKLOADS.items() if kind in spec.kinds)
            raise UserError(
                f"{kind}() needs the {needed} workload, but this user has {','.join(self._workloads)}: use --workload "
                f"{needed}, or set workload = {needed!r} in its class"
            )


class DatabaseUser(User):
    """A user who performs operations on a database; a subclass sets `database` and has tasks.

    Tasks call `step` for the workload's next operation, or `read`, `write`, `append` and `draw` for one of their own
    choice. Without `--rate`, the user waits for `wait_time` between tasks (closed loop; default: no wait). With it,
    operations are due at fixed times however long earlier ones took (open loop), and `wait_time` is ignored: an
    operation that is late starts at once, and its lateness counts in its response time.
    """

    abstract = True
    database: ClassVar[str]
    workload: ClassVar[str | None] = None
    """What sessions do; None: what `--workload` says."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._session: UserSession | None = None
        self._pace: Pace | None = None
        """When operations are due, in an open loop."""
        self._pausing = False
        """Whether a task waits, rather than Locust after it."""
        if getattr(environment.parsed_options, "rate", None):
            self.wait_time = self._wait  # type: ignore[method-assign] # in place of the class's own

    def on_start(self) -> None:
        """Open the session. A subclass need not call this: the first operation opens the session too."""
        self._open()

    def step(self) -> None:
        """Perform the workload's next operation."""
        session = self._open()
        self._opened.perform(session.step, self._await_due())
        self._on_end()

    def wait(self) -> None:
        """Pause within a task: for `wait_time`, or with `--rate` until the next operation is due."""
        self._pausing = True
        try:
            super().wait()  # type: ignore[no-untyped-call] # Locust does not annotate it
        finally:
            self._pausing = False

    def read(self, key: str | None = None) -> None:
        """Read one of this worker's keys, or one that the workload chooses, often one that this user wrote recently."""
        self._perform("read", key)

    def write(self, key: str | None = None) -> None:
        """Write the next version of one of this worker's keys, or of one that the workload chooses."""
        self._perform("write", key)

    def append(self, key: str | None = None) -> None:
        """Append a unique item to one of this worker's lists, or to one that the workload chooses."""
        self._perform("append", key)

    def draw(self, key: str | None = None) -> None:
        """Draw an id from one of this worker's counters, or from one that the workload chooses."""
        self._perform("draw", key)

    def keys(self, kind: str = "write") -> Sequence[str]:
        """Return the keys of this worker for operations of a kind: ``read``, ``write``, ``append`` or ``draw``."""
        session = self._open()
        try:
            return session.keys(kind)
        except UserError as error:
            raise self._failed(error) from None

    def _perform(self, kind: str, key: str | None) -> None:
        session = self._open()
        due = self._await_due()
        try:
            self._opened.perform(session.perform, kind, key, due)
        except UserError as error:
            raise self._failed(error) from None
        self._on_end()

    def _failed(self, error: UserError) -> GreenletExit:
        self._opened.fail(f"{type(self).__name__}: {error}")
        return GreenletExit()

    def _open(self) -> UserSession:
        """Return the session; it is opened once the database is open. The user ends with the run.

        It ends by GreenletExit, since Locust logs the traceback of a StopUser in `on_start`.
        """
        if self._session is None:
            self._worker: Worker = worker_of(self.environment)
            run = self._worker.run()
            if run is None or run.over:
                raise GreenletExit
            self._opened: OpenDatabase = run.open(self.database, self.workload)
            database_run = self._opened.wait_until_open()
            if database_run is None:
                raise GreenletExit
            self._session = UserSession(database_run, run.session_name())
            if (rate := run.settings.load.rate) is not None:
                self._pace = Pace(run.settings.clock, lambda: self._worker.users / rate * 1e9, self._warn_of_own_time)
        if self._opened.over:
            raise GreenletExit
        return self._session

    def _await_due(self) -> int | None:
        """Wait until the next operation is due, and return that time; None in a closed loop."""
        if self._pace is None:
            return None
        due = self._pace.next()
        if self._opened.over:
            raise GreenletExit
        return due

    def _on_end(self) -> None:
        if self._pace is not None:
            self._pace.on_end()

    def _wait(self) -> float:
        if self._pace is None:
            return 0
        return self._pace.pause() if self._pausing else self._pace.wait()

    def _warn_of_own_time(self) -> None:
        run = self._worker.run()
        if run is not None:
            run.warn_once(
                f"--rate: users of {type(self).__name__} do other things than operations for so long that the rate is "
                "not reached; use more users, or shorten what their tasks do besides"
            )


def _announce_rate(environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
    """Log once per run, in the master or in a process without workers, which wait times `--rate` replaces."""
    rate = getattr(environment.parsed_options, "rate", None)
    if not rate or isinstance(environment.runner, WorkerRunner):
        return
    classes = [one for one in environment.user_classes if issubclass(one, DatabaseUser)]
    names = ", ".join(one.__name__ for one in classes if one.wait_time is not User.wait_time)
    if names:
        log.warning("--rate %s: operations are due at fixed times, and the wait_time of %s is ignored", rate, names)


events.test_start.add_listener(_announce_rate)
parse_locusts_defaults_once()
listener.guard()
plugin.install(DatabaseUser)
