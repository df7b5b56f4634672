"""What is a user and a password in any text, and how they are kept out of it.

Everything that prints, logs or stores text of a user's uses this one place.
"""

import re
from collections.abc import Iterator, Sequence

HIDDEN = "***"

_WORD = re.compile(r"""[^\s'"]+""")
_SCHEME = re.compile(r"(?<=[A-Za-z0-9+.-])://(?!\[?USER:PASSWORD@)")
_NAME = re.compile(r"""[^\s'"/=,(\[]+""")  # maybe a user, or a user and a password
_AFTER_HOST = re.compile(r"""[^'":/\n]*""")
_QUOTED = re.compile(r"""(?<![^\s=(\[{,])['"]([^'"]*)""")
_PASSWORD_AFTER_SCHEME = re.compile(r"""(?<=://)(?!\[?USER:PASSWORD@)[^\s'"/@:]+:[^'"/@\n]*""")
_PASSWORD_OF_WORDS = re.compile(r"""(?<=:)[^\s'"/:@]+(?:(?: +[^\s'"/:@]+)+ ?| )""")

_BEFORE_NAME = frozenset("'\"/=,([ \t\n")
_PLACEHOLDER = "USER:PASSWORD@"
"""What messages write for credentials."""

_PASSWORD = re.compile(r"(?P<option>(?<![\w-])--?[\w-]*password[= ])('[^']*'|\S+)")
"""The value of an option for a password, in a command line."""

_SHORTEST = 3
"""Characters of the shortest part of a password that is looked for: shorter ones are in many words."""

_split: list[str] = []
"""Parts of credentials that are arguments of their own; see `hide_split`."""


def without_credentials(text: str) -> str:
    """Return a text without any user and password before an @, whichever option they were given to."""
    for secret in _split:
        text = text.replace(secret, HIDDEN)
    shown, end = [], 0
    for start, stop in sorted(_credentials(text)) if "@" in text else ():
        if start >= end:
            shown += [text[end:start], f"{HIDDEN}@"]
        end = max(end, stop)
    return "".join((*shown, text[end:]))


def _credentials(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of credentials, up to and with their @; they may overlap.

    Each search looks at every character a bounded number of times. One regular expression for all of it would try each
    character as a start and read on to the end of the word, which takes minutes for a key of 100,000 characters.
    """
    for word in _WORD.finditer(text):
        yield from _in_word(text, word.start(), word.end())
    for quoted in _QUOTED.finditer(text):  # as an argument with a space is
        at = text.rfind("@", *quoted.span(1))
        if at >= 0 and ":" in text[quoted.start(1) : at]:
            yield quoted.start(1), at + 1
    for password in _PASSWORD_AFTER_SCHEME.finditer(text):  # with a space
        if text.startswith("@", password.end()):
            yield password.start(), password.end() + 1
    for password in _PASSWORD_OF_WORDS.finditer(text):  # user:two words@host
        start = _start_of_name(text, password.start() - 1)
        if text.startswith("@", password.end()) and start < password.start() - 1:
            yield start, password.end() + 1


def _in_word(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the span of credentials without a space: of a URL, or user:password@host; the password may hold an @."""
    at = text.rfind("@", start, end)
    if at < 0:
        return
    scheme = _SCHEME.search(text, start, at + 1)
    if scheme is not None:
        yield scheme.end(), _end_of_spaced(text, at + 1)
    for name in _NAME.finditer(text, start, at):
        first = name.start() + len(_PLACEHOLDER) * text.startswith(_PLACEHOLDER, name.start())
        last = name.end() - 1 if text.startswith("//", name.end()) else name.end()  # the colon of a scheme
        if text.find(":", first + 1, last) >= 0:
            yield first, at + 1
            return


def _start_of_name(text: str, end: int) -> int:
    while end and text[end - 1] not in _BEFORE_NAME:
        end -= 1
    return end


def _end_of_spaced(text: str, end: int) -> int:
    """Return the end of a URL's credentials that end at `end`, or further on if the password holds "@" and a space."""
    after = text[end : _AFTER_HOST.match(text, end).end()]  # type: ignore[union-attr] # it matches anything
    before_at = after.rpartition("@")[0]
    return end + len(before_at) + 1 if re.search(r"\s", before_at) else end


def without_passwords(command: str) -> str:
    """Return a command line without credentials and without the values of options for passwords."""
    return _PASSWORD.sub(rf"\g<option>{HIDDEN}", without_credentials(command))


def hide_split(arguments: Sequence[str]) -> None:
    """From now on, hide credentials that a shell has split at a space, as in ``http://u:two words@h`` without quotes.

    None of the arguments looks like credentials then: the first has no @, and the last no user.
    """
    _split.clear()  # those of an earlier command line
    for last, argument in enumerate(arguments):
        before, at, _ = argument.rpartition("@")
        if at and ":" not in before:
            _hide(arguments[: last + 1])


def _hide(arguments: Sequence[str]) -> None:
    """Hide the last argument, and those before it back to the one that has the user."""
    for first in range(len(arguments) - 2, -1, -1):
        one = arguments[first]
        if ":" in one:
            password = one.rpartition(":")[2]
            parts = [*arguments[first + 1 : -1], arguments[-1].rpartition("@")[0], password]
            found = [one.rpartition("=")[2] if one.startswith("-") else one, arguments[-1], *parts]
            _split.extend(sorted({part for part in found if len(part) >= _SHORTEST}, key=len, reverse=True))
        if ":" in one or one.startswith("-"):
            return
