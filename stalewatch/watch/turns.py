"""Turns: at most one write of a key is under way, whether threads, greenlets or asyncio tasks write it.

A store that simply overwrites lets an older write that arrives late win. If two writes of one key overlapped, the older
version could remain in a store that did nothing wrong; so writers of one key wait for each other.
"""

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from stalewatch.watch.misuse import Misuse, Warnings

try:
    from greenlet import getcurrent
except ImportError:  # without greenlets, a thread is what waits
    from threading import get_ident as getcurrent

PATIENCE_S = 30.0
"""How long a writer waits for its turn before a warning says what it waits for."""


class Gate(Protocol):
    """A closed gate: `acquire` waits for `release`, which another thread may call."""

    def acquire(self, *, timeout: float) -> bool:
        """Wait at most that many seconds; return whether the gate was opened."""
        ...

    def release(self) -> None:
        """Open the gate."""
        ...


class WriterTurn:
    """One writer's claim to a key: the session, and the thread, greenlet or task that waits for it or holds it."""

    __slots__ = ("context", "key", "session", "wake")

    def __init__(self, key: str, session: str, context: object) -> None:
        self.key = key
        self.session = session
        self.context = context
        self.wake: Callable[[], bool] = lambda: False
        """Wakes up the waiting writer; returns False if it is gone."""


class KeyTurns:
    """The turns of all keys. Whoever ends a turn hands it on to the writer that has waited longest."""

    def __init__(self, issued: Warnings) -> None:
        self._warnings = issued
        self._lock = threading.Lock()
        self._holders: dict[str, WriterTurn] = {}
        """By key, the turn that is on. Without the lock a turn is only ever added, in one step, for a key without."""
        self._queues: dict[str, deque[WriterTurn]] = {}
        self._waits: dict[object, str] = {}
        """By thread, greenlet or task, the key that it waits for."""

    def take(self, turn: WriterTurn) -> None:
        """Wait for the turn; raise `Misuse` if that would last forever or block an event loop."""
        if self._holders.setdefault(turn.key, turn) is turn:
            return
        gate = _closed_gate()

        def wake() -> bool:
            gate.release()
            return True

        if not self._queue(turn, wake, blocking=True):
            return
        try:
            while not gate.acquire(timeout=PATIENCE_S):
                self._warn_of_long_wait(turn)
        except BaseException:
            self._give_up(turn)
            raise

    async def take_async(self, turn: WriterTurn) -> None:
        """Wait for the turn as an asyncio task; raise `Misuse` if that would last forever."""
        if self._holders.setdefault(turn.key, turn) is turn:
            return
        loop = asyncio.get_running_loop()
        opened = loop.create_future()

        def wake() -> bool:
            try:
                loop.call_soon_threadsafe(_open, opened)
            except RuntimeError:  # the loop is closed, and its tasks are gone
                return False
            return True

        if not self._queue(turn, wake, blocking=False):
            return
        try:
            while not (await asyncio.wait({opened}, timeout=PATIENCE_S))[0]:
                self._warn_of_long_wait(turn)
        except BaseException:  # a cancelled task may have been handed the turn already
            self._give_up(turn)
            raise

    def release(self, turn: WriterTurn) -> None:
        """End a turn: the next writer of the key has it now."""
        with self._lock:
            queue = self._queues.get(turn.key)
            while queue:
                following = queue.popleft()
                if not queue:
                    del self._queues[turn.key]
                self._waits.pop(following.context, None)
                self._holders[turn.key] = following
                if following.wake():
                    return
            del self._holders[turn.key]

    def _queue(self, turn: WriterTurn, wake: Callable[[], bool], *, blocking: bool) -> bool:
        """Wait in line; return False if the turn has come meanwhile."""
        turn.wake = wake
        with self._lock:
            holder = self._holders.setdefault(turn.key, turn)
            if holder is turn:
                return False
            if blocking and asyncio._get_running_loop() is not None:  # noqa: SLF001 # documented, and does not raise
                raise Misuse(
                    f"session {holder.session!r} is writing key {turn.key!r}, and waiting for it here would block the "
                    "event loop: use `async with` in asyncio"
                )
            self._refuse_deadlock(turn)
            self._queues.setdefault(turn.key, deque()).append(turn)
            self._waits[turn.context] = turn.key
            return True

    def _refuse_deadlock(self, turn: WriterTurn) -> None:
        """Raise `Misuse` if waiting would be a deadlock: the holder of the key waits, directly or not, for this one."""
        wanted: str | None = turn.key
        while wanted is not None and (holder := self._holders.get(wanted)) is not None:
            if holder.context == turn.context:
                raise Misuse(
                    f"session {turn.session!r} would wait forever for its turn to write key {turn.key!r}: the block "
                    f"around it writes key {wanted!r} (session {holder.session!r}), and writers of one key wait for "
                    "each other; end that block first"
                )
            wanted = self._waits.get(holder.context)

    def _give_up(self, turn: WriterTurn) -> None:
        """Leave the line, or pass the turn on if it has been handed over already."""
        with self._lock:
            queue = self._queues.get(turn.key)
            if queue is not None and turn in queue:
                queue.remove(turn)
                self._waits.pop(turn.context, None)
                if not queue:
                    del self._queues[turn.key]
        if self._holders.get(turn.key) is turn:
            self.release(turn)

    def _warn_of_long_wait(self, turn: WriterTurn) -> None:
        holder = self._holders.get(turn.key)
        if holder is not None:
            self._warnings.warn(
                "long wait",
                f"session {turn.session!r} has waited {PATIENCE_S:.0f} s for its turn to write key {turn.key!r}, which "
                f"session {holder.session!r} is writing: writers of one key wait for each other, so give requests a "
                "timeout and keep write blocks short",
            )


def current_context() -> object:
    """Return what would wait: the running asyncio task, else the greenlet, else the thread."""
    if asyncio._get_running_loop() is not None and (task := asyncio.current_task()) is not None:  # noqa: SLF001 # documented
        return task
    return getcurrent()


def _open(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)


def _closed_gate() -> Gate:
    """Return a gate that suspends the caller alone: the greenlet in a thread that runs gevent, else the thread."""
    if "gevent" in sys.modules:
        from gevent._hub_local import get_hub_if_exists  # noqa: PLC0415 # gevent has no public way to ask
        from gevent.lock import Semaphore  # noqa: PLC0415 # optional

        if get_hub_if_exists() is not None:
            return Semaphore(0)  # type: ignore[no-any-return] # untyped
    lock = threading.Lock()
    lock.acquire()
    return lock
