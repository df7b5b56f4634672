"""How long two nodes were primaries at the same time, from what each node claims.

A claim is true at some moment between the question and the answer. A node that claims the same term twice was primary
all the time between: a node that steps down is never elected in the same term again. Two claims far apart prove less
than they seem to: a node that was frozen in between was still primary, but gave no answer that anybody could have seen.
"""

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from stalewatch.clients.protocol import NoServerAnswers, PrimaryClaims
from stalewatch.drills.recovery import NS
from stalewatch.history.clock import Clock

POLL_S = 0.1


class Claim(NamedTuple):
    """A node's answer: when it was asked, when it answered (ns), and the term in which it is primary, or None.

    A question without an answer makes no claim.
    """

    asked: int
    answered: int
    term: int | None


class Span(NamedTuple):
    """A period, in nanoseconds."""

    start: int
    end: int


Bounds = tuple[float, float]
"""The least and the most that it may have been, in seconds."""


def two_primaries(claims: Mapping[str, Sequence[Claim]], poll_ns: int) -> Bounds:
    """Return how long at least two nodes were primaries, certainly and possibly; `claims` are each node's, in order."""
    certain = overlap_ns(list(_certain(answers, 2 * poll_ns)) for answers in claims.values())
    possible = overlap_ns(list(_possible(answers)) for answers in claims.values())
    return certain / NS, possible / NS


def _certain(claims: Sequence[Claim], apart_ns: int) -> Iterator[Span]:
    """Yield when the node was certainly primary: between claims of one term that are close together."""
    for claim, following in pairwise(claims):
        close = following.asked - claim.asked <= apart_ns
        if claim.term is not None and claim.term == following.term and close and claim.answered < following.asked:
            yield Span(claim.answered, following.asked)


def _possible(claims: Sequence[Claim]) -> Iterator[Span]:
    """Yield when the node may have been primary: from its last "no" before a "yes" to its next "no" after it.

    The "no" before may have been true as early as it was asked for, the one after as late as it was answered. Nothing
    is assumed before the first answer and after the last one.
    """
    since: int | None = None
    last_no: int | None = None
    for claim in claims:
        if claim.term is not None:
            since = since if since is not None else claim.asked if last_no is None else last_no
        else:
            if since is not None:
                yield Span(since, claim.answered)
            since, last_no = None, claim.asked
    if since is not None:
        yield Span(since, claims[-1].answered)


def overlap_ns(nodes: Iterable[Sequence[Span]]) -> int:
    """Return how long spans of at least two nodes overlap; a node's own spans may overlap and count once."""
    edges = sorted(edge for spans in nodes for span in _joined(spans) for edge in ((span.start, 1), (span.end, -1)))
    total = depth = 0
    for (moment, change), (following, _) in pairwise(edges):
        depth += change
        total += (following - moment) * (depth > 1)
    return total


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    """Yield the union of one node's spans, as spans that do not overlap."""
    current: Span | None = None
    for span in sorted(spans):
        if current is not None and span.start <= current.end:
            current = Span(current.start, max(current.end, span.end))
        else:
            if current is not None:
                yield current
            current = span
    if current is not None:
        yield current


class PrimaryWatch:
    """Asks every node each `POLL_S` whether it is primary, in one thread a node, until it is closed."""

    def __init__(self, servers: PrimaryClaims, clock: Clock) -> None:
        self.claims: dict[str, list[Claim]] = {node: [] for node in servers.nodes}
        self._servers = servers
        self._clock = clock
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._poll, args=(node,), name=f"primary {node}", daemon=True)
            for node in servers.nodes
        ]

    def open(self) -> None:
        """Start polling."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop polling and close the connections."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._servers.close()

    def bounds(self) -> Bounds:
        """Return how long there were two primaries, at least and at most, in seconds."""
        return two_primaries(self.claims, round(POLL_S * NS))

    def _poll(self, node: str) -> None:
        while not self._over.is_set():
            asked = self._clock.now()
            try:
                term = self._servers.ask(node)
            except NoServerAnswers:
                pass
            else:
                self.claims[node].append(Claim(asked, self._clock.now(), term))
            self._over.wait(max(0.0, POLL_S - (self._clock.now() - asked) / NS))
