"""A command on a real terminal of a given size, and what its user sees."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 120.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Seen(NamedTuple):
    """What a command wrote, its exit code, and the terminal's settings before and after."""

    output: str
    code: int
    before: list[Any]
    after: list[Any]

    @property
    def text(self) -> str:
        """The output without escape sequences; what was drawn over is still there."""
        return ESCAPES.sub("", self.output).replace("\r\n", "\n")

    @property
    def screen(self) -> list[str]:
        """The lines that are on the screen in the end, of a terminal of endless height."""
        lines, row, column = [""], 0, 0
        for escape, end, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([\r\n])|([^\x1b\r\n]+)", self.output):
            if escape.endswith("A"):
                row = max(0, row - int(escape[2:-1] or 1))
            elif escape == "\x1b[2K":
                lines[row] = ""
            elif end == "\r":
                column = 0
            elif end == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif text:
                line = lines[row].ljust(column)
                lines[row] = line[:column] + text + line[column + len(text) :]
                column += len(text)
        return lines


def run_on_terminal(
    arguments: list[str],
    columns: int = 80,
    interrupt_at: Callable[[str], bool] = lambda _: False,
    **environment: str,
) -> Seen:
    """Run a module of Python on a terminal; press Ctrl-C once the output satisfies `interrupt_at`."""
    main, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    before = termios.tcgetattr(terminal)
    pid = os.fork()
    if not pid:
        os.login_tty(terminal)
        os.chdir(ROOT)
        kept = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR", "FORCE_COLOR"}}
        kept |= {"TERM": "xterm-256color", **environment}
        os.execve(sys.executable, [sys.executable, *arguments], kept)  # noqa: S606 # on a terminal, no shell
    output, pressed, deadline = b"", False, time.monotonic() + TIMEOUT_S
    while not (ended := os.waitpid(pid, os.WNOHANG))[0] or select.select([main], [], [], 0)[0]:
        if select.select([main], [], [], 0.1)[0]:
            output += os.read(main, 65536)
        if not pressed and interrupt_at(output.decode(errors="replace")):
            pressed = bool(os.write(main, b"\x03"))
        if ended[0] or time.monotonic() > deadline:
            break
    while select.select([main], [], [], 0.1)[0]:
        output += os.read(main, 65536)
    after = termios.tcgetattr(terminal)
    os.close(terminal)
    os.close(main)
    return Seen(output.decode(), os.waitstatus_to_exitcode(ended[1]), before, after)
