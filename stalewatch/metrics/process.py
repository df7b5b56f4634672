"""What one process did of a run on one database, as its metrics show it: up to date at every scrape."""

from collections.abc import Callable, Iterator, Mapping

from stalewatch.metrics import families
from stalewatch.metrics.by_key import ByKey
from stalewatch.metrics.meter import Counted, Found, Meter, Reading


class ProcessMetrics:
    """`gather` brings it up to date; `sessions` says how many there are."""

    def __init__(self, run: str, database: str, gather: Callable[[], None], sessions: Callable[[], int]) -> None:
        self.meter = Meter(run, database)
        self.by_key = ByKey()
        """Wants to hear every operation, in the order of their end."""
        self._gathers = [gather]
        self.sessions = sessions

    def join(self, gather: Callable[[], None]) -> None:
        """Take what another workload on the same database finds too; it is brought up to date by that."""
        self._gathers.append(gather)

    def gather(self) -> None:
        """Be up to date."""
        for gather in self._gathers:
            gather()

    def watch(self, verdicts: Mapping[str, Found], counted: Counted) -> None:
        """Take a piece of what was found and counted."""
        self.meter.add(verdicts, counted)

    def readings(self) -> Iterator[Reading]:
        """Yield every series."""
        self.gather()
        yield from self.meter.readings()
        yield from self.by_key.readings(self.meter)
        yield self.meter.reading(families.SESSIONS, self.sessions())
