"""Writers of one key wait for each other: threads, greenlets and tasks alike, and never for themselves."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import gevent
import gevent.event
import pytest

import stalewatch
from stalewatch.history.operation import Write
from stalewatch.watch import turns
from tests.engine.running import NotingJudge

PATIENCE_S = 120.0


@pytest.fixture(name="watch")
def _watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[stalewatch.Watch]:
    monkeypatch.setattr("stalewatch.watch.watch.Judge", NotingJudge)
    with stalewatch.Watch() as watch:
        yield watch


def writes(watch: stalewatch.Watch) -> list[Write]:
    with watch.recorder.settled():
        given = watch.recorder.judge.given  # type: ignore[attr-defined] # it is a NotingJudge
        return [one for one in given if isinstance(one, Write)]


def assert_in_turn(watch: stalewatch.Watch, count: int) -> None:
    """Fail unless there are so many writes, none started before the one before it had ended, and no turn is left."""
    found = writes(watch)
    assert [one.version for one in found] == list(range(1, count + 1))
    assert all(one.end is not None and one.end <= following.start for one, following in pairwise(found))
    assert watch.turns is not None
    assert (watch.turns._holders, watch.turns._queues, watch.turns._waits) == ({}, {}, {})


def in_threads(*work: Callable[[], None]) -> None:
    crashes: list[BaseException] = []

    def guarded(function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 # raised again below
            crashes.append(error)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "a deadlock"
    if crashes:
        raise crashes[0]


def test_threads_write_a_key_in_turn(watch: stalewatch.Watch) -> None:
    def work(name: str) -> Callable[[], None]:
        session = watch.session(name)

        def write() -> None:
            for _ in range(50):
                with session.write("k"):
                    threading.Event().wait(0.0001)

        return write

    in_threads(*(work(f"s{number}") for number in range(8)))
    assert_in_turn(watch, 400)


def test_greenlets_of_one_thread_write_a_key_in_turn(watch: stalewatch.Watch) -> None:
    """No monkey patching here: a greenlet that waited for a lock of threads would stop the one that holds it."""

    def write(name: str) -> None:
        for _ in range(20):
            with watch.session(name).write("k"):
                gevent.sleep(0)

    greenlets = [gevent.spawn(write, f"s{number}") for number in range(8)]
    gevent.joinall(greenlets, timeout=PATIENCE_S, raise_error=True)
    assert_in_turn(watch, 160)


def test_a_killed_greenlet_leaves_no_turn_behind(watch: stalewatch.Watch) -> None:
    inside = {name: gevent.event.Event() for name in ("holding", "waiting", "following")}

    def write(name: str) -> None:
        with watch.session(name).write("k"):
            inside[name].set()
            gevent.sleep(PATIENCE_S)

    holding, waiting, following = (gevent.spawn(write, name) for name in inside)
    assert inside["holding"].wait(PATIENCE_S)
    waiting.kill()
    holding.kill()
    assert inside["following"].wait(PATIENCE_S)
    following.kill()
    assert_in_turn(watch, 2)
    assert {one.outcome for one in writes(watch)} == {"unknown"}


def test_tasks_write_a_key_in_turn_while_the_event_loop_runs(watch: stalewatch.Watch) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def write(name: str) -> None:
        for _ in range(20):
            async with watch.session(name).write("k"):
                await asyncio.sleep(0)

    async def main() -> None:
        ticking = asyncio.create_task(tick())
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(write(f"s{number}") for number in range(8)))
        ticking.cancel()

    asyncio.run(main())
    assert ticks > 160
    assert_in_turn(watch, 160)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_cancelled_task_does_not_keep_the_turn(watch: stalewatch.Watch, *, handed_over: bool) -> None:
    async def write(name: str) -> str:
        async with watch.session(name).write("k"):
            return name

    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            async with watch.session("holding").write("k"):
                waiting, following = (asyncio.create_task(write(name)) for name in ("waiting", "following"))
                await asyncio.sleep(0)
                if not handed_over:
                    waiting.cancel()
                    await asyncio.sleep(0)
            waiting.cancel()  # the turn is its own by now, although it has not run since
            assert await following == "following"
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
    assert_in_turn(watch, 2)


def test_a_thread_waits_for_a_task_and_a_task_for_a_thread(watch: stalewatch.Watch) -> None:
    both = threading.Barrier(2)

    async def write() -> None:
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(100):
                async with watch.session("task").write("k"):
                    await asyncio.sleep(0)

    def tasks() -> None:
        both.wait()
        asyncio.run(write())

    def thread() -> None:
        both.wait()
        for _ in range(100):
            with watch.session("thread").write("k"):
                pass

    in_threads(tasks, thread)
    assert_in_turn(watch, 200)


def test_the_turn_passes_over_tasks_whose_loop_is_closed(watch: stalewatch.Watch) -> None:
    async def wait() -> None:
        async with watch.session("abandoned").write("k"):
            pass

    loop = asyncio.new_event_loop()
    with watch.session("holding").write("k"):
        task = loop.create_task(wait())
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    with watch.session("following").write("k"):
        pass
    assert len(writes(watch)) == 2
    task._log_destroy_pending = False  # type: ignore[attr-defined] # it is left pending on purpose


def test_waiting_in_an_event_loop_needs_async_with(watch: stalewatch.Watch) -> None:
    async def main() -> None:
        async def hold() -> None:
            with watch.session("holding").write("k"):
                await asyncio.sleep(0)

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        with pytest.raises(stalewatch.Misuse, match="use `async with` in asyncio"), watch.session("alice").write("k"):
            pass
        await holding

    asyncio.run(main())
    assert_in_turn(watch, 1)


def test_a_task_does_not_wait_for_itself(watch: stalewatch.Watch) -> None:
    async def main() -> None:
        for outer in (watch.session("alice").write("k"), watch.session("alice").write("k")):
            with outer, pytest.raises(stalewatch.Misuse, match="would wait forever"):
                async with watch.session("bob").write("k"):
                    pass

    asyncio.run(main())
    assert_in_turn(watch, 2)


def test_of_two_threads_that_want_each_others_key_one_is_refused(watch: stalewatch.Watch) -> None:
    both = threading.Barrier(2)
    refused: list[str] = []

    def work(name: str, first: str, second: str) -> Callable[[], None]:
        def write() -> None:
            with watch.session(name).write(first):
                both.wait()
                try:
                    with watch.session(f"{name}'s other").write(second):
                        pass
                except stalewatch.Misuse as error:
                    refused.append(str(error))

        return write

    in_threads(work("alice", "a", "b"), work("bob", "b", "a"))
    assert len(refused) == 1
    assert "would wait forever for its turn to write key" in refused[0]


def test_a_long_wait_is_explained(watch: stalewatch.Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.01)
    held, warned = threading.Event(), threading.Event()
    monkeypatch.setattr(watch.warnings, "warn", lambda _kind, message: (messages.append(message), warned.set()))
    messages: list[str] = []

    def hold() -> None:
        with watch.session("alice").write("k"):
            held.set()
            assert warned.wait(PATIENCE_S)

    def wait() -> None:
        assert held.wait(PATIENCE_S)
        with watch.session("bob").write("k"):
            pass

    in_threads(hold, wait)
    assert "session 'bob' has waited" in messages[0]
    assert "key 'k', which session 'alice' is writing" in messages[0]
    assert_in_turn(watch, 2)


def test_patched_threads_write_a_key_in_turn() -> None:
    code = """
from gevent import monkey; monkey.patch_all()
import threading, time, stalewatch
watch = stalewatch.Watch()
def write(name):
    for _ in range(20):
        with watch.session(name).write("k"):
            time.sleep(0)
threads = [threading.Thread(target=write, args=(f"s{number}",)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join(20)
print(watch.recorder.newest_version("k"), watch.turns._holders, watch.turns._queues)
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "160 {} {}\n"
