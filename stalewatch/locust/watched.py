"""`Watched`: blocks around the operations of any Locust user, so that they are recorded and judged."""

import logging
from collections.abc import Sequence
from functools import partial
from random import Random
from typing import Any, ClassVar, cast

from gevent import GreenletExit
from locust import TaskSet, User, events
from locust.env import Environment
from locust.runners import WorkerRunner

from stalewatch.locust import plugin
from stalewatch.locust.options import OWN
from stalewatch.locust.own_database import OpenOwn, OwnSession, OwnWorkload, group_of
from stalewatch.locust.worker import parse_locusts_defaults_once, worker_of
from stalewatch.watch.misuse import Misuse
from stalewatch.watch.session import AppendBlock, DrawBlock, ReadBlock, WriteBlock
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import SessionKeys

log = logging.getLogger("stalewatch")


class UserWatch:
    """One user's watch: its worker's keys, which it chooses from, and the blocks around its operations."""

    def __init__(self, opened: OpenOwn, made: OwnWorkload, load: LoadOptions, name: str) -> None:
        self.opened = opened
        self.keys: Sequence[str] = made.keys
        """The keys of this worker."""
        self.lists: Sequence[str] = made.lists
        """The lists of this worker, one for every hundred keys, and one at least."""
        self.counters: Sequence[str] = made.counters
        """The counters of this worker, as many as lists."""
        self._session = OwnSession(made.blocks, name, opened)
        self._random = Random(f"{load.seed}/{name}")
        self._keys = SessionKeys(made.choice, load.reread, self._random)

    def key(self) -> str:
        """Return a key to read, often one that this user wrote recently."""
        return self._keys.to_read()

    def key_to_write(self) -> str:
        """Return a key to write."""
        return self._keys.to_write()

    def list(self) -> str:
        """Return a list to append to."""
        return self._random.choice(self.lists)

    def counter(self) -> str:
        """Return a counter to draw from."""
        return self._random.choice(self.counters)

    def read(self, key: str) -> ReadBlock:
        """Return a block around a read; call its `saw` with the version that the value came with."""
        return self._session.read(key)

    def write(self, key: str) -> WriteBlock:
        """Return a block around a write; its `version` is the number to store with the value."""
        self._keys.note_write(key)
        return self._session.write(key)

    def append(self, key: str) -> AppendBlock:
        """Return a block around an append to a list; its `item` is what to append."""
        return self._session.append(key)

    def draw(self, key: str) -> DrawBlock:
        """Return a block around the drawing of an id from a counter; call its `took` with the id."""
        return self._session.draw(key)


class Watched:
    """Mixin for any user class: `class Shopper(Watched, HttpUser)`; each user is one session.

    Classes that derive from one common user class with this mixin share its keys; others have keys of their own. These
    attributes and methods are optional, and the methods are called outside the load, on users of the class that Locust
    does not schedule and whose requests are not counted; `on_start` is called for them before, and `on_stop` after:

    * `create(key)`: make it exist, at version 0 or without a value; may return the name by which the application knows
      it, which is the key from then on. Likewise `create_list`, `create_counter`.
    * `share`: a list of entities that exist already, or a method that returns it; every worker gets its own part.
      `create` is then called for each, to set its version to 0.
    * `final_read(key)`: return the version that is there in the end (None: try again); with siblings, a list of both.
    * `final_items(list)`: return all items that a list holds in the end.
    * `remove(key)`, `remove_list`, `remove_counter`: delete what was created, unless `--keep`.
    """

    environment: Environment
    database: ClassVar[str] = OWN.name
    growing: ClassVar[bool] = False
    """Whether the store itself never lets an older version win, so that writers of one key need not wait."""
    show_operations: ClassVar[bool | None] = None
    """Whether blocks are rows in Locust's statistics; None: unless it is an HTTP user, whose requests are rows."""
    scheduled: bool = True
    """False for users who only create keys or make final reads."""
    _watch: UserWatch | None = None

    @property
    def watch(self) -> UserWatch:
        """The keys and blocks, once the keys are created; a user who asks for it after the run has ended is ended."""
        watch = self._watch
        if watch is None:
            watch = self._watch = self._open()
        if watch.opened.over:
            raise GreenletExit
        return watch

    def _open(self) -> UserWatch:
        """Return the watch, once the keys are created; end the user if the run is over."""
        name = type(self).__name__
        if not self.scheduled:
            raise Misuse(
                f"{name} used self.watch outside the load: create, final_read and so on call the application only; "
                "on_start is called before them, so let it use self.watch only `if self.scheduled`"
            )
        run = worker_of(self.environment).run()
        if run is None or run.over:
            raise GreenletExit
        group = group_of(type(self))
        opened = run.open(
            OWN.name, f"{group.__module__}.{group.__qualname__}", partial(OpenOwn, cast("type[User]", type(self)))
        )
        assert isinstance(opened, OpenOwn)  # noqa: S101 # no other database has that name
        if opened.wait_until_open() is None or opened.made is None:
            raise GreenletExit
        return UserWatch(opened, opened.made, run.settings.load, run.session_name())


def _end_test(user_instance: Any, exception: BaseException, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
    """End the test because of a mistake in a task, in place of Locust's traceback and the next task."""
    user = user_instance.user if isinstance(user_instance, TaskSet) else user_instance
    if isinstance(exception, Misuse) and isinstance(user, Watched):
        watch = user._watch  # noqa: SLF001 # of this module
        if watch is not None:
            watch.opened.fail(f"{type(user).__name__}: {exception}")
        raise GreenletExit


def _warn_of_rate(environment: Environment, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
    """Say once per run that `--rate` does not pace watched users."""
    rate = getattr(environment.parsed_options, "rate", None)
    names = ", ".join(one.__name__ for one in environment.user_classes if issubclass(one, Watched))
    if rate and names and not isinstance(environment.runner, WorkerRunner):
        log.warning(
            "--rate %s does not pace %s: set wait_time = constant_throughput(...) in the class instead", rate, names
        )


events.test_start.add_listener(_warn_of_rate)
events.user_error.add_listener(_end_test)
parse_locusts_defaults_once()
plugin.install(Watched)
