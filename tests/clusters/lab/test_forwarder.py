"""Frames come out of a slow link in order, as late as was asked for, and none is made up."""

import os
import time
from collections.abc import Iterator

import pytest

from stalewatch.clusters.lab import forwarder
from stalewatch.clusters.lab.forwarder import Way

DELAY_S = 0.02


@pytest.fixture
def ends() -> Iterator[tuple[int, int, int, int]]:
    """Two pipes that keep frames apart, as devices do: one into the link, one out of it."""
    pipes = (*os.pipe2(os.O_NONBLOCK | os.O_DIRECT), *os.pipe2(os.O_NONBLOCK | os.O_DIRECT))
    yield pipes
    for end in pipes:
        os.close(end)


def taken_out(end: int) -> list[bytes]:
    frames = []
    while True:
        try:
            frames.append(os.read(end, 1 << 16))
        except BlockingIOError:
            return frames


def test_frames_come_out_in_order_and_not_before_their_time(ends: tuple[int, int, int, int]) -> None:
    source, enter, leave, target = ends
    way, sent = Way(source, target, DELAY_S), [b"%d" % number for number in range(10)]  # a pipe holds sixteen
    for frame in sent:
        os.write(enter, frame)
    begin = time.monotonic()
    way.take()
    way.release()
    early = taken_out(leave)
    assert early == [] or time.monotonic() - begin >= DELAY_S
    while way.due != float("inf"):
        time.sleep(max(0.0, way.due - time.monotonic()))
        way.release()
    assert time.monotonic() - begin >= DELAY_S
    assert early + taken_out(leave) == sent


def test_what_is_more_than_the_link_holds_is_lost(
    ends: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, enter, leave, target = ends
    monkeypatch.setattr(forwarder, "_MOST_FRAMES", 3)
    way = Way(source, target, 0.0)
    for frame in (b"1", b"2", b"3", b"4"):
        os.write(enter, frame)
    way.take()
    way.release()
    assert taken_out(leave) == [b"1", b"2", b"3"]


def test_a_device_that_is_down_loses_frames_and_the_link_goes_on(ends: tuple[int, int, int, int]) -> None:
    source, enter, _, _ = ends
    way = Way(source, source, 0.0)  # nobody can write to this end
    os.write(enter, b"one")
    way.take()
    way.release()
    assert way.due == float("inf")
