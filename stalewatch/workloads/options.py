"""What can be chosen about the load, whatever the database."""

from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Self

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import count, option, positive, seconds, share, size
from stalewatch.workloads import kinds
from stalewatch.workloads.keys import DISTRIBUTIONS
from stalewatch.workloads.merges import NONE, STRATEGIES

DEFAULT_OPERATIONS = 5000
MOST_USERS = 10_000


def users(text: str) -> int:
    """Return a number of sessions; raise ValueError unless one process can hold them."""
    value = count(text)
    if value > MOST_USERS:
        raise ValueError(f"must be {MOST_USERS} at most: every session is a thread or greenlet of this process")
    return value


def workload(text: str) -> str:
    """Return the names of workloads with commas between them; raise ValueError where they are none."""
    return ",".join(kinds.names(text))


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How much load, and of which kind. `operations` and `duration_s` end a run, whichever comes first."""

    users: int = option("--users", "sessions at a time, each a simulated user", 20, parse=users)
    operations: int | None = option(
        "--ops",
        f"total operations, including failed ones (default {DEFAULT_OPERATIONS})",
        DEFAULT_OPERATIONS,
        omitted=None,
        parse=count,
    )
    duration_s: float | None = option(
        "--duration", "seconds to run; without --ops, as many operations as fit", parse=positive
    )
    warmup_s: float = option(
        "--warmup",
        "seconds before latencies and operations count; checks start at once",
        0.0,
        parse=seconds,
    )
    rate: float | None = option(
        "--rate", "operations per second, at fixed times (open loop); default: closed loop", parse=positive
    )
    keys: int = option("--keys", "keys to spread the load over", 1000, parse=count)
    write_ratio: float = option("--write-ratio", "share of writes", 0.3, parse=share)
    reread: float = option(
        "--reread", "share of reads that go to a key which the session wrote recently", 0.3, parse=share
    )
    value_size: int = option("--value-size", "bytes of padding in a value", 0, parse=size)
    distribution: str = option("--distribution", "how keys are chosen", "uniform", choices=tuple(DISTRIBUTIONS))
    seed: int = option(
        "--seed", "makes the choice of keys and operations repeatable (default: random)", 0, omitted=None, parse=size
    )
    workload: str = option(
        "--workload",
        "what sessions do; several names, separated by commas, are mixed: "
        + "; ".join(f"{name}: {kind.help}" for name, kind in kinds.WORKLOADS.items()),
        "register",
        parse=workload,
    )
    resolve: str = option("--resolve", "how the conflict workload resolves conflicts", NONE, choices=STRATEGIES)

    def resolved(self) -> Self:
        """Return the options with a limit and a seed, if nobody chose one; raise `BadAddress` for a contradiction."""
        if self.resolve != NONE and self.workload != "conflict":
            raise BadAddress(f"--resolve {self.resolve}: needs --workload conflict, whose documents it merges")
        unlimited = self.operations is None and self.duration_s is None
        return replace(
            self,
            operations=DEFAULT_OPERATIONS if unlimited else self.operations,
            seed=SystemRandom().randrange(1 << 32) if self.seed is None else self.seed,
        )
