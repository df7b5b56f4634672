"""Users with blocks around operations of their own, on dictionaries of their process; tests choose classes by name."""

import itertools
import time

from locust import TaskSet, User, constant, task

from stalewatch.locust import Watched

STORE: dict[str, int] = {}
LISTS: dict[str, list[str]] = {}
COUNTERS: dict[str, int] = {}


class _Shop(Watched, User):
    """Reads and writes a dictionary, which is correct, through calls that take a millisecond."""

    abstract = True
    wait_time = constant(0.004)

    def create(self, key: str) -> str | None:
        STORE[key] = 0

    def final_read(self, key: str) -> object:
        return STORE[key]

    def load(self, key: str) -> int:
        version = STORE[key]
        time.sleep(0.001)
        return version

    def save(self, key: str, version: int) -> None:
        time.sleep(0.001)
        STORE[key] = version

    @task
    def change(self) -> None:
        key = self.watch.key_to_write()
        with self.watch.write(key) as write:
            self.save(key, write.version)

    @task(2)
    def look(self) -> None:
        key = self.watch.key()
        with self.watch.read(key) as read:
            read.saw(self.load(key), node="dictionary")


class CorrectUser(_Shop):
    """Has a task set, lists and counters, and writes that time out and arrive late."""

    def create_list(self, key: str) -> None:
        LISTS[key] = []

    def create_counter(self, key: str) -> None:
        COUNTERS[key] = 0

    def final_items(self, key: str) -> list[str]:
        return LISTS[key]

    @task
    class Ordering(TaskSet):
        @task
        def order(self) -> None:
            with self.user.watch.append(self.user.watch.list()) as append:
                time.sleep(0.001)
                LISTS[append.key].append(append.item)
            with self.user.watch.draw(self.user.watch.counter()) as draw:
                COUNTERS[draw.key] += 1
                draw.took(COUNTERS[draw.key])
            self.interrupt()

    @task
    def time_out(self) -> None:
        with self.watch.write(self.watch.key_to_write()) as write:
            write.unknown("timeout")


class CachedUser(_Shop):
    """Remembers what it read, and loses every tenth write and item."""

    show_operations = False
    numbers = itertools.count(1)

    def on_start(self) -> None:
        self.cache: dict[str, int] = {}

    def load(self, key: str) -> int:
        return self.cache.setdefault(key, super().load(key))

    def save(self, key: str, version: int) -> None:
        if next(self.numbers) % 10:
            super().save(key, version)

    def final_items(self, key: str) -> list[str]:
        return LISTS.get(key, [])

    @task
    def order(self) -> None:
        with self.watch.append(self.watch.lists[0]) as append:
            if next(self.numbers) % 10:
                LISTS.setdefault(append.key, []).append(append.item)


class WithoutFinalReads(_Shop):
    final_read = None  # type: ignore[assignment] # as if it were not defined


class WriterUser(_Shop):
    tasks = (_Shop.change,)


class NamingUser(_Shop):
    """Is told by the application how its entities are called."""

    def create(self, key: str) -> str:
        STORE[f"id of {key}"] = 0
        return f"id of {key}"

    def remove(self, key: str) -> None:
        print("removed", key, STORE.pop(key))


class SharingUser(_Shop):
    def share(self) -> list[str]:
        return [f"shop {number}" for number in range(7)]

    def remove(self, key: str) -> None:
        raise AssertionError


class _Separate(Watched, User):
    abstract = True
    wait_time = constant(0.01)

    @task
    def look(self) -> None:
        with self.watch.read(self.watch.key()) as read:
            read.saw(0)


class SeparateUser(_Separate):
    share = ("shop 1", "shop 2")


class StoppingUser(_Separate):
    """Its blocks end in exceptions, and in the end of the test."""

    @task(5)
    def fail(self) -> None:
        with self.watch.write(self.watch.key_to_write()):
            raise ConnectionError("refused")

    @task
    def hang(self) -> None:
        with self.watch.write(self.watch.keys[0]):
            time.sleep(0.2)


class ForeignKeyUser(_Separate):
    @task
    def look(self) -> None:
        self.watch.read("mine").__enter__()


class NestedUser(_Separate):
    @task
    class Nest(TaskSet):
        @task
        def look(self) -> None:
            with self.user.watch.write(self.user.watch.keys[0]), self.user.watch.read(self.user.watch.keys[1]):
                pass


class WatchingStartUser(_Separate):
    def on_start(self) -> None:
        self.watch.key()

    def final_read(self, key: str) -> int:
        return 0


class TextFinalReadUser(_Separate):
    def final_read(self, key: str) -> str:
        return "3"

    @task
    def change(self) -> None:
        with self.watch.write(self.watch.key_to_write()):
            pass


class BrokenFinalReadUser(_Separate):
    def final_read(self, key: str) -> int:
        return key.version  # type: ignore[attr-defined,no-any-return] # the mistake

    @task
    def change(self) -> None:
        with self.watch.write(self.watch.key_to_write()):
            pass


class FailingCreateUser(_Separate):
    def create(self, key: str) -> None:
        raise ConnectionError(f"http://admin:secret@localhost/ refused {key[-2:]}")
