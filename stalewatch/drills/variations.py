"""The same drill several times: for each value of an option, and again and again."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stalewatch.clients.errors import BadAddress


class Variation(NamedTuple):
    """What sets one run of a drill apart: options by their flags, and which repeat it is."""

    options: Mapping[str, str]
    repeat: int

    @property
    def words(self) -> str:
        """The options, as they are given."""
        return " ".join(f"--{flag} {value}" for flag, value in self.options.items())


def variations(vary: Sequence[str], repeats: int) -> list[Variation]:
    """Return every run: the values that were given for each option go together, the first with the first and so on.

    One value goes with all. Raises `BadAddress` where that does not fit.
    """
    values = dict(map(_parsed, vary))
    lengths = {len(each) for each in values.values()} - {1}
    if len(lengths) > 1:
        raise BadAddress("--vary: options that go together need as many values each (or one for all)")
    many = lengths.pop() if lengths else 1
    each = {flag: found * many if len(found) == 1 else found for flag, found in values.items()}
    # Repeats outside: what drifts while the machine gets warm then falls on all alike.
    return [
        Variation({flag: found[place] for flag, found in each.items()}, repeat)
        for repeat in range(repeats)
        for place in range(many)
    ]


def _parsed(text: str) -> tuple[str, list[str]]:
    flag, equals, values = text.lstrip("-").partition("=")
    found = [value.strip() for value in values.split(",") if value.strip()]
    if not (flag and equals and found):
        raise BadAddress(f"--vary {text}: write OPTION=VALUE,VALUE, such as write-concern=1,majority")
    return flag, found
