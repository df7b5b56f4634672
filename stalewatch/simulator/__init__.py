"""A simulated replicated store with a known truth: the database `memory`, which needs no server."""

from dataclasses import replace
from typing import Any

from stalewatch.clients.protocol import Client, Database
from stalewatch.history.clock import Clock
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock


def _open(options: Any, _users: int, seed: int, clock: Clock) -> Client:  # noqa: ANN401 # this database's own options
    from stalewatch.simulator.client import MemoryClient  # noqa: PLC0415

    return MemoryClient(replace(options, seed=seed), clock)


DATABASE = Database(
    name="memory",
    label="simulator",
    help="a simulated store with a known truth, in simulated time",
    options=MemoryOptions,
    open=_open,
    clock=SimulatedClock,
    connections_per_user=lambda _options: 0,
)
