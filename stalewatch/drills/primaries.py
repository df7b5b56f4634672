"""For how long two nodes took writes as primaries, from what each node said of itself.

An answer is true at some moment between the question and the answer. A node that says "primary" twice in the same term
was one all the time between: who steps down in a term is never elected in it again. Two answers far apart prove less
than they seem to: a node frozen in between held its office, but gave no answer that anybody could have seen.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from stalewatch.clients.protocol import NoServerAnswers, PrimaryClaims
from stalewatch.drills.recovery import NS
from stalewatch.history.clock import Clock

POLL_S = 0.1


class Said(NamedTuple):
    """A node's answer: when it was asked and when it answered (ns), and the term that it leads, None where it does not.

    A node that did not answer said nothing, and is not noted.
    """

    asked: int
    answered: int
    term: int | None


class Span(NamedTuple):
    """A stretch of time, in nanoseconds."""

    start: int
    end: int


Bounds = tuple[float, float]
"""The least and the most that it may have been, in seconds."""


def two_primaries(said: Mapping[str, Sequence[Said]], poll_ns: int) -> Bounds:
    """Return for how long at least two nodes were primaries, surely and possibly; each node's answers in order."""
    surely = overlap_ns(list(_surely(answers, 2 * poll_ns)) for answers in said.values())
    possibly = overlap_ns(list(_possibly(answers)) for answers in said.values())
    return surely / NS, possibly / NS


def _surely(answers: Sequence[Said], apart_ns: int) -> Iterator[Span]:
    """Yield when the node surely was primary: between answers of one term that are close together."""
    for one, next_one in pairwise(answers):
        close = next_one.asked - one.asked <= apart_ns
        if one.term is not None and one.term == next_one.term and close and one.answered < next_one.asked:
            yield Span(one.answered, next_one.asked)


def _possibly(answers: Sequence[Said]) -> Iterator[Span]:
    """Yield when the node may have been primary: from its last "no" before a "yes" to its next "no" after it.

    The "no" before may have been true as early as it was asked for, the one after as late as it was answered. Before
    its first answer and after its last one nothing is claimed.
    """
    since: int | None = None
    last_no: int | None = None
    for answer in answers:
        if answer.term is not None:
            since = since if since is not None else answer.asked if last_no is None else last_no
        else:
            if since is not None:
                yield Span(since, answer.answered)
            since, last_no = None, answer.asked
    if since is not None:
        yield Span(since, answers[-1].answered)


def overlap_ns(nodes: Iterable[Sequence[Span]]) -> int:
    """Return for how long at least two nodes have a span, each node's own spans counted once."""
    edges = sorted(edge for spans in nodes for span in _joined(spans) for edge in ((span.start, 1), (span.end, -1)))
    total = depth = 0
    for (moment, change), (following, _) in pairwise(edges):
        depth += change
        total += (following - moment) * (depth > 1)
    return total


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield the spans of one node without overlaps among them."""
    open_span: Span | None = None
    for span in sorted(spans):
        if open_span is not None and span.start <= open_span.end:
            open_span = Span(open_span.start, max(open_span.end, span.end))
        else:
            if open_span is not None:
                yield open_span
            open_span = span
    if open_span is not None:
        yield open_span


class PrimaryWatch:
    """Asks every node in turns of `POLL_S` whether it leads, one thread a node, until it is closed."""

    def __init__(self, claims: PrimaryClaims, clock: Clock) -> None:
        self.said: dict[str, list[Said]] = {node: [] for node in claims.nodes}
        self._claims = claims
        self._clock = clock
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(node,), name=f"primary {node}", daemon=True)
            for node in claims.nodes
        ]

    def open(self) -> None:
        """Begin to ask."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._claims.close()

    def bounds(self) -> Bounds:
        """Return for how long there were two primaries, at the least and at the most, in seconds."""
        return two_primaries(self.said, round(POLL_S * NS))

    def _ask_on(self, node: str) -> None:
        while not self._over.is_set():
            asked = self._clock.now()
            try:
                leads = self._claims.ask(node)
            except NoServerAnswers:
                pass
            else:
                self.said[node].append(Said(asked, self._clock.now(), leads))
            self._over.wait(max(0.0, POLL_S - (self._clock.now() - asked) / NS))
