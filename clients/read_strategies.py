"""Read strategies: how a session gets to read its own writes, or never to go back in time, from lagging replicas.

They are those of DDIA, chapter 5. ``sticky``: read from the leader (or a quorum) for a while after an own write.
``token``: remember what the session has seen, and ask a stronger source if a replica shows something older.
``pinned``: one replica per session. What a database has for a stronger source is in its client; the rules that all
databases share are here.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from stalewatch.clients.errors import Failure
from stalewatch.clients.options import option, seconds
from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import replace

Strategy = Literal["plain", "sticky", "token", "pinned"]

DEFAULT_STICKY_S = 2.0

_WORDS: Mapping[str, str] = {
    "plain": "as the other options say",
    "sticky": "{sticky} for --sticky-seconds after an own write",
    "token": "{token}",
    "pinned": "{pinned}",
}


def read_strategy_option(sticky: str, token: str, pinned: str) -> Any:  # noqa: ANN401 # a field stands for its value
    """Return the field of ``--read-strategy``; the arguments are where reads of each strategy go, for the help."""
    words = {name: text.format(sticky=sticky, token=token, pinned=pinned) for name, text in _WORDS.items()}
    choices = ", ".join(f"{name} ({text})" for name, text in words.items())
    return option("--read-strategy", f"where a session reads: {choices}", "plain", choices=tuple(_WORDS))


def sticky_seconds_option() -> Any:  # noqa: ANN401 # as above
    """Return the field of ``--sticky-seconds``."""
    return option(
        "--sticky-seconds",
        "how long after an own write --read-strategy sticky avoids replicas that may lag",
        DEFAULT_STICKY_S,
        parse=seconds,
    )


Ask = Callable[[str], Answer]
"""Reads a key once, at one level or from one place."""


class Reads(Protocol):
    """How one session reads; told of its writes, it may send a read elsewhere."""

    def read(self, key: str) -> Answer:
        """Return the answer that the user is shown; `Answer.fell_back` tells whether it took the stronger source."""

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Take note that a write has ended; the answer is None if it ended with an exception."""


class PlainReads:
    """Reads as the options say."""

    def __init__(self, plain: Ask) -> None:
        self.read = plain

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Do nothing."""


class StickyReads:
    """Reads from the stronger source for a while after each write of the session, whatever became of the write."""

    def __init__(self, plain: Ask, stronger: Ask, now: Callable[[], int], sticky_s: float) -> None:
        self._plain, self._stronger = plain, stronger
        self._now = now
        self._sticky_ns = round(sticky_s * 1e9)
        self._until = 0

    def read(self, key: str) -> Answer:
        """Read from the stronger source if the last write is recent."""
        if self._now() < self._until:
            return self._stronger(key)
        return replace(self._plain(key), fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Avoid lagging replicas from now on."""
        self._until = self._now() + self._sticky_ns


class StickyKeys:
    """Reads each key from the leader that took the session's last write of it, if that was recent.

    For databases with several leaders: there, the leader that took the last write of one key may lack that of another.
    """

    def __init__(
        self, plain: Ask, from_node: Callable[[str, str], Answer], now: Callable[[], int], sticky_s: float
    ) -> None:
        self._plain, self._from_node = plain, from_node
        self._now = now
        self._sticky_ns = round(sticky_s * 1e9)
        self._recent: dict[str, tuple[int, str]] = {}
        """By key: until when to read it from a leader, and which."""

    def read(self, key: str) -> Answer:
        """Read from the leader that took the write if it is recent."""
        until, node = self._recent.get(key, (0, ""))
        if self._now() < until:
            return self._from_node(key, node)
        return replace(self._plain(key), fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Remember the leader that took the write; a write that failed leaves the earlier one."""
        if answer is not None and answer.node is not None and answer.outcome != "fail":
            self._recent[key] = (self._now() + self._sticky_ns, answer.node)


class TokenReads:
    """Reads that remember the newest version that the session has seen or written of each key.

    A read that shows an older one is repeated at the stronger source; the user is shown the newer of the two. If the
    stronger source fails, the read fails: the user is not shown what is known to be too old.
    """

    def __init__(self, plain: Callable[[str, int], Answer], stronger: Callable[[str, int, Answer], Answer]) -> None:
        """Both take the key and the version that the session has seen; `stronger` also the answer that was too old."""
        self._plain, self._stronger = plain, stronger
        self._seen: dict[str, int] = {}

    def read(self, key: str) -> Answer:
        """Read, and read again if the version is older than what the session has seen."""
        seen = self._seen.get(key, 0)
        first = self._plain(key, seen)
        if first.outcome != "ok":
            return replace(first, fell_back=False)
        if (first.version or 0) >= seen:
            answer = replace(first, fell_back=False)
        else:
            answer = self._newer(first, self._stronger(key, seen, first))
        if answer.outcome == "ok":
            self._seen[key] = max(seen, answer.version or 0)
        return answer

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Remember an acknowledged write; one that was superseded found at least its version."""
        if answer is not None and answer.outcome == "ok":
            self._seen[key] = max(version, self._seen.get(key, 0))

    @staticmethod
    def _newer(first: Answer, second: Answer) -> Answer:
        if second.outcome == "ok" and (first.version or 0) > (second.version or 0):
            return replace(first, fell_back=True)
        return second


def fallen_back(ask: Callable[[], Answer], explain: Callable[[BaseException], Failure]) -> Answer:
    """Return the answer of the stronger source, marked as such also if it fails."""
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001 # the error table classifies it
        failure = explain(error)
        answer = Answer(failure.outcome, error=failure.error)
    return replace(answer, fell_back=True)
