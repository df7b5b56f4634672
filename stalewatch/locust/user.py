"""The base class of users: each user is one session of a database, scheduled by Locust."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import gevent
from gevent import GreenletExit
from locust import User
from locust.env import Environment

from stalewatch.engine.database_run import DatabaseRun
from stalewatch.locust import plugin
from stalewatch.locust.open_database import OpenDatabase
from stalewatch.locust.worker import Worker, worker_of

WORKLOADS_OF = {
    "read": ("register", "conflict"),
    "write": ("register", "conflict"),
    "append": ("ledger",),
    "draw": ("sequence",),
}
"""The workloads whose sessions perform each kind of operation."""

_KEYS: "WeakKeyDictionary[object, frozenset[str]]" = WeakKeyDictionary()
"""The keys of each workload, for all its sessions."""


class UserError(Exception):
    """A mistake in a locustfile: an operation that the workload lacks, or a key that the worker does not have."""


class UserSession:
    """A user's session; a mix of workloads has one of each, of which it finds the one that an operation needs."""

    def __init__(self, run: DatabaseRun, name: str) -> None:
        self._names = run.workload_names
        session: Any = run.session(name)
        self.step: Callable[[int | None], None] = session.step
        """Perform the workload's next operation."""
        mixed = len(self._names) > 1
        self._sessions: Sequence[Any] = session._sessions if mixed else [session]  # noqa: SLF001 # a mix in this order
        workload: Any = run.workload
        self._workloads: Sequence[Any] = workload._workloads if mixed else [workload]  # noqa: SLF001 # as above

    def keys(self, kind: str) -> Sequence[str]:
        """Return the keys for a kind of operation; raise `UserError` if the run's workload has none."""
        keys: Sequence[str] = self._workloads[self._index(kind)].keys
        return keys

    def perform(self, kind: str, key: str | None, due: int | None) -> None:
        """Perform an operation of that kind on a key, or on one that the workload chooses (raises `UserError`)."""
        index = self._index(kind)
        session = self._sessions[index]
        if key is not None and not _has_key(self._workloads[index], key):
            raise UserError(f"{kind}({key!r}): not one of this worker's keys; choose one of keys({kind!r})")
        if kind in {"append", "draw"}:
            if key is None:
                session.step(due)
            else:
                with _replaced(session, "_random", _Always(key)):
                    session.step(due)
        elif key is not None:
            getattr(session, kind)(key, due)
        else:
            with _replaced(session, "_write_ratio", float(kind == "write")):
                session.step(due)

    def _index(self, kind: str) -> int:
        for name in WORKLOADS_OF[kind]:
            if name in self._names:
                return self._names.index(name)
        needed, found = WORKLOADS_OF[kind][0], ",".join(self._names)
        raise UserError(
            f"{kind}() needs the {needed} workload, but this user has {found}: use --workload {needed}, or set "
            f"workload = {needed!r} in its class"
        )


def _has_key(workload: Any, key: str) -> bool:  # noqa: ANN401 # a `Workload`
    keys = _KEYS.get(workload)
    if keys is None:
        keys = _KEYS[workload] = frozenset(workload.keys)
    return key in keys


class _Always:
    """A random choice that is always the same."""

    def __init__(self, key: str) -> None:
        self._key = key

    def choice(self, _keys: Sequence[str]) -> str:
        return self._key


@contextmanager
def _replaced(session: object, name: str, value: object) -> Iterator[None]:
    """Replace how a session chooses its next operation, for one step."""
    before = getattr(session, name)
    setattr(session, name, value)
    try:
        yield
    finally:
        setattr(session, name, before)


class DatabaseUser(User):
    """A user who performs operations on a database; a subclass sets `database` and has tasks.

    Tasks call `step` for the workload's next operation, or `read`, `write`, `append` and `draw` for one of their own
    choice. Without `--rate`, the user waits for `wait_time` between tasks (closed loop; default: no wait). With it,
    operations are due at fixed times whatever happened before (open loop), and `wait_time` is ignored: an operation
    that is late starts at once, and its lateness counts in its response time.
    """

    abstract = True
    database: ClassVar[str]
    workload: ClassVar[str | None] = None
    """What sessions do; None: what `--workload` says."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self._session: UserSession | None = None
        self._due: int | None = None
        """When the next operation is due, in an open loop."""
        self._idle = False
        """Whether no operation was performed since the last wait."""
        if getattr(environment.parsed_options, "rate", None):
            self.wait_time = self._time_until_due  # type: ignore[method-assign] # in place of the class's own

    def on_start(self) -> None:
        """Open the session. A subclass need not call this: the first operation opens the session too."""
        self._open()

    def step(self) -> None:
        """Perform the workload's next operation."""
        session = self._open()
        due = self._await_due()
        self._opened.perform(session.step, due)

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
            self._clock, self._rate = run.settings.clock, run.settings.load.rate
            self._opened: OpenDatabase = run.open(self.database, self.workload)
            database_run = self._opened.wait_until_open()
            if database_run is None:
                raise GreenletExit
            self._session = UserSession(database_run, run.session_name())
            if self._rate is not None:  # spread the users over their period, or all would start together
                self._due = self._clock.now() + round(random.random() * self._period_ns)
        if self._opened.over:
            raise GreenletExit
        return self._session

    def _await_due(self) -> int | None:
        """Wait until the next operation is due, and return that time; None in a closed loop."""
        due, self._idle = self._due, False
        if due is None:
            return None
        if (left_ns := due - self._clock.now()) > 0:
            gevent.sleep(left_ns / 1e9)
            if self._opened.over:
                raise GreenletExit
        self._due = due + round(self._period_ns)
        return due

    def _time_until_due(self) -> float:
        """Return the seconds until the next operation is due; a task without any operation skips one."""
        if self._due is None:
            return 0
        if self._idle:
            self._due += round(self._period_ns)
        self._idle = True
        return max(0, self._due - self._clock.now()) / 1e9

    @property
    def _period_ns(self) -> float:
        """The time from one operation of this user to the next, if all users together have the rate."""
        return self._worker.users / (self._rate or 1) * 1e9


plugin.install(DatabaseUser)
