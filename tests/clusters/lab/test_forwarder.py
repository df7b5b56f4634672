"""A delayed link sends frames in order and on time."""

import os
import time
from collections.abc import Iterator

import pytest

from stalewatch.clusters.lab import forwarder
from stalewatch.clusters.lab.forwarder import Direction

DELAY_S = 0.02


@pytest.fixture
def ends() -> Iterator[tuple[int, int, int, int]]:
    """Two packet-mode pipes, which preserve frames like devices: one into the link, one out of it."""
    pipes = (*os.pipe2(os.O_NONBLOCK | os.O_DIRECT), *os.pipe2(os.O_NONBLOCK | os.O_DIRECT))
    yield pipes
    for end in pipes:
        os.close(end)


def received(end: int) -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(os.read(end, 1 << 16))
        except BlockingIOError:
            return frames


def test_frames_are_sent_in_order_and_not_early(ends: tuple[int, int, int, int]) -> None:
    source, enter, leave, target = ends
    link, sent = (
        Direction(source, target, DELAY_S),
        [b"%d" % number for number in range(10)],
    )  # a pipe's capacity is sixteen
    for frame in sent:
        os.write(enter, frame)
    begin = time.monotonic()
    link.receive()
    link.send_due()
    early = received(leave)
    assert early == [] or time.monotonic() - begin >= DELAY_S
    while link.due != float("inf"):
        time.sleep(max(0.0, link.due - time.monotonic()))
        link.send_due()
    assert time.monotonic() - begin >= DELAY_S
    assert early + received(leave) == sent


def test_frames_beyond_the_links_capacity_are_dropped(
    ends: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, enter, leave, target = ends
    monkeypatch.setattr(forwarder, "_MAX_FRAMES", 3)
    link = Direction(source, target, 0.0)
    for frame in (b"1", b"2", b"3", b"4"):
        os.write(enter, frame)
    link.receive()
    link.send_due()
    assert received(leave) == [b"1", b"2", b"3"]


def test_a_device_that_is_down_loses_frames_and_the_link_keeps_working(ends: tuple[int, int, int, int]) -> None:
    source, enter, _, _ = ends
    link = Direction(source, source, 0.0)  # this end is not writable
    os.write(enter, b"one")
    link.receive()
    link.send_due()
    assert link.due == float("inf")
