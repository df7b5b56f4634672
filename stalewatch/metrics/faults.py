"""Active faults, as reported by the injector."""

from collections.abc import Iterator
from contextlib import contextmanager

from stalewatch.metrics import families
from stalewatch.metrics.meter import Meter, Reading


class Faults:
    """The faults of one process's runs; one that has ended is shown as 0, so that charts show its end."""

    def __init__(self) -> None:
        self._active: dict[tuple[str, str], bool] = {}

    def begin(self, fault: str, node: str) -> None:
        """Show a fault, such as ``kill``, as active on a node."""
        self._active[fault, node] = True

    def end(self, fault: str, node: str) -> None:
        """Show a fault as over."""
        self._active[fault, node] = False

    @contextmanager
    def on(self, fault: str, node: str) -> Iterator[None]:
        """Show a fault as active while the block runs."""
        self.begin(fault, node)
        try:
            yield
        finally:
            self.end(fault, node)

    def forget(self) -> None:
        """Drop the faults that have ended, for a new run."""
        self._active = {name: True for name, active in self._active.items() if active}

    def readings(self, meter: Meter) -> Iterator[Reading]:
        """Yield every fault, with the labels of the meter's run."""
        for (fault, node), active in self._active.items():
            yield meter.reading(families.FAULT_ACTIVE, active, fault, node)
