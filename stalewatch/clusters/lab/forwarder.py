"""A delayed link: two TAP devices, each of which receives the frames of the other one after a delay.

This is a program of its own, and needs only the standard library: ``python forwarder.py DEVICE DEVICE SECONDS``. It
creates the devices in the network namespace that it is started in; they are removed when it ends.
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

_MAX_FRAME_BYTES = 1 << 16
_MAX_FRAMES = 20_000
"""Frames in flight in one direction; more are dropped, as by a switch whose buffer is full."""


class Direction:
    """One direction of the link: the frames in flight, each with the time at which it is due."""

    def __init__(self, source: int, target: int, delay_s: float) -> None:
        self.source = source
        self._target = target
        self._delay_s = delay_s
        self._frames: deque[tuple[float, bytes]] = deque()

    @property
    def due(self) -> float:
        """When the next frame is due; infinity if there is none."""
        return self._frames[0][0] if self._frames else float("inf")

    def receive(self) -> None:
        """Read all frames that have arrived."""
        while True:
            try:
                frame = os.read(self.source, _MAX_FRAME_BYTES)
            except BlockingIOError:
                return
            if len(self._frames) < _MAX_FRAMES:
                self._frames.append((time.monotonic() + self._delay_s, frame))

    def send_due(self) -> None:
        """Send the frames that are due."""
        while self.due <= time.monotonic():
            _, frame = self._frames.popleft()
            try:
                os.write(self._target, frame)
            except OSError:
                continue  # the device is down or full: the frame is lost, as on any link


def forward(one: int, other: int, delay_s: float) -> None:
    """Forward frames between two devices forever, each delayed by `delay_s` seconds."""
    directions = (Direction(one, other, delay_s), Direction(other, one, delay_s))
    sources = [direction.source for direction in directions]
    while True:
        wait_s = min(direction.due for direction in directions) - time.monotonic()
        ready, _, _ = select.select(sources, [], [], None if wait_s == float("inf") else max(0.0, wait_s))
        for direction in directions:
            if direction.source in ready:
                direction.receive()
            direction.send_due()


def create_device(name: str) -> int:
    """Create a TAP device, and return a file descriptor for its frames."""
    file = os.open(CONTROL, os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack(_REQUEST, name.encode(), _IFF_TAP | _IFF_NO_PI))
    return file


def main(words: Sequence[str]) -> None:
    """Run the program."""
    one, other, delay_s = words
    forward(create_device(one), create_device(other), float(delay_s))


if __name__ == "__main__":
    main(sys.argv[1:])
