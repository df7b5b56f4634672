"""A link that takes its time: two TAP devices, and what comes out of one goes into the other a while later.

A program of its own, which needs nothing but the standard library: ``python forwarder.py DEVICE DEVICE SECONDS``. It
makes the devices in the network namespace that it is started in; they go when it ends.
"""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence

CONTROL = "/dev/net/tun"

# linux/if_tun.h
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_REQUEST = "16sH22x"

_LARGEST_FRAME = 1 << 16
_MOST_FRAMES = 20_000
"""How many may be under way one way; more are dropped, as by a switch whose memory is full."""


class Way:
    """One direction: frames that came in, each with the time at which it goes out."""

    def __init__(self, source: int, target: int, delay_s: float) -> None:
        self.source = source
        self._target = target
        self._delay_s = delay_s
        self._frames: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float:
        """When the next frame goes out; never, where there is none."""
        return self._frames[0][0] if self._frames else float("inf")

    def take(self) -> None:
        """Take in what has come."""
        while True:
            try:
                frame = os.read(self.source, _LARGEST_FRAME)
            except BlockingIOError:
                return
            if len(self._frames) < _MOST_FRAMES:
                self._frames.append((time.monotonic() + self._delay_s, frame))

    def release(self) -> None:
        """Let out what is due."""
        while self.due <= time.monotonic():
            _, frame = self._frames.popleft()
            try:
                os.write(self._target, frame)
            except OSError:
                continue  # the device is down or full: a frame is lost, as on any link


def forward(one: int, other: int, delay_s: float) -> None:
    """Forward frames between two devices for ever, each held back by that many seconds."""
    ways = (Way(one, other, delay_s), Way(other, one, delay_s))
    sources = [way.source for way in ways]
    while True:
        wait_s = min(way.due for way in ways) - time.monotonic()
        ready, _, _ = select.select(sources, [], [], None if wait_s == float("inf") else max(0.0, wait_s))
        for way in ways:
            if way.source in ready:
                way.take()
            way.release()


def device(name: str) -> int:
    """Make a TAP device, and return the file that its frames are read from and written to."""
    file = os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack(_REQUEST, name.encode(), _IFF_TAP | _IFF_NO_PI))
    return file


def main(words: Sequence[str]) -> None:
    """Run as a program."""
    one, other, delay_s = words
    forward(device(one), device(other), float(delay_s))


if __name__ == "__main__":
    main(sys.argv[1:])
