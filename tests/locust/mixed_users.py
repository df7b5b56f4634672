"""Users of a simulated store with three different workloads."""

from locust import task

from stalewatch.locust import DatabaseUser


class _MixedUser(DatabaseUser):
    abstract = True
    database = "memory"

    @task
    def work(self) -> None:
        self.step()


class RegisterUser(_MixedUser):
    """Has the workload of `--workload`."""


class LedgerUser(_MixedUser):
    workload = "ledger"


class SequenceUser(_MixedUser):
    workload = "sequence"
