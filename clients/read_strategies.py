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
from stalewatch.clients.protocol import Answer, RecordedTimes
from stalewatch.history.clock import Clock
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


class _Sticky:
    """The time of one session's strategy: as recorded, or by the clock if nobody records."""

    def __init__(self, now: Callable[[], int], sticky_s: float) -> None:
        self._now = now
        self._sticky_ns = round(sticky_s * 1e9)
        self._start: int | None = None

    def read_starts(self, start: int) -> None:
        """Let the read that follows start at this time."""
        self._start = start

    def _started(self) -> int:
        """Return when the read that is under way started."""
        start, self._start = self._start, None
        return self._now() if start is None else start


class StickyReads(_Sticky):
    """Reads from the stronger source for a while after each write of the session, whatever became of the write."""

    def __init__(self, plain: Ask, stronger: Ask, now: Callable[[], int], sticky_s: float) -> None:
        super().__init__(now, sticky_s)
        self._plain, self._stronger = plain, stronger
        self._until = 0

    def read(self, key: str) -> Answer:
        """Read from the stronger source if the last write is recent."""
        if self._started() < self._until:
            return self._stronger(key)
        return replace(self._plain(key), fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Avoid lagging replicas from now on."""
        self._until = self._now() + self._sticky_ns

    def write_ended(self, key: str, end: int) -> None:
        """Measure from the recorded end of the last write."""
        self._until = end + self._sticky_ns


class StickyKeys(_Sticky):
    """Reads each key from the leader that took the session's last write of it, if that was recent.

    For databases with several leaders: there, the leader that took the last write of one key may lack that of another.
    """

    def __init__(
        self, plain: Ask, from_node: Callable[[str, str], Answer], now: Callable[[], int], sticky_s: float
    ) -> None:
        super().__init__(now, sticky_s)
        self._plain, self._from_node = plain, from_node
        self._recent: dict[str, tuple[int, str]] = {}
        """By key: until when to read it from a leader, and which."""
        self._last: str | None = None
        """The node that took the session's last write, if it was acknowledged."""

    def read(self, key: str) -> Answer:
        """Read from the leader that took the write if it is recent."""
        until, node = self._recent.get(key, (0, ""))
        if self._started() < until:
            return self._from_node(key, node)
        return replace(self._plain(key), fell_back=False)

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Remember the leader that took the write.

        One that was not acknowledged leaves the earlier one: its leader may have neither that write nor those before.
        """
        self._last = answer.node if answer is not None and answer.outcome == "ok" else None
        self.write_ended(key, self._now())

    def write_ended(self, key: str, end: int) -> None:
        """Measure from the recorded end of the last write."""
        if self._last is not None:
            self._recent[key] = (end + self._sticky_ns, self._last)


def recorded_times(reads: Reads) -> RecordedTimes | None:
    """Return what must know the recorded times of a session that reads so, if anything."""
    return reads if isinstance(reads, StickyReads | StickyKeys) else None


TOO_OLD = "TooOld"
"""The error of a read that got only versions older than what the session had seen."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.005, 0.1
"""The pause before a majority is asked again, which doubles each time."""


class TokenReads:
    """Reads that remember the newest version that the session has seen or written of each key.

    A read that shows an older one is repeated at the stronger source; the user is shown the newer of the two. If the
    stronger source fails, the read fails: the user is not shown what is known to be too old.

    A leader that lacks what the session has seen has lost it. A majority may just not have it yet: the session may have
    read a write that is still under way from the one replica that has it. So a majority is asked again for `patience_s`
    seconds, after which the read fails.
    """

    def __init__(
        self,
        plain: Callable[[str, int], Answer],
        stronger: Callable[[str, int, Answer], Answer],
        clock: Clock,
        patience_s: float = 0.0,
    ) -> None:
        """Both take the key and the version that the session has seen; `stronger` also the answer that was too old.

        With a `patience_s` of 0 the answer of the stronger source is final.
        """
        self._plain, self._stronger = plain, stronger
        self._clock, self._patience_ns = clock, round(patience_s * 1e9)
        self._seen: dict[str, int] = {}

    def read(self, key: str) -> Answer:
        """Read, and read again if the version is older than what the session has seen."""
        seen, start = self._seen.get(key, 0), self._clock.now()
        answer = self._plain(key, seen)
        if _older(answer, seen):
            answer = _newer(answer, self._stronger(key, seen, answer))
            if self._patience_ns:
                answer = self._await(key, seen, answer, start + self._patience_ns)
        else:
            answer = replace(answer, fell_back=False)
        if answer.outcome == "ok":
            self._seen[key] = max(seen, answer.version or 0)
        return answer

    def _await(self, key: str, seen: int, answer: Answer, deadline: int) -> Answer:
        pause_s = FIRST_PAUSE_S
        while _older(answer, seen):
            if self._clock.now() >= deadline:
                return Answer("fail", node=answer.node, error=TOO_OLD, fell_back=True)
            self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            answer = _newer(answer, self._stronger(key, seen, answer))
        return answer

    def wrote(self, key: str, version: int, answer: Answer | None) -> None:
        """Remember an acknowledged write; one that was superseded found at least its version."""
        if answer is not None and answer.outcome == "ok":
            self._seen[key] = max(version, self._seen.get(key, 0))


def _older(answer: Answer, seen: int) -> bool:
    return answer.outcome == "ok" and (answer.version or 0) < seen


def _newer(first: Answer, second: Answer) -> Answer:
    """Return the newer of two answers; the second if it is an error."""
    return replace(first, fell_back=True) if _older(second, first.version or 0) else second


def fallen_back(ask: Callable[[], Answer], explain: Callable[[BaseException], Failure]) -> Answer:
    """Return the answer of the stronger source, marked as such also if it fails."""
    try:
        answer = ask()
    except Exception as error:  # noqa: BLE001 # the error table classifies it
        failure = explain(error)
        answer = Answer(failure.outcome, error=failure.error)
    return replace(answer, fell_back=True)
