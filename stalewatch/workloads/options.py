"""The options of a load, which do not depend on the database."""

from dataclasses import dataclass, replace
from random import SystemRandom
from typing import Self

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import ON_OFF, above_zero, at_most, count, option, share, size, zero_or_more
from stalewatch.workloads import WORKLOADS, workload_names
from stalewatch.workloads.resolution import NONE, STRATEGIES

DEFAULT_OPERATIONS = 5000
DISTRIBUTION_NAMES = ("uniform", "zipfian", "latest")
"""How keys are chosen; `register.DISTRIBUTIONS` has the classes."""

MOST_USERS = 10_000

users = at_most(MOST_USERS, count, "every session is a thread or greenlet of this process")
operations = at_most(1_000_000_000_000, count, "that many take years; use --duration")
duration = at_most(31_536_000, above_zero, "that is a year, in seconds")
rate = at_most(10_000_000, above_zero, "no process gets that far")
keys = at_most(10_000_000, count, "a process keeps all of its keys in memory")
value_size = at_most(16_000_000, size, "databases refuse larger values")


def workload(text: str) -> str:
    """Return the names of workloads, separated by commas; raise ValueError for a bad one."""
    return ",".join(workload_names(text))


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """The amount and kind of load. `operations` and `duration_s` end a run, whichever is reached first."""

    users: int = option("--users", "concurrent sessions, each a simulated user", 20, parse=users)
    operations: int | None = option(
        "--ops",
        f"total operations, including failed ones (default {DEFAULT_OPERATIONS})",
        DEFAULT_OPERATIONS,
        omitted=None,
        parse=operations,
    )
    duration_s: float | None = option(
        "--duration", "seconds to run; without --ops, as many operations as fit", parse=duration
    )
    warmup_s: float = option(
        "--warmup",
        "seconds before latencies and operations count; consistency is checked from the start",
        0.0,
        parse=at_most(31_536_000, zero_or_more, "that is a year, in seconds"),
    )
    rate: float | None = option(
        "--rate", "operations per second, at fixed times (open loop); default: closed loop", parse=rate
    )
    keys: int = option("--keys", "number of keys", 1000, parse=keys)
    write_ratio: float = option("--write-ratio", "fraction of operations that write", 0.3, parse=share)
    reread: float = option("--reread", "fraction of reads of a key that the session wrote recently", 0.3, parse=share)
    value_size: int = option("--value-size", "bytes of padding in a value", 0, parse=value_size)
    distribution: str = option("--distribution", "distribution of keys", "uniform", choices=DISTRIBUTION_NAMES)
    seed: int = option(
        "--seed",
        "seed that makes the choice of keys and operations repeatable (default: random)",
        0,
        omitted=None,
        parse=at_most(2**63 - 1, size, "a history keeps it in 64 bits"),
    )
    workload: str = option(
        "--workload",
        "what sessions do; several names, separated by commas, are mixed: "
        + "; ".join(f"{name}: {spec.help}" for name, spec in WORKLOADS.items()),
        "register",
        parse=workload,
    )
    co_locate: bool = option(
        "--co-locate",
        "whether the causal workload keeps a post and what depends on it in one document: on or off",
        default=False,
        **ON_OFF,
    )
    resolve: str = option("--resolve", "how the conflict workload resolves conflicts", NONE, choices=STRATEGIES)

    def resolved(self) -> Self:
        """Return the options with a limit and a seed; raise `BadAddress` for a contradiction."""
        if self.resolve != NONE and self.workload != "conflict":
            raise BadAddress(f"--resolve {self.resolve} needs --workload conflict, whose documents it merges")
        if self.co_locate and "causal" not in self.workload.split(","):
            raise BadAddress("--co-locate needs --workload causal, whose posts and comments it keeps together")
        unlimited = self.operations is None and self.duration_s is None
        return replace(
            self,
            operations=DEFAULT_OPERATIONS if unlimited else self.operations,
            seed=SystemRandom().randrange(1 << 32) if self.seed is None else self.seed,
        )
