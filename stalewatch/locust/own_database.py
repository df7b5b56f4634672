"""The database `own`: whatever a `Watched` class talks to, as a client whose set-up and final reads are its methods.

Separate from the class, so that the engine runs it like every other database: keys, recording, final reads, result.
"""

import copy
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from gevent import GreenletExit
from locust import FastHttpUser, HttpUser, User
from locust.event import EventHook

from stalewatch.clients.errors import BadAddress, ClientError, Failure, Unreachable, without_credentials
from stalewatch.clients.preload import removed_on_failure
from stalewatch.clients.protocol import Answer, Client, ClientSession, Levels
from stalewatch.engine.database_run import RunSpec
from stalewatch.engine.final_reads import READERS
from stalewatch.engine.threads import Threads
from stalewatch.history.clock import Clock
from stalewatch.locust import messages
from stalewatch.locust.open_database import OpenDatabase, RequestEvents, WorkerRunSettings
from stalewatch.locust.options import OWN
from stalewatch.recording.recorder import Recorder
from stalewatch.watch.misuse import Misuse
from stalewatch.watch.session import KINDS, MAX_REASON, WatchedRun, WatchedSession
from stalewatch.workloads import Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import DISTRIBUTIONS, RecordedWorkload, object_keys

log = logging.getLogger("stalewatch")


def defines(user_class: type, name: str) -> bool:
    """Return whether a class has that method for us, rather than a task of that name."""
    method = getattr(user_class, name, None)
    return callable(method) and not hasattr(method, "locust_task_weight")


MISTAKES = (TypeError, AttributeError, NameError, ImportError, NotImplementedError)
"""Errors of code rather than of what it talks to; a KeyError or ValueError may come from an answer of a sick server."""


class OwnClient:
    """Calls the methods of a user class, on instances that Locust does not schedule and whose requests do not count."""

    database = OWN.name

    def __init__(self, user_class: type[User], settings: WorkerRunSettings, fail: Callable[[str], None]) -> None:
        """Call `fail` with a mistake in the class's final reads, which ends the test."""
        self.user_class = user_class
        self.clock: Clock = settings.clock
        self.names: dict[str, str] = {}
        """By key, what the application calls it, if `create` said so."""
        self._settings = settings
        self._fail = fail
        self._shares = False
        """Whether the entities exist already, and stay."""
        self._idle: list[User] = []
        self._environment = copy.copy(settings.environment)
        self._environment.events = copy.copy(settings.environment.events)
        self._environment.events.request = EventHook()

    def prepare(self) -> None:
        """Make a user, which fails without a host (raises a `ClientError`)."""
        with self._user():
            pass

    def shared(self) -> list[str] | None:
        """Return this worker's part of the entities that exist already; None if the class does not name any.

        Raises `BadAddress` if they cannot be shared, and `ClientError` if they cannot be listed.
        """
        share = getattr(self.user_class, "share", None)
        if share is None or hasattr(share, "locust_task_weight"):
            return None
        found = self._call("share") if callable(share) else share
        names = [] if isinstance(found, str | bytes | None) else sorted(set(found), key=str)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise BadAddress(
                f"{self._name}.share must be a list of strings, or a method that returns one, not {found!r}"
            )
        workers, worker = self._workers(), self._settings.worker
        if len(names) < workers:
            raise BadAddress(f"{self._name}.share names {len(names)} entities for {workers} workers: each needs one")
        self._shares = True
        return names[worker::workers]

    def _workers(self) -> int:
        """Return how many workers share entities; raise `BadAddress` if that is unknown."""
        settings, given = self._settings, self._settings.options
        if settings.own_master:
            return 1
        announced = max(int(getattr(given, name, 1) or 1) for name in ("processes", "expect_workers"))
        if max(settings.worker + 1, int(getattr(given, messages.WORKERS, 1))) > announced:
            raise BadAddress(
                f"{self._name}.share: worker {settings.worker} cannot tell its part, since the number of workers is "
                f"unknown, or exceeds {announced}: start the master with --expect-workers N, or use --processes N"
            )
        return announced

    def claim(self, keys: Sequence[str]) -> None:
        """Raise `BadAddress` if another class of this worker uses one of the entities, or this one twice."""
        if len(set(keys)) < len(keys):
            raise BadAddress(f"{self._name}.create returned the same name for two keys")
        for key in keys:
            owner = self._settings.claimed.setdefault(key, self._name)
            if owner != self._name:
                raise BadAddress(
                    f"{self._name} and {owner} would both number the versions of {key!r}: let them derive from one "
                    "class with `Watched`, or give them different entities"
                )

    def preload(self, keys: Sequence[str], payload: str) -> None:
        """Create every key, if the class can, or prepare it, if it exists already."""
        if self._shares:
            self._for_each("create", keys, [])
        else:
            self._create("create", "remove", keys)

    def create_lists(self, keys: Sequence[str]) -> None:
        """Create every list, if the class can."""
        self._create("create_list", "remove_list", keys)

    def create_counters(self, keys: Sequence[str]) -> None:
        """Create every counter, if the class can."""
        self._create("create_counter", "remove_counter", keys)

    def _create(self, hook: str, undo: str, keys: Sequence[str]) -> None:
        if not defines(self.user_class, hook):
            return
        with removed_on_failure(lambda created: self._for_each(undo, created)) as created:
            self._for_each(hook, keys, created)

    def session(self, name: str) -> ClientSession:
        """Raise: users perform their operations themselves."""
        raise NotImplementedError

    def final(self, key: str) -> Answer:
        """Ask the user class which version is there in the end."""
        found = self._call("final_read", key)
        if found is None:
            return Answer("fail", error="final_read returned None")
        version, *siblings = found if isinstance(found, list | tuple) and found else [found]
        for one in (version, *siblings):
            if type(one) is not int or one < 0:
                raise Misuse(f"final_read({key!r}) returned {found!r}: return a version, or 0 if there is no value")
        return Answer(version=version, siblings=siblings if isinstance(found, list | tuple) else None)

    def final_items(self, key: str) -> Answer:
        """Ask the user class which items a list holds in the end."""
        found = self._call("final_items", key)
        if found is None:
            return Answer("fail", error="final_items returned None")
        items = [] if isinstance(found, str | bytes) else list(found)
        if isinstance(found, str | bytes) or not all(isinstance(item, str) for item in items):
            raise Misuse(f"final_items({key!r}) returned {found!r:.200}: return a list of strings, as appended")
        return Answer(items=items)

    def explain(self, error: BaseException) -> Failure:
        """Return that nobody knows what came of it, and the error's class and text."""
        if isinstance(error, Misuse):
            self._fail(f"{self._name}: {error}")
        elif isinstance(error, MISTAKES):
            self._fail(f"{self._name}: a mistake in the final reads, which no waiting mends: {self._said(error)}")
        return Failure("unknown", self._said(error))

    def settings(self) -> dict[str, object]:
        """Return what kind of registers the keys are."""
        return {"registers": registers_of(self.user_class)}

    def levels(self) -> Levels:
        """Return the class's name, which names its operations."""
        return Levels(self._name, self._name)

    def remove(self, keys: Sequence[str]) -> None:
        """Delete the keys, if the class can and has created them."""
        if not self._shares:
            self._for_each("remove", keys)

    def remove_lists(self, keys: Sequence[str]) -> None:
        """Delete the lists, if the class can."""
        self._for_each("remove_list", keys)

    def remove_counters(self, keys: Sequence[str]) -> None:
        """Delete the counters, if the class can."""
        self._for_each("remove_counter", keys)

    def close(self) -> None:
        """End the users."""
        for user in self._idle:
            try:
                user.on_stop()
            except Exception as error:  # noqa: BLE001 # the user's own code; the run is over
                log.warning("%s.on_stop: %s", self._name, self._said(error))
        self._idle.clear()

    @property
    def _name(self) -> str:
        return self.user_class.__name__

    @contextmanager
    def _user(self) -> Iterator[User]:
        """Lend a user, who is busy with one call at a time."""
        user = self._idle.pop() if self._idle else self._new()
        try:
            yield user
        finally:
            self._idle.append(user)

    def _new(self) -> User:
        try:
            user: User = self.user_class(self._environment)
            user.scheduled = False  # type: ignore[attr-defined] # of `Watched`
            user.on_start()
        except Misuse:
            raise
        except Exception as error:
            raise Unreachable(f"{self._name} cannot be started: {self._said(error)}") from error
        return user

    def _call(self, hook: str, *arguments: object) -> Any:  # noqa: ANN401 # what the user's own code returns
        with self._user() as user:
            return getattr(user, hook)(*arguments)

    def _for_each(self, hook: str, keys: Sequence[str], done: list[str] | None = None) -> None:
        """Call the method for every key, a few at a time; stop at the first failure (raises `ClientError`)."""
        if not defines(self.user_class, hook):
            return
        waiting = list(keys)[::-1]

        def work() -> None:
            while waiting:
                key = waiting.pop()
                try:
                    name = self._call(hook, self.names.get(key, key))
                except (ClientError, Misuse):
                    waiting.clear()
                    raise
                except Exception as error:
                    waiting.clear()
                    raise Unreachable(f"{self._name}.{hook}({key!r}) failed: {self._said(error)}") from error
                if done is not None:
                    done.append(key)
                    self.names[key] = key if name is None else str(name)

        workers = {f"{hook} {number}": work for number in range(min(READERS, len(waiting)))}
        Threads(self.clock, lambda: False).run(workers, lambda: None)

    def _said(self, error: BaseException) -> str:
        """Return an error in a line: its class, its text, and the line of the user's code that it left last."""
        text = without_credentials(" ".join(f"{type(error).__name__}: {error}".split()))[:MAX_REASON]
        file = getattr(sys.modules.get(self.user_class.__module__), "__file__", None)
        place, at = "", error.__traceback__
        while at is not None:
            if at.tb_frame.f_code.co_filename == file:
                place = f" (line {at.tb_lineno} of {file})"
            at = at.tb_next
        return text + place


def is_watched(user_class: type) -> bool:
    """Return whether users of that class have blocks around their operations."""
    return getattr(user_class, "database", None) == OWN.name


def group_of(user_class: type) -> type:
    """Return the first user class among a class's bases that is watched: all that derive from it share its keys."""
    return [one for one in user_class.__mro__ if issubclass(one, User) and is_watched(one)][-1]


def registers_of(user_class: type) -> Any:  # noqa: ANN401 # one of two words
    """Return the kind of registers that a class's keys are: ``growing`` or ``overwriting``."""
    return "growing" if getattr(user_class, "growing", False) else "overwriting"


class OwnedKeys(WatchedRun):
    """The blocks of one worker's users, who may use its own keys only."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        owned: Mapping[str, Iterable[str]],
        over: Callable[[], bool],
        *,
        growing: bool,
    ) -> None:
        super().__init__(recorder, name, growing=growing)
        self._over = over
        self._owned = {workload: frozenset(keys) for workload, keys in owned.items()}

    def require_running(self) -> None:
        """End the user if the run is over: no operation begins any more."""
        if self._over():
            raise GreenletExit

    def require_kind(self, workload: str, key: str) -> None:
        """Raise `Misuse` for a name that is not this worker's."""
        if key not in self._owned[workload]:
            word = KINDS[workload]
            raise Misuse(f"{key!r} is not a {word} of this worker, which uses its own alone: choose from watch.{word}s")


class OwnSession(WatchedSession):
    """One user, whose open block the end of the run waits for."""

    __slots__ = ("_opened",)

    def __init__(self, run: WatchedRun, name: str, opened: OpenDatabase) -> None:
        super().__init__(run, name)
        self._opened = opened

    def begin(self, block: Any) -> None:  # noqa: ANN401 # any block
        """Open a block."""
        super().begin(block)
        self._opened.in_flight += 1

    def end(self) -> None:
        """Close the open block."""
        self._opened.in_flight -= 1
        super().end()


class OwnWorkload(RecordedWorkload):
    """The keys, lists and counters of a user class, who performs the operations itself."""

    _client: OwnClient

    def __init__(
        self,
        client: OwnClient,
        recorder: Recorder,
        keys: Sequence[str],
        options: LoadOptions,
        run: str,
        over: Callable[[], bool],
    ) -> None:
        super().__init__(client, recorder, keys, options)
        self.lists = object_keys(keys, "list")
        self.counters = object_keys(keys, "counter")
        self._run = run
        self._over = over

    def preload(self) -> None:
        """Create what the class can create, and take the names that it gives."""
        client = self._client
        if (shared := client.shared()) is not None:
            self.keys = shared
            self.lists, self.counters = object_keys(shared, "list"), object_keys(shared, "counter")
        client.preload(self.keys, "")
        client.create_lists(self.lists)
        client.create_counters(self.counters)
        self.keys, self.lists, self.counters = map(self._named, (self.keys, self.lists, self.counters))
        client.names.clear()
        client.claim(self.keys)
        growing = registers_of(client.user_class) == "growing"
        owned = {"register": self.keys, "ledger": self.lists, "sequence": self.counters}
        self.blocks = OwnedKeys(self._recorder, self._run, owned, self._over, growing=growing)
        self.choice = DISTRIBUTIONS[self._options.distribution](self.keys)

    def _named(self, keys: Sequence[str]) -> list[str]:
        return [self._client.names.get(key, key) for key in keys]

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Raise: users perform their operations themselves."""
        raise NotImplementedError

    def written_keys(self) -> list[str]:
        """Return the keys and lists with an acknowledged write, if the class can read what they hold in the end."""
        user_class = self._client.user_class
        readable = {
            *(self.keys if defines(user_class, "final_read") else ()),
            *(self.lists if defines(user_class, "final_items") else ()),
        }
        return [key for key in self._recorder.written_keys() if key in readable]

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Make the final read of a key or list."""
        is_list = key in self.blocks.used["ledger"]
        return [(key, self._client.final_items(key) if is_list else self._client.final(key))]

    def remove(self) -> None:
        """Delete what was created; entities that existed before stay."""
        self._client.remove(self.keys)
        self._client.remove_lists(self.lists)
        self._client.remove_counters(self.counters)

    def extra_results(self) -> Mapping[str, object]:
        """Return what the operations worked on."""
        return {"workloads": sorted(self.blocks.workloads) or ["register"]}


class OpenOwn(OpenDatabase):
    """The run of one `Watched` class, or of several that derive from a common one, in this worker."""

    def __init__(
        self, user_class: type[User], database: str, workload: str, first_key: int, settings: WorkerRunSettings
    ) -> None:
        self.client = OwnClient(user_class, settings, self.fail)
        self.made: OwnWorkload | None = None
        """The keys and blocks, once they are made."""
        super().__init__(database, workload, first_key, settings)

    def _spec(self) -> RunSpec:
        return replace(
            super()._spec(),
            database=OWN._replace(open=lambda *_: self.client),
            workload=",".join(KINDS),
            make_workload=self._make,
            registers=registers_of(self.client.user_class),
        )

    def _make(self, _client: Client, recorder: Recorder, keys: Sequence[str], load: LoadOptions) -> OwnWorkload:
        self.made = OwnWorkload(self.client, recorder, keys, load, self._settings.run, lambda: self.over)
        return self.made

    def _request_events(self, levels: Levels | None) -> RequestEvents:
        user_class = self.client.user_class
        shown = getattr(user_class, "show_operations", None)
        has_rows = issubclass(user_class, HttpUser | FastHttpUser) if shown is None else not shown
        return super()._request_events(None if has_rows else levels)

    def _history_suffix(self) -> str:
        groups = {group_of(one) for one in self._settings.environment.user_classes if is_watched(one)}
        return f"-{self.workload}" if len(groups) > 1 else ""
