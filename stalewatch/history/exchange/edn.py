"""EDN, Clojure's data notation, as a stream of forms.

Own code: the package edn_format reads 2,000 lines a second (this reader twenty times as many), only whole files, and
none that holds a tag it does not know, such as ``#jepsen.history.Op``. Here tags are ignored and comments skipped.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from stalewatch.history.compression import LONGEST_LINE_BYTES

DEEPEST = 100
_TOKEN = re.compile(
    r"""[\s,]+ | ;[^\n]* | "[^"\\]*(?:\\.[^"\\]*)*" | \#\{ | \#_ | \#\#[A-Za-z]+ | \#:?:?[^\s,"{}()\[\];#]*
    | [\[\](){}^] | \\(?:u[0-9A-Fa-f]{4}|[a-z]+|.) | [^\s,"{}()\[\];]+""",
    re.VERBOSE | re.DOTALL,
)
_STRING_REST = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SKIPPED = " \t\r\n\f\v,;"
_INTEGER = re.compile(r"[+-]?\d+N?")
_FLOAT = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?M?")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", '"': '"'}
_CONSTANTS = {"nil": None, "true": True, "false": False}
_CLOSING = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_CONTROL = re.compile(r'[\x00-\x1f"\\\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class MalformedEdn(ValueError):
    """Text that is no EDN; the message says what is wrong with it."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


class Keyword(str):
    """A keyword, without its colon."""

    __slots__ = ()


class Symbol(str):
    """A symbol, or a number that is neither an integer nor a float, as it is written."""

    __slots__ = ()


class EdnSet(list[Any]):
    """The elements of a set, in the order of the file."""


def forms(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yield each form and the number of its first line; one vector or list around all of them is looked through."""
    reader, number = _Reader(), 0
    for number, token in _tokens(lines):
        yield from reader.take(token, number)
    reader.finish(number)


def _tokens(lines: Iterable[str]) -> Iterator[tuple[int, str]]:  # noqa: C901 # one loop, for speed
    """Yield the tokens and the numbers of their lines; a string may span lines."""
    pieces: list[str] = []
    first = length = 0
    for number, line in enumerate(lines, 1):
        rest = line
        if pieces:
            pieces.append(line)
            length += len(line)
            if length > LONGEST_LINE_BYTES:
                raise MalformedEdn(first, "a string is longer than 64 MiB")
            if not _STRING_REST.match(line):
                continue
            rest, pieces = "".join(pieces), []
        start = 0
        for match in _TOKEN.finditer(rest):
            if match.start() != start:
                break
            start = match.end()
            if match[0][0] not in _SKIPPED:
                yield number, match[0]
        if start < len(rest):
            if rest[start] != '"':
                raise MalformedEdn(number, f"unexpected {rest[start : start + 20]!r}")
            pieces, first, length = [rest[start:]], number, len(rest) - start
    if pieces:
        raise MalformedEdn(first, "a string does not end")


class _Reader:
    """The collections that are open, innermost last; each has its opening token, first line and elements."""

    def __init__(self) -> None:
        self._open: list[tuple[str, int, list[Any]]] = []
        self._around = False
        """Whether the outermost collection holds all forms of the file."""
        self._begun = False

    def take(self, token: str, number: int) -> Iterator[tuple[int, Any]]:
        """Take the next token; yield the form that it ends at the top, if it ends one."""
        if token in _CLOSING or token in {"#_", "^"}:
            self._begin(token, number)
        elif token in {"]", ")", "}"}:
            yield from self._end(token, number)
        elif token[0] == "#" and token[:2] != "##":
            return  # a tag: what follows it stands for itself
        else:
            yield from self._add(_atom(token, number), number)

    def _begin(self, token: str, number: int) -> None:
        if not self._begun and token in {"[", "("}:
            self._around = True
        self._begun = True
        if len(self._open) >= DEEPEST:
            raise MalformedEdn(number, f"nested more than {DEEPEST} deep")
        self._open.append((token, number, []))

    def _end(self, token: str, number: int) -> Iterator[tuple[int, Any]]:
        if not self._open or _CLOSING.get(self._open[-1][0]) != token:
            raise MalformedEdn(number, f"unexpected {token!r}")
        opening, first, elements = self._open.pop()
        if not self._open and self._around:
            return  # the end of what is around all forms
        yield from self._add(_collection(opening, elements, number), first)

    def _add(self, value: Any, number: int) -> Iterator[tuple[int, Any]]:  # noqa: ANN401 # any form
        self._begun = True
        if (self._open and self._open[-1][0] == "#_") or (self._open and self._open[-1][0] == "^"):
            self._open.pop()
        elif not self._open or (len(self._open) == 1 and self._around):
            yield number, value
        else:
            self._open[-1][2].append(value)

    def finish(self, number: int) -> None:
        """Raise `MalformedEdn` if anything is still open."""
        if self._open:
            opening, first, _ = self._open[-1]
            raise MalformedEdn(number, f"the {opening} of line {first} does not end")


def _collection(opening: str, elements: list[Any], number: int) -> Any:  # noqa: ANN401 # any collection
    if opening == "#{":
        return EdnSet(elements)
    if opening != "{":
        return elements
    if len(elements) % 2:
        raise MalformedEdn(number, "a map has a key without a value")
    keys = [key if isinstance(key, str) else dump(key) for key in elements[::2]]
    return dict(zip(keys, elements[1::2], strict=True))


def _atom(token: str, number: int) -> Any:  # noqa: ANN401, PLR0911 # any scalar
    first = token[0]
    if first == ":":
        return Keyword(token[1:])
    if first == '"':
        return _unescape(token[1:-1], number) if "\\" in token else token[1:-1]
    if first == "\\":
        return token[1:]
    if token in _CONSTANTS:
        return _CONSTANTS[token]
    if _INTEGER.fullmatch(token):
        try:
            return int(token.rstrip("N"))
        except ValueError as error:
            raise MalformedEdn(number, str(error)) from None
    if _FLOAT.fullmatch(token) and not token.endswith("M"):
        return float(token)
    return Symbol(token)


def _unescape(text: str, number: int) -> str:
    try:
        return _ESCAPE.sub(_unescaped, text).encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise MalformedEdn(number, "a string holds half of a character") from None


def _unescaped(match: re.Match[str]) -> str:
    escape = match[1]
    if escape[0] == "u" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    return chr(int(escape, 8)) if escape[0] in "01234567" else _ESCAPES.get(escape, escape)


def dump(value: Any) -> str:  # noqa: ANN401, PLR0911 # any form
    """Return a form as EDN on one line; control characters in strings are escaped."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, str):
        return f'"{_CONTROL.sub(_escaped, value)}"'
    if isinstance(value, EdnSet):
        return "#{" + " ".join(sorted(map(dump, value))) + "}"
    if isinstance(value, list):
        return f"[{' '.join(map(dump, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dump(key)} {dump(item)}" for key, item in value.items()) + "}"
    return repr(value)


def _escaped(match: re.Match[str]) -> str:
    return _NAMED.get(match[0]) or f"\\u{ord(match[0]):04x}"
