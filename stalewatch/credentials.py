"""What is a user and a password in any text, and how they are kept out of it.

Everything that prints, logs or stores text of a user's uses this one place.
"""

import re
from collections.abc import Sequence

HIDDEN = "***"

_CREDENTIALS = re.compile(
    r"""(?P<before>[A-Za-z][A-Za-z0-9+.-]*://)(?!\[?USER:PASSWORD@)  # the user and the password of a URL,
        (?:[^\s'"]*@(?:[^'":/\n]*\s[^'":/\n]*@)?                     # which may hold an @ with a space after it
          |[^\s'"/@:]+:[^'"/@\n]*@)                                  # or a space
      | (?<![^\s=(\[{,])(?P<quote>['"])[^'"]*:[^'"]*@                # quoted, as an argument with a space is
      | (?<!\w)(?!USER:PASSWORD@)[^\s'"/=,([]+:(?!//)                # user:password@host
        (?:[^\s'"]*@|[^\s'"/:@]+(?:\ +[^\s'"/:@]+)*\ ?@)             # again, the password may hold a space
    """,
    re.VERBOSE,
)

_PASSWORD = re.compile(r"(?P<option>--?[\w-]*password[= ])('[^']*'|\S+)")
"""The value of an option for a password, in a command line."""

_SHORTEST = 3
"""Characters of the shortest part of a password that is looked for: shorter ones are in many words."""

_split: list[str] = []
"""Parts of credentials that are arguments of their own; see `hide_split`."""


def without_credentials(text: str) -> str:
    """Return a text without any user and password before an @, whichever option they were given to."""
    for secret in _split:
        text = text.replace(secret, HIDDEN)
    return _CREDENTIALS.sub(lambda found: f"{found['before'] or found['quote'] or ''}{HIDDEN}@", text)


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
