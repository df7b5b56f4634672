"""Simulated stores for tests, and the interval in which a measured rate must lie."""

from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock


def opened(options: MemoryOptions) -> MemoryClient:
    client = MemoryClient(options, SimulatedClock())
    client.prepare()
    return client


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval of a rate."""
    z, rate = 1.96, hits / trials
    middle, width = rate + z * z / 2 / trials, z * (rate * (1 - rate) / trials + (z / 2 / trials) ** 2) ** 0.5
    scale = 1 + z * z / trials
    return (middle - width) / scale, (middle + width) / scale
