"""Which faults are on, as whoever puts them on says."""

from collections.abc import Iterator
from contextlib import contextmanager

from stalewatch.metrics import families
from stalewatch.metrics.meter import Meter, Reading


class Faults:
    """The faults of one process's runs; one that has ended stays as 0, so that a chart shows its end."""

    def __init__(self) -> None:
        self._active: dict[tuple[str, str], bool] = {}

    def begin(self, fault: str, node: str) -> None:
        """Note that a fault, such as ``kill``, is on at a node from now on."""
        self._active[fault, node] = True

    def end(self, fault: str, node: str) -> None:
        """Note that it is over."""
        self._active[fault, node] = False

    @contextmanager
    def on(self, fault: str, node: str) -> Iterator[None]:
        """Show the fault while the block runs."""
        self.begin(fault, node)
        try:
            yield
        finally:
            self.end(fault, node)

    def forget(self) -> None:
        """Begin anew with a new run."""
        self._active = {name: True for name, active in self._active.items() if active}

    def readings(self, meter: Meter) -> Iterator[Reading]:
        """Yield every fault of this run."""
        for (fault, node), active in self._active.items():
            yield meter.reading(families.FAULT_ACTIVE, active, fault, node)
