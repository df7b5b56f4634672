"""Simulated time: sessions take turns in the order of their wake-ups, so a seeded run gives the same history anywhere.

Sessions remain ordinary threads (greenlets if gevent has patched `threading`), but only one runs at a time while the
others wait. When it sleeps, time jumps to the earliest wake-up and that session runs. Neither the kind of thread nor
the operating system's scheduler affects the order.

A session must not sleep while it holds a lock that another session takes: the other could never go to sleep, and time
would stop.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from heapq import heappop, heappush

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
