"""The end of a process by signals: the first SIGTERM or Ctrl-C ends it in order, the second at once, always.

Python's own handlers run only between two steps of the main thread, and what they raise has to pass everything that
cleans up on the way out; a server that never answers can delay both. So a thread of the system's, which nothing of ours
can block, has the last word.
"""

import importlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

STOP_S = 120.0
"""The longest time from the first signal to the end of a process: sessions end, keys are deleted."""

DRILL_STOP_S = 300.0
"""The same for a drill, which undoes its faults first."""

LOCUST_STOP_S = 600.0
"""The same under Locust, where the final reads are still made."""

AT_ONCE_S = 2.0
"""The longest time from the second signal to the end."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def limit(stop_s: float) -> None:
    """From the first signal on, give this process `stop_s` to end, and after a second one `AT_ONCE_S`.

    Until a run sets its own handler, a signal raises SystemExit in the main thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave)
    in_background(_watch, reading, stop_s)


def _leave(number: int, _frame: object) -> None:
    """Leave the process in order; gevent's own greenlet passes on SystemExit silently, unlike KeyboardInterrupt."""
    os.write(2, b"stopping; press Ctrl-C again to exit at once\n")
    raise SystemExit(128 + number)


def in_background(function: Callable[..., None], *arguments: object) -> None:
    """Call a function in a thread of the system's, even if gevent has patched threads."""
    _native("_thread", "start_new_thread")(function, arguments)


def exit_after(seconds: float, code: int) -> None:
    """End this process after some seconds, whatever it does then."""
    _native("time", "sleep")(seconds)
    os.write(2, b"stalewatch: it did not end in time, and exits now; what it has created may be left behind\n")
    os._exit(code)


def let_timers_fire() -> None:
    """Let gevent's timers fire that are due, for waits that are over.

    A signal whose handler raises just after the main greenlet has started the timer of a wait, and before it waits,
    leaves that timer running. It would fire when the interpreter shuts down, and gevent would print a traceback then.
    """
    if gevent := sys.modules.get("gevent"):
        with suppress(gevent.Timeout):
            gevent.sleep(0)


def _watch(reading: int, stop_s: float) -> None:
    """Wait for two signals, and end the process if they do not."""
    first = _next(reading)
    in_background(exit_after, stop_s, first)
    _next(reading)
    exit_after(AT_ONCE_S, first)


def _next(reading: int) -> int:
    """Return the exit code that the next signal asks for."""
    while (number := os.read(reading, 1)[0]) not in SIGNALS:
        pass
    return 128 + number


def _native(module: str, name: str) -> Any:  # noqa: ANN401 # a function of Python's own
    monkey = sys.modules.get("gevent.monkey")  # who has not imported it has patched nothing, and need not wait for it
    return getattr(importlib.import_module(module), name) if monkey is None else monkey.get_original(module, name)
