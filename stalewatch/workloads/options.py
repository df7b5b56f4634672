"""What can be chosen about the load, whatever the database."""

from dataclasses import dataclass
from random import SystemRandom
from typing import cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, chosen
from stalewatch.workloads import kinds
from stalewatch.workloads.keys import DISTRIBUTIONS
from stalewatch.workloads.merges import NONE, STRATEGIES

DEFAULT_OPERATIONS = 5000
MOST_USERS = 10_000


def share(text: str) -> float:
    """Return a share; raise ValueError unless it is a number from 0 to 1."""
    value = _number(text)
    if not 0 <= value <= 1:
        raise ValueError("must be a share from 0 to 1")
    return value


def count(text: str) -> int:
    """Return a count; raise ValueError unless it is a whole number from 1 on."""
    value = _whole(text)
    if value < 1:
        raise ValueError("must be a whole number from 1 on")
    return value


def users(text: str) -> int:
    """Return a number of sessions; raise ValueError unless one process can hold them."""
    value = count(text)
    if value > MOST_USERS:
        raise ValueError(f"must be {MOST_USERS} at most: every session is a thread or greenlet of this process")
    return value


def port(text: str) -> int:
    """Return a port; raise ValueError unless it is one that can be listened on."""
    value = _whole(text)
    if value not in range(1, 65536):
        raise ValueError("must be a port from 1 to 65535")
    return value


def size(text: str) -> int:
    """Return a size; raise ValueError unless it is a whole number from 0 on."""
    value = _whole(text)
    if value < 0:
        raise ValueError("must be a whole number from 0 on")
    return value


def workload(text: str) -> str:
    """Return the names of workloads with commas between them; raise ValueError where they are none."""
    return ",".join(kinds.names(text))


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("must be a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("must be a number") from None


def positive(text: str) -> float:
    """Return a number; raise ValueError unless it is finite and above 0."""
    value = _number(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be a number above 0")
    return value


def seconds(text: str) -> float:
    """Return a time in seconds; raise ValueError unless it is finite and not negative."""
    value = _number(text)
    if not 0 <= value < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return value


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How much load, of what kind. `operations` and `duration_s` end a run, whichever comes first."""

    users: int = 20
    operations: int | None = DEFAULT_OPERATIONS
    duration_s: float | None = None
    warmup_s: float = 0.0
    rate: float | None = None
    """Operations a second of all sessions together, due at fixed times (open loop); None: as fast as answers come."""

    keys: int = 1000
    write_ratio: float = 0.3
    reread: float = 0.3
    """Share of the reads that go back to a key which the session wrote lately."""

    value_size: int = 0
    distribution: str = "uniform"
    seed: int = 0
    workload: str = "register"
    """One name, or a mix: several with commas between them."""

    resolve: str = NONE
    """How the conflict workload resolves conflicts."""


OPTIONS: tuple[Option, ...] = (
    Option("--users", "sessions at a time, each a simulated user", default=20, parse=users),
    Option(
        "--ops", f"operations of all sessions together, failed ones too (default {DEFAULT_OPERATIONS})", parse=count
    ),
    Option("--duration", "seconds to run; without --ops as many operations as come", parse=positive),
    Option(
        "--warmup", "seconds before latencies and operations count; checks begin at once", default=0.0, parse=seconds
    ),
    Option("--rate", "operations a second, due at fixed times (open loop); default: closed loop", parse=positive),
    Option("--keys", "keys to spread the load over", default=1000, parse=count),
    Option("--write-ratio", "share of writes", default=0.3, parse=share),
    Option("--reread", "share of reads of a key that the session wrote lately", default=0.3, parse=share),
    Option("--value-size", "bytes of padding in a value", default=0, parse=size),
    Option("--distribution", "how keys are chosen", default="uniform", choices=tuple(DISTRIBUTIONS)),
    Option("--seed", "makes the choice of keys and operations repeatable (default: by chance)", parse=size),
)


WORKLOAD_OPTIONS: tuple[Option, ...] = (
    Option(
        "--workload",
        "what sessions do, or a mix of several, with commas between: "
        + "; ".join(f"{name}: {kind.help}" for name, kind in kinds.WORKLOADS.items()),
        default="register",
        parse=workload,
    ),
    Option("--resolve", "how the conflict workload resolves conflicts", default=NONE, choices=STRATEGIES),
)
"""Beside the others, since not every front end runs every workload."""


def options_from(namespace: object) -> LoadOptions:
    """Build the options from parsed arguments; raises `BadAddress` for a value that makes no sense."""
    values = chosen((*OPTIONS, *WORKLOAD_OPTIONS), namespace)
    if values["resolve"] != NONE and values["workload"] != "conflict":
        raise BadAddress(f"--resolve {values['resolve']}: needs --workload conflict, whose documents it merges")
    operations, duration_s = cast("int | None", values["ops"]), cast("float | None", values["duration"])
    if operations is None and duration_s is None:
        operations = DEFAULT_OPERATIONS
    seed = values["seed"]
    return LoadOptions(
        users=cast("int", values["users"]),
        operations=operations,
        duration_s=duration_s,
        warmup_s=cast("float", values["warmup"]),
        rate=cast("float | None", values["rate"]),
        keys=cast("int", values["keys"]),
        write_ratio=cast("float", values["write_ratio"]),
        reread=cast("float", values["reread"]),
        value_size=cast("int", values["value_size"]),
        distribution=str(values["distribution"]),
        workload=str(values["workload"]),
        resolve=str(values["resolve"]),
        seed=SystemRandom().randrange(1 << 32) if seed is None else cast("int", seed),
    )
