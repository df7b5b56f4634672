"""Options, declared once as fields of dataclasses, which command lines, Locust's form and validation derive from.

A field made by `option` carries its flag, help, parser and so on. `parse_options` turns parsed arguments (or a form)
into an instance, once; everything after that works with typed values.
"""

import argparse
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields, replace
from itertools import product
from typing import Any, NamedTuple, TypeVar

from stalewatch.clients.errors import BadAddress, without_credentials

T = TypeVar("T")
N = TypeVar("N", int, float)


class Redaction(NamedTuple):
    """How a value that holds a secret travels: `redact` removes the secret, `restore` puts the receiver's own back.

    `restore` takes the redacted value and the receiver's own.
    """

    redact: Callable[[str], str]
    restore: Callable[[str, str], str]


HIDDEN = Redaction(lambda _value: "", lambda _redacted, own: own)
"""The redaction of a value that is secret as a whole."""


class Option(NamedTuple):
    """One option of a dataclass.

    `field` is the attribute of the dataclass. `parse` turns text into the value or raises ValueError; `choices` limit
    the text. `omitted` is the value if the option is given neither as a flag nor by the environment variable `env`;
    `alone` is the value of the flag without an argument; `aliases` are other flags for it, and `old_env` earlier names
    of the variable. `show` turns the value into what results print. A `secret` value may hold a password: it never
    appears on a page, in a log or in a report. `on_page` are the only values that Locust's page may set, if any other
    would name a server or say how to connect; None if it may set all.
    """

    flag: str
    help: str
    field: str = ""
    omitted: Any = None
    choices: tuple[str, ...] | None = None
    parse: Callable[[str], Any] = str
    show: Callable[[Any], Any] = lambda value: value
    env: str | None = None
    old_env: tuple[str, ...] = ()
    secret: bool = False
    redaction: Redaction = HIDDEN
    alone: str | None = None
    aliases: tuple[str, ...] = ()
    dest: str = ""
    on_page: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """The attribute of parsed arguments: `dest`, or derived from the flag; also the option's name in results."""
        return self.dest or self.flag.lstrip("-").replace("-", "_")

    @property
    def default_text(self) -> str | None:
        """The default as a user would write it; None if there is none."""
        shown = self.show(self.omitted)
        return None if shown in (None, "") else str(shown)


_METADATA = "option"
_SAME: Any = object()


def option(flag: str, help: str, default: object = None, *, omitted: object = _SAME, **details: Any) -> Any:  # noqa: A002, ANN401 # argparse's word; a field stands for its value
    """Return a dataclass field with that flag; `details` are attributes of `Option`.

    `default` is the dataclass's default; `omitted` is the value of an omitted flag, if it differs.
    """
    made = Option(flag, help, omitted=default if omitted is _SAME else omitted, **details)
    return field(default=default, repr=not made.secret, metadata={_METADATA: made})


def options_of(cls: type) -> tuple[Option, ...]:
    """Return the options of a dataclass, in the order of its fields."""
    return tuple(one.metadata[_METADATA]._replace(field=one.name) for one in fields(cls) if _METADATA in one.metadata)


def parse_options(cls: type[T], namespace: object, environ: Mapping[str, str] = os.environ) -> T:
    """Return an instance made of parsed arguments, the environment and the defaults.

    Raises `BadAddress`, which names the flag, for an invalid value. Empty text counts as not given, since forms send
    empty fields. A class may have a method `resolved`, which completes its values or raises `BadAddress`.
    """
    values = {one.field: _value(one, getattr(namespace, one.name, None), environ) for one in options_of(cls)}
    return _resolved(cls(**values))


def with_values(options: T, texts: Mapping[str, str]) -> T:
    """Return the options with some values replaced, given as text by the options' names."""
    by_name = {one.name: one for one in options_of(type(options))}
    values = {by_name[name].field: _value(by_name[name], text, {}) for name, text in texts.items()}
    return _resolved(replace(options, **values))  # type: ignore[type-var] # a dataclass


def _resolved(options: T) -> T:
    resolve = getattr(options, "resolved", None)
    return options if resolve is None else resolve()


def check_options(options: object) -> None:
    """Raise `BadAddress` for options that contradict each other or name files that cannot be used.

    No server is needed for that, and no address; a class has a method `check` for it.
    """
    check = getattr(options, "check", None)
    if check is not None:
        check()


def _value(option: Option, given: object, environ: Mapping[str, str]) -> object:
    if given in (None, ""):
        given = next(filter(None, map(environ.get, filter(None, (option.env, *option.old_env)))), None)
    if given in (None, ""):
        return option.omitted
    if not isinstance(given, str):
        return given
    if option.choices and given not in option.choices:
        raise BadAddress(f"{option.flag} {given!r}: must be one of {', '.join(option.choices)}")
    try:
        return option.parse(given)
    except ValueError as error:
        shown = "***" if option.secret or "@" in given else repr(given)  # as in a URI with a password
        raise BadAddress(f"{option.flag} {shown}: {error}") from None


def add_arguments(parser: argparse._ActionsContainer, options: Iterable[Option]) -> None:
    """Add options to a command line; their values stay text until `parse_options` runs."""
    for one in options:
        default = "" if one.default_text is None else f" (default {one.default_text})"
        env = f" [{one.env}]" if one.env else ""
        text = f"{one.help}{default}{env}".replace("%", "%%")
        alone: dict[str, Any] = {} if one.alone is None else {"nargs": "?", "const": one.alone}
        parser.add_argument(one.flag, *one.aliases, dest=one.name, metavar=_metavar(one), help=text, **alone)


def _metavar(option: Option) -> str:
    return "|".join(option.choices) if option.choices else option.name.upper()


def public_values(options: object) -> dict[str, object]:
    """Return the values of all options that are not secret, by name, as results print them."""
    shown = {one.name: one.show(getattr(options, one.field)) for one in options_of(type(options)) if not one.secret}
    return {name: without_credentials(value) if isinstance(value, str) else value for name, value in shown.items()}


def whole_number(text: str) -> int:
    """Return an integer, or raise ValueError."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def number(text: str) -> float:
    """Return a number, or raise ValueError."""
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def count(text: str) -> int:
    """Return an integer of at least 1, or raise ValueError."""
    value = whole_number(text)
    return _require(value, value >= 1, "a whole number, 1 or more")


def size(text: str) -> int:
    """Return an integer of at least 0, or raise ValueError."""
    value = whole_number(text)
    return _require(value, value >= 0, "a whole number, 0 or more")


def host_name(text: str) -> str:
    """Return a host's name or address unchanged, or raise ValueError if no resolver would take it."""
    try:
        text.encode("idna")
    except UnicodeError:
        raise ValueError(f"{text!r} cannot be the name of a host") from None
    return text


def port(text: str) -> int:
    """Return a port that a server can listen on, or raise ValueError."""
    value = whole_number(text)
    return _require(value, value in range(1, 65536), "a port from 1 to 65535")


def share(text: str) -> float:
    """Return a number from 0 to 1, or raise ValueError."""
    value = number(text)
    return _require(value, 0 <= value <= 1, "a share from 0 to 1")


MOST_SECONDS = 1_000_000_000
"""Thirty years: in nanoseconds, and added to today's date, it still fits 64 bits."""


def at_most(limit: int, parse: Callable[[str], N], reason: str) -> Callable[[str], N]:
    """Return a parser that also raises ValueError, with the reason, for a value above the limit."""

    def limited(text: str) -> N:
        value = parse(text)
        if value > limit:
            raise ValueError(f"must be {limit:d} at most: {reason}")
        return value

    return limited


def above_zero(text: str) -> float:
    """Return a number above 0, perhaps infinity, or raise ValueError; for `at_most`."""
    value = number(text)
    return _require(value, value > 0, "a number above 0")


def zero_or_more(text: str) -> float:
    """Return a number of seconds from 0 on, perhaps infinity, or raise ValueError; for `at_most`."""
    value = number(text)
    return _require(value, value >= 0, "a number of seconds, 0 or more")


positive = at_most(MOST_SECONDS, above_zero, "that is thirty years, in seconds")
seconds = at_most(MOST_SECONDS, zero_or_more, "that is thirty years, in seconds")


def argument(parse: Callable[[str], N]) -> Callable[[str], N]:
    """Return a parser for argparse, which repeats only the words of an error of its own."""

    def parsed(text: str) -> N:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parsed


timeout = at_most(3600, above_zero, "no answer is worth waiting for longer")


def _require(value: N, valid: bool, expected: str) -> N:  # noqa: FBT001 # reads as a sentence
    if not valid:
        raise ValueError(f"must be {expected}")
    return value


ON_OFF: Mapping[str, Any] = {
    "choices": ("on", "off"),
    "parse": lambda text: text == "on",
    "show": lambda value: None if value is None else "on" if value else "off",
}
"""Details of an option that is on or off; its value is a bool, or None if it is not given."""


_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>.*@)?(?P<rest>.*)", re.DOTALL)
"""The user extends to the last @: in a malformed URL, such as one with an @ or / in the password, this may take too
much for secret, but never too little."""

_SECRET_SETTING = re.compile(r"[?&](?P<setting>[^=&?]*(?:password|authmechanismproperties)[^=&]*=[^&]*)", re.IGNORECASE)


def redacted_url(url: str) -> str:
    """Return a URL without its user, password and secret settings; return nothing for text that is not a URL."""
    parts = _URL.fullmatch(url)
    return _without_secret_settings(parts["scheme"] + parts["rest"]) if parts else ""


def restored_url(url: str, own: str) -> str:
    """Return a redacted URL with the user, password and secret settings of the receiver's own URL."""
    parts, known = _URL.fullmatch(url), _URL.fullmatch(own)
    if parts is None or known is None:
        return own
    joined = f"{parts['scheme']}{known['user'] or ''}{parts['rest']}"
    for setting in _SECRET_SETTING.finditer(known["rest"]):
        joined += ("&" if "?" in joined else "?") + setting["setting"]
    return joined


def url_secrets(url: str) -> list[str]:
    """Return what `redacted_url` takes out of a URL: the user with the password, and secret settings."""
    parts = _URL.fullmatch(url)
    found = [parts["user"], *_SECRET_SETTING.findall(parts["rest"])] if parts else []
    return [secret for secret in found if secret]


class Login(NamedTuple):
    """A password that a server is sent, and whether the connection is encrypted; no server if none is known for it."""

    server: str
    password: str
    encrypted: bool = False


def logins(servers: Iterable[str], passwords: Iterable[str], *, encrypted: bool) -> list[Login]:
    """Return the logins at these servers."""
    return [Login(server, password, encrypted) for server, password in product(servers, passwords)]


def strayed(own: Iterable[Login], used: Iterable[Login]) -> list[str]:
    """Return the servers that would be sent a password of our own that was not given for them, or not in clear."""
    given = list(own)
    passwords = {login.password for login in given}
    allowed = {*given, *(login._replace(encrypted=True) for login in given)}
    return sorted({login.server for login in used if login.password in passwords and login not in allowed})


def _without_secret_settings(url: str) -> str:
    stripped = _SECRET_SETTING.sub(lambda found: found[0][0], url)
    return re.sub(r"([?&])&+", r"\1", stripped).rstrip("?&")


URL = Redaction(redacted_url, restored_url)
"""The redaction of a URL: its user, password and secret settings are secret, the rest is not."""


HIDDEN_VALUE = "SECRET"


def public_command(words: Iterable[str], options: Iterable[Option]) -> str:
    """Return a command line as one would type it, without the secrets in it.

    Flags may be abbreviated, and `--vary` may name a secret option: whatever could be one counts.
    """
    by_flag = {flag: option for option in options for flag in (option.flag, *option.aliases)}

    def redacted(flag: str, value: str) -> str:
        name, equals, inner = value.partition("=")
        shown = f"{name}={redacted(f'--{name}', inner)}" if equals else value
        meant = [by_flag[flag]] if flag in by_flag else [by_flag[one] for one in by_flag if one.startswith(flag)]
        secret = next((option for option in meant if option.secret), None) if len(flag) > len("--") else None
        return shown if secret is None else secret.redaction.redact(value) or HIDDEN_VALUE

    shown, flag = list[str](), ""
    for word in words:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            shown.append(redacted(flag, word))
        else:
            shown.append(f"{name}={redacted(name, value)}" if equals else word)
        flag = word if word.startswith("--") and not equals else ""
    return without_credentials(shlex.join(shown))
