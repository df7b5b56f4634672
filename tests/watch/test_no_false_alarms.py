"""A correct store that overwrites is never accused, however late its unknown writes arrive; a broken one always is."""

import asyncio
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import gevent
import pytest

import stalewatch
from stalewatch.watch.session import WatchedSession

KEYS = [f"k{number}" for number in range(20)]
PATIENCE_S = 300.0

Pause = Callable[[], None]


class Dictionary:
    """A store that overwrites. A write whose outcome nobody knows is applied at any later time, or never."""

    def __init__(self, seed: int, pause: Pause) -> None:
        self.values: dict[str, int] = {}
        self.random = random.Random(seed)
        self.pause = pause
        self.late: list[tuple[str, int]] = []
        self.lock = threading.Lock()

    def read(self, key: str) -> int:
        self.apply_late(0.05)
        self.pause()
        value = self.values.get(key, 0)
        self.pause()
        return value

    def write(self, key: str, version: int) -> None:
        self.apply_late(0.05)
        self.pause()
        luck = self.random.random()
        if luck < 0.05:
            raise TimeoutError("never applied")
        if luck < 0.15:
            self.late.append((key, version))
            raise TimeoutError("applied later")
        self.apply(key, version)
        self.pause()
        if luck < 0.2:
            raise TimeoutError("applied before")

    def apply(self, key: str, version: int) -> None:
        self.values[key] = version

    def apply_late(self, share: float) -> None:
        with self.lock:
            if self.late and self.random.random() < share:
                key, version = self.late.pop(self.random.randrange(len(self.late)))
                self.values[key] = version


class StaleCache(Dictionary):
    """Reads come from a cache that is filled now and then."""

    def __init__(self, seed: int, pause: Pause) -> None:
        super().__init__(seed, pause)
        self.cache: dict[str, int] = {}

    def read(self, key: str) -> int:
        if key not in self.cache or self.random.random() < 0.5:
            self.cache[key] = super().read(key)
        return self.cache[key]


class LostWrites(Dictionary):
    """Some acknowledged writes are dropped."""

    def apply(self, key: str, version: int) -> None:
        if self.random.random() < 0.98:
            super().apply(key, version)


class ResurrectedValues(Dictionary):
    """An old acknowledged value comes back now and then, as from a replica that was restored."""

    def __init__(self, seed: int, pause: Pause) -> None:
        super().__init__(seed, pause)
        self.old: dict[str, list[int]] = defaultdict(list)

    def apply(self, key: str, version: int) -> None:
        self.old[key].append(version)
        self.values[key] = self.random.choice(self.old[key]) if self.random.random() < 0.02 else version


class ReorderedWrites(Dictionary):
    """Some acknowledged writes are applied after newer ones."""

    def apply(self, key: str, version: int) -> None:
        if self.random.random() < 0.02:
            self.late.append((key, version))
        else:
            super().apply(key, version)


def step(session: WatchedSession, store: Dictionary) -> None:
    key = store.random.choice(KEYS)
    if store.random.random() < 0.6:
        with session.read(key) as read:
            read.saw(store.read(key))
        return
    try:
        with session.write(key) as write:
            if store.random.random() < 0.02:
                write.fail("refused")
            else:
                store.write(key, write.version)
    except TimeoutError:
        pass


def finish(watch: stalewatch.Watch, store: Dictionary) -> None:
    """Make the final reads, with some of the late writes still to come."""
    for _ in range(len(store.late) // 2):
        store.apply_late(1)
    for key in watch.keys:
        with watch.final_read(key) as final:
            final.saw(store.values.get(key, 0))
    watch.close()


def in_greenlets(watch: stalewatch.Watch, store: Dictionary, operations: int, workers: int = 50) -> None:
    def work(name: str) -> None:
        session = watch.session(name)
        for _ in range(operations // workers):
            step(session, store)

    greenlets = [gevent.spawn(work, f"s{number}") for number in range(workers)]
    gevent.joinall(greenlets, timeout=PATIENCE_S * 20, raise_error=True)
    finish(watch, store)


def sometimes(pause: Pause, share: float) -> Pause:
    dice = random.Random(1)
    return lambda: pause() if dice.random() < share else None


def switch() -> None:
    gevent.sleep(0)


def assert_spotless(watch: stalewatch.Watch) -> None:
    result = watch.result
    assert {name: row["violated"] for name, row in result["guarantees"].items() if row["violated"]} == {}
    assert result["verdict"] == "valid"
    for name in ("stale_reads", "read_your_writes", "monotonic_reads", "read_regressions", "lost_writes"):
        assert result["guarantees"][name]["checked"] > 0, name


@pytest.mark.parametrize(
    "operations", [20_000, pytest.param(1_000_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_a_correct_store_is_never_accused_by_greenlets(tmp_path: Path, operations: int) -> None:
    with stalewatch.Watch(tmp_path / "run.jsonl") as watch:
        in_greenlets(watch, Dictionary(1, sometimes(switch, 0.3)), operations)
    assert_spotless(watch)
    assert sum(sum(row.values()) for row in watch.result["operations"].values()) == operations
    checked = stalewatch.check(tmp_path / "run.jsonl")
    assert {name: watch.result[name] for name in checked} == checked


def test_a_correct_store_is_never_accused_by_threads() -> None:
    store = Dictionary(2, sometimes(lambda: time.sleep(0), 0.1))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with stalewatch.Watch() as watch:

            def work(name: str) -> None:
                for _ in range(2_000):
                    step(watch.session(name), store)

            threads = [threading.Thread(target=work, args=(f"s{number}",), daemon=True) for number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
            finish(watch, store)
    finally:
        sys.setswitchinterval(before)
    assert_spotless(watch)
    assert watch.result["operations"]["write"]["ok"] > 4_000


def test_a_correct_store_is_never_accused_by_tasks() -> None:
    store = Dictionary(3, lambda: None)

    async def work(session: WatchedSession) -> None:
        for _ in range(200):
            key = store.random.choice(KEYS)
            async with session.read(key) as read:
                await asyncio.sleep(0)
                read.saw(store.read(key))
                await asyncio.sleep(0)
            try:
                async with session.write(key) as write:
                    await asyncio.sleep(0)
                    store.write(key, write.version)
                    await asyncio.sleep(0)
            except TimeoutError:
                pass

    async def main() -> None:
        await asyncio.gather(*(work(watch.session(f"s{number}")) for number in range(30)))

    with stalewatch.Watch() as watch:
        asyncio.run(main())
        finish(watch, store)
    assert_spotless(watch)


@pytest.mark.parametrize("broken", [StaleCache, LostWrites, ResurrectedValues, ReorderedWrites])
def test_every_broken_store_is_found_out(broken: type[Dictionary], tmp_path: Path) -> None:
    with stalewatch.Watch(tmp_path / "run.jsonl") as watch:
        in_greenlets(watch, broken(4, sometimes(switch, 0.3)), 10_000)
    guarantees = watch.result["guarantees"]
    assert watch.verdict == "invalid"
    assert guarantees["stale_reads"]["violated"] > 10
    assert guarantees["phantom_reads"]["violated"] == 0
    with pytest.raises(AssertionError, match=r"s[0-9]+ wrote"):
        watch.expect("stale_reads=0")
    checked = stalewatch.check(tmp_path / "run.jsonl")
    assert {name: watch.result[name] for name in checked} == checked
