"""Ctrl-C: the first ends the run in order, the second leaves the final reads out, the third leaves at once."""

import signal
from collections.abc import Callable

import gevent

LEAVE_AT_ONCE = 3


class Interrupts:
    """Takes SIGINT between two greenlets.

    Python would raise KeyboardInterrupt in whatever greenlet runs just then: a session's, the one that reports, the one
    that hears the workers. That greenlet would be gone, and with it what only it does. Here it is raised in the main
    greenlet alone, where Locust waits for it.
    """

    def __init__(self) -> None:
        self._times = 0
        self._listeners: list[Callable[[], None]] = []
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or another's
            gevent.signal_handler(signal.SIGINT, self._take)

    def add_listener(self, hurry: Callable[[], None]) -> None:
        """Call that at every Ctrl-C: where an end is under way already, it may hurry."""
        self._listeners.append(hurry)

    def _take(self) -> None:
        self._times += 1
        for hurry in self._listeners:
            hurry()
        if self._times == 1 or self._times >= LEAVE_AT_ONCE:
            gevent.get_hub().handle_system_error(KeyboardInterrupt, KeyboardInterrupt())
