"""Simulated time: sessions take turns in the order of their wake-ups, so a seeded run gives the same history anywhere.

Sessions remain ordinary threads (greenlets if gevent has patched `threading`), but only one runs at a time while the
others wait. When it sleeps, time jumps to the earliest wake-up and that session runs. Neither the kind of thread nor
the operating system's scheduler affects the order.

A session must not sleep while it holds a lock that another session takes: the other could never go to sleep, and time
would stop.
"""

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush
from random import Random
from typing import NamedTuple

Sampler = Callable[[], int]
"""Draws one delay, in nanoseconds."""

_SIGMA = 1.0
"""The standard deviation of the logarithm of a lognormal delay: median 0.6, 99th percentile 6.2 times the mean."""


class DelayDistribution(NamedTuple):
    """A family of delay distributions, parameterized by the mean in seconds."""

    sampler: Callable[[Random, float], Sampler]
    """Takes a source of randomness and a mean above 0."""

    cdf: Callable[[float, float], float]
    """The probability that a delay with that mean is at most that age; both in seconds and above 0."""

    memoryless: bool = False
    """Whether the rest of a pending delay is distributed like a new delay."""


def _constant(_random: Random, mean_s: float) -> Sampler:
    delay = round(mean_s * 1e9)
    return lambda: delay


def _uniform(random: Random, mean_s: float) -> Sampler:
    draw, width = random.random, 2e9 * mean_s
    return lambda: int(width * draw())


def _exponential(random: Random, mean_s: float) -> Sampler:
    draw, log, scale = random.random, math.log, -1e9 * mean_s
    return lambda: int(scale * log(1.0 - draw()))


def _lognormal(random: Random, mean_s: float) -> Sampler:
    draw, location = random.lognormvariate, math.log(mean_s) - _SIGMA**2 / 2
    return lambda: int(1e9 * draw(location, _SIGMA))


def _lognormal_cdf(mean_s: float, age_s: float) -> float:
    return 0.5 + 0.5 * math.erf((math.log(age_s / mean_s) + _SIGMA**2 / 2) / (_SIGMA * math.sqrt(2)))


DISTRIBUTIONS: Mapping[str, DelayDistribution] = {
    "constant": DelayDistribution(_constant, lambda mean, age: float(age >= mean)),
    "uniform": DelayDistribution(_uniform, lambda mean, age: min(1.0, age / (2 * mean))),
    "exponential": DelayDistribution(_exponential, lambda mean, age: -math.expm1(-age / mean), memoryless=True),
    "lognormal": DelayDistribution(_lognormal, _lognormal_cdf),
}


def sampler(distribution: str, random: Random, mean_s: float) -> Sampler:
    """Return a sampler of a distribution, by its name in `DISTRIBUTIONS`; with a mean of 0 there is no delay."""
    return DISTRIBUTIONS[distribution].sampler(random, mean_s) if mean_s > 0 else lambda: 0


def probability_pending(distribution: str, mean_s: float, ages_s: Iterable[float]) -> float:
    """Return the probability that at least one of the delays that began those many seconds ago is pending.

    `ages_s` must be in ascending order. A follower that applies writes in order does not show a write until its own
    delay and those of all earlier writes have ended.
    """
    if mean_s <= 0:
        return 0.0
    all_ended = 1.0
    for age in ages_s:
        ended = DISTRIBUTIONS[distribution].cdf(mean_s, age) if age > 0 else 0.0
        if ended == 1.0:
            break  # older delays have ended too
        all_ended *= ended
    return 1.0 - all_ended


EPOCH_NS = 1_577_836_800_000_000_000
"""When simulated time starts: 2020-01-01T00:00:00Z, years before the times of any real run."""


class _Turn:
    """A thread's position in the queue, and the gate at which it waits for its turn."""

    __slots__ = ("entry", "gate", "joined", "name")

    def __init__(self, name: str, *, joined: bool) -> None:
        self.name = name
        self.joined = joined
        self.entry: _Entry | None = None
        self.gate = threading.Lock()
        self.gate.acquire()

    def wait(self) -> None:
        try:
            self.gate.acquire()
        except BaseException:
            # The gate may already be open for a greenlet that is killed here. Unless it is closed again, the greenlet's
            # next wait returns at once.
            self.gate.acquire(blocking=False)
            raise


_Entry = tuple[int, str, int, _Turn]
"""Wake-up in nanoseconds, session name, serial number and turn; void once it is no longer the turn's `entry`."""


class SimulatedClock:
    """A `stalewatch.history.clock.Clock` whose time passes only while all joined sessions sleep.

    Sessions that wake up at the same time run in the order of their names. A thread that has not joined may sleep too:
    if there are no sessions it advances the time, otherwise it waits until they have, without delaying them.
    """

    def __init__(self, start_ns: int = EPOCH_NS) -> None:
        self._now = start_ns
        self._mutex = threading.Lock()
        self._turns: dict[int, _Turn] = {}
        self._names: set[str] = set()
        self._asleep: list[_Entry] = []
        self._entries = 0
        self._running: _Turn | None = None
        self._awaited = 0

    def now(self) -> int:
        """Return simulated nanoseconds since the epoch."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Put the calling thread to sleep for that much simulated time."""
        turn = self._turns.get(threading.get_ident()) or _Turn("", joined=False)
        with self._mutex:
            # Rounded, not truncated: a store that plans in nanoseconds must not be woken a nanosecond early.
            wake = self._now + max(0, round(seconds * 1e9))
            if self._running is turn:
                if not self._awaited and (not self._asleep or wake < self._asleep[0][0]):
                    self._now = wake
                    return
                self._running = None
            self._enqueue(turn, wake)
        turn.wait()

    def expect(self, sessions: int) -> None:
        """Stop time until that many more sessions have joined; 0 cancels the wait."""
        with self._mutex:
            self._awaited = sessions
            self._wake_next()

    def join(self, session: str) -> None:
        """Make the calling thread a session and wait for its turn.

        Raises ValueError if the thread has already joined, or if the name is in use.
        """
        thread = threading.get_ident()
        with self._mutex:
            if thread in self._turns or session in self._names:
                raise ValueError(f"cannot join the clock as {session!r}: a thread joins once, under a unique name")
            turn = self._turns[thread] = _Turn(session, joined=True)
            self._names.add(session)
            self._awaited = max(0, self._awaited - 1)
            self._enqueue(turn, self._now)
        turn.wait()

    def leave(self) -> None:
        """Remove the calling thread so that the others continue without it; do nothing if it has not joined."""
        with self._mutex:
            turn = self._turns.pop(threading.get_ident(), None)
            if turn is None:
                return
            self._names.discard(turn.name)
            turn.entry = None
            if self._running is turn:
                self._running = None
            self._wake_next()

    def _enqueue(self, turn: _Turn, wake: int) -> None:
        self._entries += 1
        turn.entry = (wake, turn.name, self._entries, turn)
        heappush(self._asleep, turn.entry)
        self._wake_next()

    def _wake_next(self) -> None:
        """Wake the thread that is due first: one session at most, and every thread that has not joined before it."""
        while self._asleep and self._running is None and not self._awaited:
            entry = heappop(self._asleep)
            turn = entry[3]
            if turn.entry is not entry:
                continue
            turn.entry = None
            self._now = entry[0]
            if turn.joined:
                self._running = turn
            turn.gate.release()


def run_sessions(clock: SimulatedClock, bodies: Mapping[str, Callable[[], None]]) -> None:
    """Run each body as a session in its own thread, under its name, until all have ended; raise the first error."""

    def run(name: str) -> None:
        clock.join(name)
        try:
            bodies[name]()
        finally:
            clock.leave()

    clock.expect(len(bodies))
    with ThreadPoolExecutor(len(bodies) or 1) as threads:
        for ended in [threads.submit(run, name) for name in bodies]:
            ended.result()
