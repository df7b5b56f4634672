"""How stalewatch gets into Locust: its options, its parts in every process, and Ctrl-C."""

import atexit
import logging
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
from locust import User, events
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import check_options
from stalewatch.clusters.protocol import ClusterError
from stalewatch.engine import stopping
from stalewatch.exit_codes import UNREACHABLE, USAGE
from stalewatch.locust import bound_ports, master_token, options, terminal
from stalewatch.locust.ending import Hurry
from stalewatch.locust.master import Master
from stalewatch.locust.metrics import MasterMetrics
from stalewatch.locust.options import OWN, Secrets
from stalewatch.locust.web import PASSWORD, ConsistencyPages, HiddenLogins
from stalewatch.locust.worker import Worker
from stalewatch.reports import page
from stalewatch.reports.files import claimed

log = logging.getLogger("stalewatch")

NOISY = ("cassandra", "pymongo")
"""Drivers that log every lost connection with its traceback; errors are recorded as answers anyway."""

LEAVE_AT_ONCE = 3


class Interrupts:
    """Ctrl-C: the first ends the run, the second skips the final reads, the third exits at once.

    A second SIGTERM exits at once too, and after any signal the process ends in time, whatever it waits for.

    Handles SIGINT between two greenlets, and SIGTERM until Locust does. Python would raise KeyboardInterrupt in the
    greenlet that happens to run: that of a session, of the reports, or of the workers' messages. That greenlet would
    die, and nobody would do its work. Here it is raised only in the main greenlet, where Locust waits for it, and not
    there either while the run is ending.
    """

    def __init__(self) -> None:
        self._times = 0
        self._terminated = 0
        self._hurriers: list[Callable[[], Hurry]] = []
        self._leave_start: Callable[[int], BaseException | None] = lambda _: None
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or handled by others
            gevent.signal_handler(signal.SIGINT, self._on_interrupt)
        # Locust sets its own handler of SIGTERM once it has started.
        gevent.signal_handler(signal.SIGTERM, self._on_terminate)

    def on_interrupt(self, hurry: Callable[[], Hurry]) -> None:
        """Call `hurry` at every Ctrl-C; it hurries an end that is under way."""
        self._hurriers.append(hurry)

    def on_start(self, leave_start: Callable[[int], BaseException | None]) -> None:
        """Call `leave_start` first, with the exit code; it returns what to raise if Locust is still starting."""
        self._leave_start = leave_start

    def _on_interrupt(self) -> None:
        if self._left_start(signal.SIGINT):
            _end_in_time(signal.SIGINT, at_once=False)
            return
        self._times += 1
        _end_in_time(signal.SIGINT, at_once=self._times >= LEAVE_AT_ONCE)
        found = {hurry() for hurry in self._hurriers}
        if found <= {Hurry.NOTHING} or self._times >= LEAVE_AT_ONCE:
            _raise_in_main(KeyboardInterrupt())
        elif Hurry.HURRIED in found:
            log.warning("ending without the rest of the final reads; press Ctrl-C again to exit at once")

    def _on_terminate(self) -> None:
        self._terminated += 1
        _end_in_time(signal.SIGTERM, at_once=self._terminated > 1)
        self._left_start(signal.SIGTERM)

    def _left_start(self, number: int) -> bool:
        error = self._leave_start(128 + number)
        if error is not None:
            _raise_in_main(error)
        return error is not None


def _end_in_time(number: int, *, at_once: bool) -> None:
    stopping.in_background(stopping.exit_after, stopping.AT_ONCE_S if at_once else stopping.LOCUST_STOP_S, 128 + number)


def _raise_in_main(error: BaseException) -> None:
    gevent.get_hub().handle_system_error(type(error), error)


_BASES: list[type] = []
"""The classes whose subclasses are our users."""


def install(base: type) -> None:
    """Register with Locust; the loaded subclasses of `base` are users of ours, whose databases have options."""
    _BASES.append(base)
    if len(_BASES) > 1:
        return

    def add_arguments(parser: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's parser is not typed
        try:
            options.add_arguments(parser, _databases(_loaded()))
        except BadAddress as error:  # Locust would only log it, and go on without the options
            parser.exit(USAGE, f"locust: {error}\n")
        options.add_drill_arguments(parser)
        bound_ports.guard(
            parser,
            lambda namespace: _problems(parser, namespace, _databases(_subclasses(base))),
            terminal.gather_workers,
        )

    def on_init(environment: Environment, runner: Runner | None, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if runner is None or environment.parsed_options is None:
            return
        for driver in NOISY:
            logging.getLogger(driver).setLevel(logging.CRITICAL)
        _start(environment, environment.parsed_options, runner, chosen)
        # gevent starts timers at its last look at the clock, which was before the imports: `-t` would be too short.
        gevent.get_hub().loop.update_now()

    def chosen(environment: Environment) -> Collection[str]:
        return _databases(one for one in environment.user_classes if issubclass(one, tuple(_BASES)))

    master_token.install()
    events.init_command_line_parser.add_listener(add_arguments)
    events.init.add_listener(on_init)


def _problems(parser: Any, namespace: Namespace, databases: Collection[str]) -> Iterator[str]:  # noqa: ANN401 # not typed
    """Yield why Locust must not start with these options."""
    yield from options.misplaced_credentials(namespace, parser)
    yield from master_token.prepare(namespace)
    if PASSWORD in os.environ and not (namespace.web_login or namespace.headless or namespace.worker):
        yield f"{PASSWORD} is set, but without --web-login the page asks for no password: give both or neither"
    if namespace.worker and options.has_passwords(namespace, databases):
        yield from master_token.distrust(namespace.master_host)


def _start(
    environment: Environment,
    namespace: Namespace,
    runner: Runner,
    databases_of: Callable[[Environment], Collection[str]],
) -> None:
    """Start the master or the worker in this process, or both."""
    databases = _databases(_loaded())
    is_worker = isinstance(runner, WorkerRunner)
    start_drill = None if is_worker or not namespace.drill else _prepared_drill(environment, namespace)
    # A worker that joins a running test has the master's options already, in place of its own.
    own = get_parser().parse_args() if is_worker else namespace
    _take_host(environment, own, databases_of(environment))
    secrets = Secrets(options.all_options(databases), own)
    interrupts = Interrupts()
    if not is_worker:
        _check_start(namespace, runner, secrets, databases_of(environment))
        if isinstance(runner, MasterRunner):
            master_token.warn_of_open_port(namespace.master_bind_host)
        terminal.show(environment, lambda: master.run)
        master = Master(environment, runner, databases_of, secrets)
        interrupts.on_interrupt(master.on_interrupt)
        interrupts.on_start(master.leave_start)
        if namespace.metrics_port:
            interrupts.on_interrupt(MasterMetrics(environment, runner, lambda: master.run, secrets).hurry)
        HiddenLogins(environment).hide_in_report()
        if environment.web_ui is not None:
            ConsistencyPages(environment.web_ui, master, databases_of)
        if start_drill is not None:
            start_drill(master)
    if not isinstance(runner, MasterRunner):
        interrupts.on_interrupt(Worker(environment, runner, secrets).on_interrupt)


def _prepared_drill(environment: Environment, namespace: Namespace) -> Callable[[Master], None]:
    """Start the cluster of a drill, and return what starts the drill with every test."""
    from stalewatch.locust import drill  # noqa: PLC0415 # drills and clusters would be a tenth of every start

    prepared = drill.prepare(environment, namespace)
    return lambda master: drill.run_with_every_test(environment, master, prepared)


def _take_host(environment: Environment, namespace: Namespace, databases: Collection[str]) -> None:
    """Use `-H` as the address of a database, and keep its password off the page and out of messages."""
    others = any(getattr(one, "database", OWN.name) == OWN.name for one in environment.user_classes)
    try:
        options.take_host(namespace, databases, others=others)
    except BadAddress as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(USAGE)
    if environment.parsed_options is not None:
        environment.host = environment.parsed_options.host = namespace.host


def _check(namespace: Namespace, databases: Collection[str]) -> None:
    """Exit with a message if an option is invalid."""
    try:
        options.check(namespace, databases)
        options.stdout_taken(namespace)
        if options.path(namespace, "report") is not None:
            page.require()
        claims = ExitStack()
        claims.enter_context(claimed(options.files(namespace), log.warning))
        atexit.register(claims.close)
    except (BadAddress, page.PageUnavailable) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(USAGE)
    except OSError as error:
        print(f"locust: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(USAGE)


def _check_start(namespace: Namespace, runner: Runner, secrets: Secrets, databases: Collection[str]) -> None:
    """Check the options, and start local clusters if all users are in this process."""
    # On the page, classes can be picked and options changed; its form is checked when it is submitted.
    at_once = namespace.headless or namespace.autostart
    _check(namespace, databases if at_once else [])
    if at_once and not (isinstance(runner, MasterRunner) and not namespace.processes):
        _start_clusters(namespace, secrets, databases)


def _start_clusters(namespace: Namespace, secrets: Secrets, databases: Collection[str]) -> None:
    """Start local clusters for databases without an address before `-t` counts; otherwise the first user does."""
    from stalewatch.clusters.local_clusters import cluster  # noqa: PLC0415 # as above

    for name in filter(DATABASES.__contains__, databases):
        database = DATABASES[name]
        given = secrets.options_of(database, namespace)
        try:
            check_options(given)
            if database.lacks_address(given):
                local = cluster(name)
                local.ensure(log.info)
                vars(namespace).update(local.client_options())
        except BadAddress as error:
            print(f"locust: {error}", file=sys.stderr)
            sys.exit(USAGE)
        except ClusterError as error:
            print(f"locust: {error}", file=sys.stderr)
            sys.exit(UNREACHABLE)


def _loaded() -> Iterator[type[User]]:
    """Yield our user classes of the locustfiles."""
    for base in _BASES:
        yield from _subclasses(base)


def _subclasses(base: type[Any]) -> Iterator[type[User]]:
    for subclass in base.__subclasses__():
        if issubclass(subclass, User) and not subclass.abstract:
            yield subclass
        yield from _subclasses(subclass)


def _databases(classes: Any) -> list[str]:  # noqa: ANN401 # user classes, which have a `database`
    return sorted({str(one.database) for one in classes})
