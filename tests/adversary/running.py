"""Benches against hostile servers: several at a time, each with its exit code, words, time and memory."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LONGEST_S = 90.0
MOST_BYTES = 400 << 20
AT_A_TIME = 4
"""Processes, or attempts to connect, that run at the same time."""


class Ended(NamedTuple):
    """What became of a process."""

    code: int
    out: str
    err: str
    took_s: float
    peak_bytes: int

    @property
    def said(self) -> str:
        """The last line on stderr."""
        return self.err.strip().splitlines()[-1]


class Started:
    """A process that writes into files, so that its own memory is all that is measured."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._files = [folder / name for name in ("out", "err")]
        self._begin = time.monotonic()
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env={**os.environ, **environment}, stdout=out, stderr=err
            )

    def said(self) -> str:
        """Return what the process has said on stderr so far."""
        return self._files[1].read_text()

    def send(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self, longest_s: float = LONGEST_S) -> Ended:
        """Return what became of it; kill it if it does not end."""
        peak = 0
        while self.process.poll() is None:
            peak = max(peak, _peak_bytes(self.process.pid))
            if time.monotonic() - self._begin > longest_s:
                self.process.kill()
            time.sleep(0.02)
        took_s = time.monotonic() - self._begin
        out, err = (file.read_text() for file in self._files)
        return Ended(self.process.returncode, out, err, took_s, peak)


def _peak_bytes(pid: int) -> int:
    """Return the most memory that a process has used, or 0 if it has just ended.

    The kernel's account of a process that ended (`ru_maxrss`) would not do: it begins with the memory of its parent.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
