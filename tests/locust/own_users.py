"""Users with tasks of their own, on a simulated store; tests choose classes by name."""

import time

from locust import TaskSet, User, constant, task

from stalewatch.locust import DatabaseUser


class _OwnUser(DatabaseUser):
    abstract = True
    database = "memory"


class WeightedUser(_OwnUser):
    workload = "register,ledger,sequence"

    @task(6)
    def look(self) -> None:
        self.read()

    @task(2)
    def save(self) -> None:
        self.write()

    @task
    def order(self) -> None:
        self.append()

    @task
    def number(self) -> None:
        self.draw()


class OneKeyUser(_OwnUser):
    workload = "register,ledger,sequence"

    @task
    def use_first_key(self) -> None:
        self.write(self.keys("write")[0])
        self.read(self.keys("read")[0])
        self.append(self.keys("append")[0])
        self.draw(self.keys("draw")[0])


class WithSuperUser(_OwnUser):
    workload = "ledger"

    def on_start(self) -> None:
        super().on_start()
        self.name = "with super"

    @task
    def order(self) -> None:
        assert self.name == "with super"
        self.append()


class WithoutSuperUser(_OwnUser):
    workload = "sequence"

    def on_start(self) -> None:
        self.name = "without super"

    @task
    def number(self) -> None:
        assert self.name == "without super"
        self.draw()


class StartingUser(_OwnUser):
    """Performs its first operation in on_start."""

    def on_start(self) -> None:
        self.write()

    @task
    def look(self) -> None:
        self.read()


class WaitingUser(_OwnUser):
    wait_time = constant(1)

    @task
    def work(self) -> None:
        self.step()


class OtherUser(User):
    """Has nothing to do with a database."""

    fixed_count = 2

    @task
    def work(self) -> None:
        time.sleep(0.1)


class PausingUser(_OwnUser):
    """Has a pause that `--rate` does not replace."""

    @task
    class Pausing(TaskSet):
        wait_time = constant(2)

        @task
        def work(self) -> None:
            self.user.step()


class PairUser(_OwnUser):
    @task
    def save_and_look(self) -> None:
        self.write()
        self.wait()
        self.read()


class WrongWorkloadUser(_OwnUser):
    @task
    def order(self) -> None:
        self.append()


class WrongKeyUser(_OwnUser):
    @task
    def look(self) -> None:
        self.read("mine")
