"""Users of a simulated store of three kinds side by side."""

from locust import task

from stalewatch.locust import DatabaseUser


class _MixedUser(DatabaseUser):
    abstract = True
    database = "memory"

    @task
    def work(self) -> None:
        self.step()


class RegisterUser(_MixedUser):
    """Does what `--workload` says: one thing or several."""


class LedgerUser(_MixedUser):
    workload = "ledger"


class SequenceUser(_MixedUser):
    workload = "sequence"
