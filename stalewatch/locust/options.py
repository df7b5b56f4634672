"""Locust's command line and form, and how secrets stay in the process that they were given to."""

import os
from argparse import Namespace
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.clients.options import Option, options_of, parse_options, port, public_values
from stalewatch.reports import expect
from stalewatch.workloads.options import LoadOptions

LOCUST_OPTIONS = frozenset({"users", "ops", "duration"})
"""Options of the bench for which Locust has its own: ``-u`` and ``-t``."""

LOAD = tuple(option for option in options_of(LoadOptions) if option.name not in LOCUST_OPTIONS)

LOOPBACK = "127.0.0.1"

OUTPUTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "--expect",
        {"metavar": "LIST", "help": "exit 1 if an expectation is missed: read_your_writes=0,stale_reads<0.05"},
    ),
    ("--report-json", {"metavar": "FILE", "help": "write the result as JSON"}),
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
    ("--keep", {"action": "store_true", "help": "do not delete the run's keys"}),
)


def add_arguments(parser: Any, databases: Collection[str]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add the options of the load, of these databases and of the results; bind Locust's ports to loopback."""
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK)
    error = parser.error
    parser.error = lambda message: error(without_credentials(message))
    for flag, options in _by_flag(databases).items():
        _add(parser, flag, options)
    for flag, keywords in OUTPUTS:
        parser.add_argument(flag, include_in_web_ui=False, **keywords)


def all_options(databases: Iterable[str]) -> list[Option]:
    """Return the options of the load and of these databases."""
    return [*LOAD, *(option for database in databases for option in _flags(database))]


def _flags(database: str) -> list[Option]:
    """Return the options of a database that runs in several processes have."""
    return [option for option in DATABASES[database].flags() if not option.one_process]


def _by_flag(databases: Iterable[str]) -> dict[str, dict[str, Option]]:
    """Return every flag once, with its option in each database that has it."""
    found: dict[str, dict[str, Option]] = {option.flag: {"": option} for option in LOAD}
    for database in databases:
        for option in _flags(database):
            found.setdefault(option.flag, {})[database] = option
    return found


def _add(parser: Any, flag: str, options: dict[str, Option]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add a flag; its value stays text until `parse_options`, and empty text means no value."""
    every = list(options.values())
    first = every[0]
    default = _common(None if option.env else option.default_text for option in every)
    choices = first.choices if all(option.choices == first.choices for option in every) else None
    if choices and default is None:  # without an empty choice the form would select the first one
        choices, default = ("", *choices), ""
    taken = parser._option_string_actions  # noqa: SLF001 # argparse does not say it publicly; Locust's own come first
    parser.add_argument(
        *(one for one in (flag, *first.aliases) if one not in taken),
        dest=first.name,
        default=default,
        metavar=None if choices else first.name.upper(),
        choices=choices,
        **({} if first.alone is None else {"nargs": "?", "const": first.alone}),
        help=_help(options).replace("%", "%%"),
        include_in_web_ui=not any(option.secret for option in every),
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


def check(namespace: Namespace, databases: Iterable[str]) -> LoadOptions:
    """Return the load's options; raise `BadAddress` for an invalid option of the load or of the databases."""
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


class Secrets:
    """The secret option values that this process was given.

    Locust sends the master's parsed options to every worker with each spawn message, where they replace the worker's
    own. So every process redacts its secrets before anything is sent, and a worker restores the user and the password
    of an address from its own command line or environment.
    """

    def __init__(
        self, options: Iterable[Option], namespace: Namespace, environ: Mapping[str, str] = os.environ
    ) -> None:
        """Keep the secrets, and redact them in the parsed options."""
        self._options = [option for option in options if option.secret]
        self._values: dict[str, str] = {}
        for option in self._options:
            value = getattr(namespace, option.name, None) or environ.get(option.env or "")
            if value:
                self._values[option.name] = value
            setattr(namespace, option.name, option.redaction.redact(value) if value else None)

    def restored(self, namespace: Namespace) -> Namespace:
        """Return a copy of the options with the secrets, only for the clients of this process."""
        restored = Namespace(**vars(namespace))
        for option in self._options:
            own, sent = self._values.get(option.name), getattr(namespace, option.name, None)
            setattr(restored, option.name, option.redaction.restore(sent, own) if own and sent else own or sent)
        return restored
