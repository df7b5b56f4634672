"""Options of a database as data: one table, from which each front end builds its arguments or form fields."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from stalewatch.clients.errors import BadAddress


class Seal(NamedTuple):
    """How a value that holds a secret is sent elsewhere: `bare` of it, and made `whole` by one that knows the secret.

    `whole` takes the bare value and the receiver's own.
    """

    bare: Callable[[str], str]
    whole: Callable[[str, str], str]


SEALED = Seal(lambda _value: "", lambda _bare, own: own)
"""A value that is secret as a whole."""


class Option(NamedTuple):
    """One option: its flag, what it means, what it may be and where else its value may come from.

    `parse` turns text into the value, or raises ValueError; `choices` are compared with what it returns. `env` names
    an environment variable that is used where nothing was given, `alone` what the flag means without a value. The
    value of a `secret` option may hold a password: it belongs on no page and in no log or report, and in messages only
    as its `seal` allows.
    """

    flag: str
    help: str
    default: object = None
    choices: tuple[str, ...] | None = None
    parse: Callable[[str], object] = str
    env: str | None = None
    secret: bool = False
    seal: Seal = SEALED
    alone: str | None = None

    @property
    def name(self) -> str:
        """The attribute that argparse makes of the flag."""
        return self.flag.lstrip("-").replace("-", "_")


def chosen(options: Iterable[Option], namespace: object, environ: Mapping[str, str] = os.environ) -> dict[str, object]:
    """Return each option's value by name: as given, else from the environment, else its default.

    Raises `BadAddress` with the flag where a value makes no sense. Text is parsed here again, since forms hand over
    text; an empty field counts as not given.
    """
    return {option.name: _value(option, getattr(namespace, option.name, None), environ) for option in options}


def _value(option: Option, given: object, environ: Mapping[str, str]) -> object:
    if given in (None, "") and option.env:
        given = environ.get(option.env)
    if given in (None, ""):
        given = option.default
    if not isinstance(given, str):
        return given
    try:
        value = option.parse(given)
    except ValueError as error:
        shown = "***" if option.secret or "@" in given else repr(given)  # as in a URI with a password
        raise BadAddress(f"{option.flag} {shown}: {error}") from None
    if option.choices and value not in option.choices:
        raise BadAddress(f"{option.flag} {given!r}: must be one of {', '.join(option.choices)}")
    return value


def add_arguments(parser: argparse._ActionsContainer, options: Iterable[Option]) -> None:
    """Add the options to a command line; their values stay text until `chosen` looks at them."""
    for option in options:
        default = "" if option.default in (None, "") else f" (default {option.default})"
        env = f" [{option.env}]" if option.env else ""
        text = f"{option.help}{default}{env}".replace("%", "%%")
        alone: dict[str, Any] = {} if option.alone is None else {"nargs": "?", "const": option.alone}
        parser.add_argument(option.flag, metavar=_metavar(option), help=text, **alone)


def _metavar(option: Option) -> str:
    return "|".join(option.choices) if option.choices else option.name.upper()


def shown(options: Iterable[Option], namespace: object) -> dict[str, object]:
    """Return the values of all options that may be shown, as plain numbers and words."""
    public = [option for option in options if not option.secret]
    values = chosen(public, namespace)
    return {
        name: value if isinstance(value, int | float | str | None) else str(getattr(namespace, name))
        for name, value in values.items()
    }
