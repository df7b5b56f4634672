"""Ctrl-C: the first ends the run in order, the second leaves the final reads out, the third leaves at once."""

import logging
import signal
from collections.abc import Callable

import gevent

log = logging.getLogger("stalewatch")

LEAVE_AT_ONCE = 3


class Interrupts:
    """Takes SIGINT between two greenlets, and SIGTERM where Locust does not take it yet.

    Python would raise KeyboardInterrupt in whatever greenlet runs just then: a session's, the one that reports, the one
    that hears the workers. That greenlet would be gone, and with it what only it does. Here it is raised in the main
    greenlet alone, where Locust waits for it; and not there either while the end is under way.
    """

    def __init__(self) -> None:
        self._times = 0
        self._hurriers: list[Callable[[], bool]] = []
        self._starters: list[Callable[[int], BaseException | None]] = []
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, or another's
            gevent.signal_handler(signal.SIGINT, self._on_interrupt)
        gevent.signal_handler(signal.SIGTERM, self._on_terminate)

    def hurries(self, hurry: Callable[[], bool]) -> None:
        """Call that at every Ctrl-C; it hurries an end that is under way, and tells whether there is one."""
        self._hurriers.append(hurry)

    def leaves_start(self, leave: Callable[[int], BaseException | None]) -> None:
        """Call that first, with the exit code; it returns what to raise where Locust's start is still under way."""
        self._starters.append(leave)

    def _on_interrupt(self) -> None:
        if self._left_start(signal.SIGINT):
            return
        self._times += 1
        under_way = [hurry() for hurry in self._hurriers]
        if not any(under_way) or self._times >= LEAVE_AT_ONCE:
            _raise_in_main(KeyboardInterrupt())
        else:
            log.warning("hurrying; once more to leave at once")

    def _on_terminate(self) -> None:
        """Do nothing where Locust's own handler does: it is set only when the start is over."""
        self._left_start(signal.SIGTERM)

    def _left_start(self, number: int) -> bool:
        for leave in self._starters:
            error = leave(128 + number)
            if error is not None:
                _raise_in_main(error)
                return True
        return False


def _raise_in_main(error: BaseException) -> None:
    gevent.get_hub().handle_system_error(type(error), error)
