"""How stalewatch gets into Locust: its options, and in every process the sides that it plays."""

import logging
import sys
from argparse import Namespace
from collections.abc import Collection, Iterator
from typing import Any

from locust import User, events
from locust.argument_parser import get_parser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import parse_options
from stalewatch.clusters.local_clusters import addresses
from stalewatch.clusters.protocol import ClusterError
from stalewatch.locust import flags
from stalewatch.locust.coordinator import Coordinator
from stalewatch.locust.interrupts import Interrupts
from stalewatch.locust.master_metrics import MasterMetrics
from stalewatch.locust.part import UNREACHABLE, USAGE
from stalewatch.locust.participant import Participant
from stalewatch.locust.secrets import Vault
from stalewatch.locust.web import ConsistencyPages
from stalewatch.reports import page

log = logging.getLogger("stalewatch")

NOISY = ("cassandra", "pymongo")
"""Drivers that log every lost connection, tracebacks and all."""


def install(base: type[User]) -> None:
    """Register with Locust, once; the loaded subclasses of `base` say which databases there are options for."""

    def add_arguments(parser: Any, **_: Any) -> None:  # noqa: ANN401 # Locust's parser is not typed
        flags.add_arguments(parser, _databases(_subclasses(base)))

    def take_part(environment: Environment, runner: Runner | None, **_: Any) -> None:  # noqa: ANN401 # Locust's extras
        if runner is None or environment.parsed_options is None:
            return
        for driver in NOISY:  # what they say of a server stands in the answers; a worker's log goes to the page
            logging.getLogger(driver).setLevel(logging.CRITICAL)
        options = flags.options_of_all(_databases(_subclasses(base)))
        # A worker that joins a running test has the master's options already, in place of its own.
        own = get_parser().parse_args() if isinstance(runner, WorkerRunner) else environment.parsed_options
        vault = Vault(options, own)
        interrupts = Interrupts()
        if not isinstance(runner, WorkerRunner):
            # On the page classes may be picked, and options changed; its form is checked when it is sent.
            at_once = environment.parsed_options.headless or environment.parsed_options.autostart
            _require_sense(environment.parsed_options, chosen(environment) if at_once else [])
            if _starts_here_at_once(environment.parsed_options, runner):
                _start_clusters(environment.parsed_options, vault, chosen(environment))
            coordinator = Coordinator(environment, runner, interrupts, chosen)
            MasterMetrics.serve(environment, runner, coordinator, vault, interrupts)
            if environment.web_ui is not None:
                ConsistencyPages(environment.web_ui, coordinator, chosen)
        if not isinstance(runner, MasterRunner):
            Participant(environment, runner, interrupts, vault)

    def chosen(environment: Environment) -> Collection[str]:
        return _databases(one for one in environment.user_classes if issubclass(one, base))

    events.init_command_line_parser.add_listener(add_arguments)
    events.init.add_listener(take_part)


def _require_sense(options: Namespace, databases: Collection[str]) -> None:
    """End the process with one line where an option makes no sense."""
    try:
        flags.check(options, databases)
        if flags.path(options, "report") is not None:
            page.require()
    except (BadAddress, page.PageUnavailable) as error:
        print(f"locust: {error}", file=sys.stderr)
        sys.exit(USAGE)


def _starts_here_at_once(options: Namespace, runner: Runner) -> bool:
    """Tell whether a run begins by itself whose users are all on this machine."""
    many = isinstance(runner, MasterRunner) and not options.processes
    return bool(options.headless or options.autostart) and not many


def _start_clusters(options: Namespace, vault: Vault, databases: Collection[str]) -> None:
    """Start the local clusters that no address stands for, before the clock of `-t` runs; else the first user does."""
    for database in databases:
        row = DATABASES[database]
        if row.lacks_address(parse_options(row.options, vault.opened(options))):
            try:
                vars(options).update(addresses(database, log.info))
            except ClusterError as error:
                print(f"locust: {error}", file=sys.stderr)
                sys.exit(UNREACHABLE)


def _subclasses(base: type[User]) -> Iterator[type[User]]:
    for subclass in base.__subclasses__():
        if not subclass.abstract:
            yield subclass
        yield from _subclasses(subclass)


def _databases(classes: Any) -> list[str]:  # noqa: ANN401 # user classes, which have a `database`
    return sorted({str(one.database) for one in classes})
