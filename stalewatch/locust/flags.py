"""Locust's command line and form: what can be chosen about the load and the databases, and where results go."""

from argparse import Namespace
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, options_of, parse_options, port, public_values
from stalewatch.reports import expect
from stalewatch.workloads.options import LoadOptions

LOCUSTS_OWN = frozenset({"users", "ops", "duration"})
"""Options of the bench that Locust has in its own way: ``-u`` and ``-t``."""

LOAD = tuple(option for option in options_of(LoadOptions) if option.name not in LOCUSTS_OWN)

LOOPBACK = "127.0.0.1"


def add_arguments(parser: Any, databases: Collection[str]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add the options of the load, of these databases, and of the results; bind Locust's ports to loopback."""
    parser.set_defaults(web_host=LOOPBACK, master_bind_host=LOOPBACK)
    for flag, options in _by_flag(databases).items():
        _add(parser, flag, options)
    for flag, metavar, text in (
        ("--expect", "LIST", "e.g. read_your_writes=0,stale_reads<0.05; exit 1 where missed"),
        ("--report-json", "FILE", "write the result as JSON"),
        ("--report", "FILE", "write the result as a page with charts"),
        ("--history-dir", "DIR", "write every operation, a file a worker: DIR/RUN-wN-DATABASE.jsonl"),
    ):
        parser.add_argument(flag, metavar=metavar, help=text, include_in_web_ui=False)
    parser.add_argument(
        "--help-all",  # Locust answers --help before it has loaded any locustfile
        action="help",
        help="show every option, with those that the locustfile brings",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="serve the run's totals to Prometheus there, and the list of workers; workers take any port",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--metrics-host",
        default=LOOPBACK,
        metavar="HOST",
        help="the address to serve them at; 0.0.0.0 where Prometheus, or a worker, is on another machine",
        include_in_web_ui=False,
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave the run's keys in the database", include_in_web_ui=False
    )


def options_of_all(databases: Iterable[str]) -> list[Option]:
    """Return the options of the load and of these databases."""
    return [*LOAD, *(option for database in databases for option in _flags(database))]


def _flags(database: str) -> list[Option]:
    """Return the options of a database that runs in several processes have."""
    return [option for option in DATABASES[database].flags() if not option.one_process]


def _by_flag(databases: Iterable[str]) -> dict[str, dict[str, Option]]:
    """Return every flag once, with what it is to each of those who have it."""
    found: dict[str, dict[str, Option]] = {option.flag: {"": option} for option in LOAD}
    for database in databases:
        for option in _flags(database):
            found.setdefault(option.flag, {})[database] = option
    return found


def _add(parser: Any, flag: str, options: dict[str, Option]) -> None:  # noqa: ANN401 # Locust's parser is not typed
    """Add a flag; its value stays text until `parse_options`, and empty text is no value."""
    every = list(options.values())
    first = every[0]
    default = _common(None if option.env else option.default_text for option in every)
    choices = first.choices if all(option.choices == first.choices for option in every) else None
    if choices and default is None:  # the form shows the first choice where nothing is chosen
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
    """Return the value that all agree on, if there is one: one database's default is no choice for another."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _help(options: dict[str, Option]) -> str:
    texts: dict[str, list[str]] = {}
    for database, option in options.items():
        texts.setdefault(f"{option.help} [{option.env}]" if option.env else option.help, []).append(database)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{', '.join(databases)}: {text}" for text, databases in texts.items())


def shown_load(load: LoadOptions) -> dict[str, object]:
    """Return the load's options that Locust does not have itself, as results print them."""
    values = public_values(load)
    return {option.name: values[option.name] for option in LOAD}


def check(namespace: Namespace, databases: Iterable[str]) -> LoadOptions:
    """Return the load's options; raise `BadAddress` where one of them, or of the databases', makes no sense."""
    for database in databases:
        parse_options(DATABASES[database].options, namespace)
    expectations(namespace)
    return parse_options(LoadOptions, namespace)


def expectations(namespace: Namespace) -> list[expect.Expectation]:
    """Return what is expected of the run; raise `BadAddress` where that makes no sense."""
    text = namespace.expect
    try:
        return [] if text is None else expect.parse(text)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None


def path(namespace: Namespace, name: str) -> Path | None:
    """Return a path that was given, else None."""
    text = getattr(namespace, name, None)
    return Path(text) if text else None
