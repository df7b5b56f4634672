"""Locust's command line and form, and how secrets stay in the process that they were given to."""

import logging
import os
from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stalewatch.clients import databases as table
from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.clients.options import Login, Option, options_of, parse_options, port, public_values, strayed
from stalewatch.clients.protocol import Client, Database
from stalewatch.drills.catalogue import FLAGS
from stalewatch.history.clock import Clock
from stalewatch.locust.bound_ports import LOOPBACK
from stalewatch.reports import ci, expect
from stalewatch.reports.files import STDOUT, OutputFile
from stalewatch.watch.watch import DATABASE
from stalewatch.workloads.options import LoadOptions

log = logging.getLogger("stalewatch")


@dataclass(frozen=True)
class OwnOptions:
    """The options of what users address themselves: none, for only their class knows what it is."""


def _open_own(_options: OwnOptions, _users: int, _seed: int, _clock: Clock) -> Client:
    raise NotImplementedError  # each `Watched` class brings a client of its own


OWN = Database(DATABASE, "your own operations", "what users with blocks of their own address", OwnOptions, _open_own)

DATABASES: Mapping[str, Database] = {**table.DATABASES, OWN.name: OWN}
"""What users under Locust may load: the table of databases, and what they address themselves."""

LOCUST_OPTIONS = frozenset({"users", "ops", "duration"})
"""Options of the bench for which Locust has its own: ``-u`` and ``-t``."""

LOAD = tuple(option for option in options_of(LoadOptions) if option.name not in LOCUST_OPTIONS)

OUTPUTS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    (
        "--expect",
        {"metavar": "LIST", "help": "exit 1 if an expectation is missed: read_your_writes=0,stale_reads<0.05"},
    ),
    ("--report-json", {"metavar": "FILE", "help": "write the result as JSON; - is standard output"}),
    *ci.FLAGS.items(),
    ("--report", {"metavar": "FILE", "help": "write the result as a web page with charts"}),
    (
        "--history-dir",
        {"metavar": "DIR", "help": "write every operation, one file per worker: DIR/RUN-wN-DATABASE.jsonl"},
    ),
    # Locust answers --help before it loads any locustfile.
    ("--help-all", {"action": "help", "help": "show every option, including those that the locustfile adds"}),
    (
        "--metrics-port",
        {
            "type": port,
            "metavar": "PORT",
            "help": "serve the run's totals and the list of workers to Prometheus; each worker takes a free port",
        },
    ),
    (
        "--metrics-host",
        {
            "default": LOOPBACK,
            "metavar": "HOST",
            "help": "address to serve metrics at; 0.0.0.0 if Prometheus or a worker runs on another machine",
        },
    ),
    (
        "--web-allowed-hosts",
        {
            "metavar": "NAME,...",
            "help": "other names of the web page, such as that of a reverse proxy; requests to other hosts, and from "
            "pages of other sites, are refused",
        },
    ),
    ("--keep", {"action": "store_true", "help": "do not delete the run's keys"}),
)


def add_arguments(parser: Any, databases: Collection[str]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add the options of the load, of these databases and of the results."""
    error = parser.error
    parser.error = lambda message: error(without_credentials(message))
    for flag, options in _by_flag(databases).items():
        _add(parser, flag, options)
    for flag, keywords in OUTPUTS:
        parser.add_argument(flag, include_in_web_ui=False, **keywords)


def add_drill_arguments(parser: Any) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add the options of a drill."""
    parser.add_argument(
        "--drill",
        metavar="NAME",
        help="break the cluster during the test; for names see `stalewatch drill --list`",
        include_in_web_ui=False,
    )
    for flag, options in FLAGS.items():
        parser.add_argument(flag, **options, include_in_web_ui=False)


def all_options(databases: Iterable[str]) -> list[Option]:
    """Return the options of the load and of these databases."""
    return [*LOAD, *(option for database in databases for option in DATABASES[database].flags())]


def _by_flag(databases: Iterable[str]) -> dict[str, dict[str, Option]]:
    """Return every flag once, with its option in each database that has it."""
    found: dict[str, dict[str, Option]] = {option.flag: {"": option} for option in LOAD}
    for database in databases:
        for option in DATABASES[database].flags():
            found.setdefault(option.flag, {})[database] = option
    return found


def _add(parser: Any, flag: str, options: dict[str, Option]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add a flag; its value stays text until `parse_options`, and empty text means no value."""
    taken, every = parser._option_string_actions, list(options.values())  # noqa: SLF001 # argparse has no public way
    first = every[0]
    default = _common(None if option.env else option.default_text for option in every)
    choices = first.choices if all(option.choices == first.choices for option in every) else None
    if choices and default is None:  # without an empty choice the form would select the first one
        choices, default = ("", *choices), ""
    flags = [one for one in (flag, *first.aliases) if one not in taken]  # Locust's own come first
    if not flags or any(action.dest == first.name for action in taken.values()):
        raise BadAddress(
            f"{flag} of {', '.join(name for name in options if name) or 'the load'} cannot be an option under Locust, "
            f"which has an option {flag} of its own: call it something else in the database's options"
        )
    parser.add_argument(
        *flags,
        dest=first.name,
        default=default,
        metavar=None if choices else first.name.upper(),
        choices=choices,
        **({} if first.alone is None else {"nargs": "?", "const": first.alone}),
        help=_help(options).replace("%", "%%"),
        include_in_web_ui=not any(option.secret for option in every) and any(option.on_page != () for option in every),
    )


def _common(values: Iterable[str | None]) -> str | None:
    """Return the value that all have in common: one database's default must not become another's."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _help(options: dict[str, Option]) -> str:
    texts: dict[str, list[str]] = {}
    for database, option in options.items():
        texts.setdefault(f"{option.help} [{option.env}]" if option.env else option.help, []).append(database)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(databases)}: {text}" for text, databases in texts.items())


def public_load(load: LoadOptions) -> dict[str, object]:
    """Return the options of the load for which Locust has none of its own, as results show them."""
    values = public_values(load)
    return {option.name: values[option.name] for option in LOAD}


def take_host(namespace: Namespace, databases: Iterable[str], *, others: bool) -> None:
    """Take Locust's ``-H`` as the address of a database, unless it is meant for `others`, users of other systems.

    It stays in the namespace without its secrets. Raises `BadAddress` if it could belong to several databases.
    """
    host = str(namespace.host or "")
    scheme = host.partition("://")[0] if "://" in host else ""
    rows = [row for row in map(DATABASES.__getitem__, databases) if row.addresses]
    found = [row for row in rows if scheme.startswith(row.name)] or ([] if others else rows)
    if not host or not found:
        return
    flags = {option.flag: option for row in found for option in row.flags() if option.field in row.addresses}
    if len(found) > 1:
        raise BadAddress(f"-H: it could be the address of {_either(row.name for row in found)}: use {_either(flags)}")
    option, *_ = flags.values()
    if any(getattr(namespace, one.name, None) for one in flags.values()):
        log.warning("-H is not used: %s says where %s is", _either(flags), found[0].name)
    else:
        setattr(namespace, option.name, host)
    namespace.host = option.redaction.redact(host) if option.secret else host


def _either(names: Iterable[str]) -> str:
    return " or ".join(names)


def misplaced_credentials(namespace: Namespace, parser: Any) -> Iterator[str]:  # noqa: ANN401 # not typed
    """Yield what is wrong with options that hold a user and a password although they are no secret.

    They would be on the page, in logs and in every message to a worker.
    """
    secret = {option.name for database in DATABASES.values() for option in database.flags() if option.secret}
    for action in parser._actions:  # noqa: SLF001 # argparse has no public way
        text = getattr(namespace, action.dest, None)
        if action.dest in {*secret, "host"} or not isinstance(text, str):
            continue
        if without_credentials(text) != text:
            yield f"{'/'.join(action.option_strings) or action.dest}: it takes no user and password: remove them"


def has_passwords(namespace: Namespace, databases: Iterable[str]) -> bool:
    """Return whether this process was given a password for any of the databases."""
    given = Namespace(**vars(namespace))
    try:
        take_host(given, databases, others=True)
        return any(_logins(DATABASES[name], given) for name in databases)
    except BadAddress:  # the options are checked later
        return True


def _logins(database: Database, namespace: Namespace, environ: Mapping[str, str] = os.environ) -> list[Login]:
    """Return the logins that a process was given; raise `BadAddress` for invalid options."""
    options: Any = parse_options(database.options, namespace, environ)
    return list(options.logins()) if hasattr(options, "logins") else []


def not_on_page(kept: Namespace, databases: Iterable[str], given: Mapping[str, str]) -> list[str]:
    """Return the options that a form would change, but that say which servers to connect to, or how."""
    found = set()
    for option in all_options(databases):
        text = given.get(option.name)
        if text is None or option.on_page is None or text == str(getattr(kept, option.name, None) or ""):
            continue
        if text not in option.on_page and (text or not option.on_page):
            found.add(option.name)
    return sorted(found)


def changed(kept: Namespace, databases: Iterable[str], given: Mapping[str, str]) -> list[str]:
    """Return those of our options that a form would change while a test runs, which keeps its values.

    An empty seed means any seed; the test has chosen one.
    """
    current = {option.name: str(getattr(kept, option.name, None) or "") for option in all_options(databases)}
    asked = {name: text for name, text in given.items() if text or name != "seed"}
    return sorted(name for name in current.keys() & asked.keys() if asked[name] != current[name])


LIMITS: Mapping[str, tuple[str, int]] = {
    "num_users": ("--users", 1_000_000),
    "spawn_rate": ("--spawn-rate", 1_000_000),
    "run_time": ("--run-time, in seconds,", 31_536_000),
}
"""The largest values of Locust's own options, which has no bounds: it would count up to them."""


def check(namespace: Namespace, databases: Iterable[str]) -> LoadOptions:
    """Return the load's options; raise `BadAddress` for an invalid option of the load or of the databases."""
    for name, (flag, most) in LIMITS.items():
        if (getattr(namespace, name, None) or 0) > most:
            raise BadAddress(f"{flag} {getattr(namespace, name):.0f}: must be {most} at most")
    for database in databases:
        parse_options(DATABASES[database].options, namespace)
    expectations(namespace)
    return parse_options(LoadOptions, namespace)


def expectations(namespace: Namespace) -> list[expect.Expectation]:
    """Return the expectations of the run; raise `BadAddress` if they are invalid."""
    text = namespace.expect
    try:
        return [] if text is None else expect.parse(text)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None


def path(namespace: Namespace, name: str) -> Path | None:
    """Return the path given as an option, or None."""
    text = getattr(namespace, name, None)
    return Path(text) if text else None


def files(namespace: Namespace) -> list[OutputFile]:
    """Return the files that the master writes at the end of a test."""
    given = {flag: path(namespace, flag.lstrip("-").replace("-", "_")) for flag in ("--report-json", "--report")}
    own = [OutputFile(flag, file) for flag, file in given.items() if file is not None]
    return own + ci.ci_files(path(namespace, "junit"), path(namespace, "markdown"))


def stdout_taken(namespace: Namespace) -> bool:
    """Return whether standard output is for a file alone; raise `BadAddress` if it would have to hold two."""
    takers = [file.flag for file in files(namespace) if str(file.path) == STDOUT]
    if takers and namespace.json:
        raise BadAddress(f"--json and {takers[0]} both write to standard output: give {takers[0]} a file")
    return bool(takers or namespace.json)


class Secrets:
    """The secret option values that this process was given.

    Locust sends the master's parsed options to every worker with each spawn message, where they replace the worker's
    own. So every process redacts its secrets before anything is sent, and a worker restores the user and the password
    of an address from its own command line or environment, if it was given them for the same servers.
    """

    def __init__(
        self, options: Iterable[Option], namespace: Namespace, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Keep the secrets, and redact them in the parsed options."""
        self._options = [option for option in options if option.secret]
        self._own = Namespace(**vars(namespace))
        self._environ = environ
        self._values: dict[str, str] = {}
        for option in self._options:
            value = getattr(namespace, option.name, None) or environ.get(option.env or "")
            if value:
                self._values[option.name] = value
            setattr(namespace, option.name, option.redaction.redact(value) if value else None)

    def options_of(self, database: Database, namespace: Namespace) -> Any:  # noqa: ANN401 # the row's own options
        """Return a database's options with the secrets, only for the clients of this process.

        Raises `BadAddress` if the servers that another process named would be sent a password that this process was
        given for others.
        """
        used: Any = parse_options(database.options, self._restored(namespace), self._environ)
        own = _logins(database, self._own, self._environ)
        if own and (servers := strayed(own, used.logins())):
            mine = sorted({login.server for login in own if login.server})
            raise BadAddress(
                f"the master names {', '.join(servers)}, but this process was given its password for "
                f"{', '.join(mine) or 'no server'}: give master and worker the same address"
            )
        return used

    def _restored(self, namespace: Namespace) -> Namespace:
        restored = Namespace(**vars(namespace))
        for option in self._options:
            own, sent = self._values.get(option.name), getattr(namespace, option.name, None)
            setattr(restored, option.name, option.redaction.restore(sent, own) if own and sent else own or sent)
        return restored
