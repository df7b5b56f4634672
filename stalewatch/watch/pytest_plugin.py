"""The pytest plugin: the fixture `watch`, which is a `stalewatch.Watch` for each test.

It is loaded by every run of pytest on a machine where stalewatch is installed, so it imports nothing before the fixture
is used.
"""

# ruff: noqa: PLC0415 # imports inside functions keep pytest's start quick

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from stalewatch.watch.watch import Watch

HISTORY = "--stalewatch-history"
EXPECT = "--stalewatch-expect"

MAX_NAME = 120
"""The most characters of a test's name in the name of its history; parameters may be long."""

_watch_of_test = pytest.StashKey["Watch"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("stalewatch", "stalewatch: the operations of tests that use the fixture `watch`")
    group.addoption(HISTORY, metavar="DIR", help="write one history file for each test that uses the fixture `watch`")
    group.addoption(
        EXPECT,
        metavar="LIST",
        help="fail such a test if it misses one of these, such as read_your_writes=0,stale_reads<0.05, unless it has "
        "expectations of its own",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Describe the marker, and refuse expectations that nothing could meet."""
    config.addinivalue_line(
        "markers", 'stalewatch(expect="read_your_writes=0"): fail if what the fixture `watch` saw misses these'
    )
    if config.getoption(EXPECT) is not None:
        from stalewatch.reports.expect import parse

        try:
            parse(config.getoption(EXPECT))
        except ValueError as error:
            raise pytest.UsageError(f"{EXPECT}: {error}") from None


@pytest.fixture
def watch(request: pytest.FixtureRequest) -> Iterator["Watch"]:
    """Watch the operations of a test; violations fail it only if it expects otherwise."""
    from stalewatch.watch.watch import Watch

    history = None
    if (folder := request.config.getoption(HISTORY)) is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        history = Path(folder, f"{file_name(request.node.nodeid)}.jsonl")
    with Watch(history, options={"test": request.node.nodeid}) as watched:
        request.node.stash[_watch_of_test] = watched
        yield watched


@pytest.hookimpl(trylast=True)  # after the test itself, and not at all if that failed
def pytest_runtest_call(item: pytest.Item) -> None:
    """End the watch of a test that passed, and fail it if the watch misses what is expected of it."""
    watched = item.stash.get(_watch_of_test, None)
    if watched is None:
        return
    expected = [text for marker in item.iter_markers("stalewatch") if (text := marker.kwargs.get("expect"))]
    overall = item.config.getoption(EXPECT)
    if not expected and overall is not None and not watched.expected:
        expected = [overall]
    if expected:
        watched.close()
        try:
            watched.expect(",".join(expected))
        except AssertionError as missed:
            pytest.fail(str(missed), pytrace=False)  # no line of the test is to blame


def file_name(test: str) -> str:
    """Return a name for a test's file that is valid everywhere, and no other test's."""
    name = re.sub(r"[^\w.-]+", "-", test, flags=re.ASCII)[-MAX_NAME:].strip("-.")
    return name if name == test else f"{name}-{zlib.crc32(test.encode()):08x}"
