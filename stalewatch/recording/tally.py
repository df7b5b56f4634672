"""What a recorder found, taken bit by bit by whoever wants to see it, and kept whole for the report or the result."""

from collections.abc import Callable

from stalewatch.checkers.verdict import Findings
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.statistics import Statistics

Watcher = Callable[[Findings, Statistics], None]


class Tally:
    """Takes from a recorder, shows each bit to the watchers, and keeps the sum until it is handed over."""

    def __init__(self, recorder: Recorder, cannot_write: Callable[[OSError], None] | None = None) -> None:
        """Take from that recorder; `cannot_write` is told, once, where its history cannot be written any more."""
        self._cannot_write = cannot_write
        self.watchers: list[Watcher] = []
        self._recorder = recorder
        self._findings, self._statistics = Findings(), Statistics()

    def gather(self) -> None:
        """Be up to date: judge what was recorded so far, and show it."""
        findings, statistics = self._taken()
        for watch in self.watchers:
            watch(findings, statistics)
        self._findings.merge(findings)
        self._statistics.merge(statistics)

    def _taken(self) -> tuple[Findings, Statistics]:
        try:
            return self._recorder.take()
        except OSError as error:  # it fails once; nothing is lost but the rest of the file
            if self._cannot_write is None:
                raise
            self._cannot_write(error)
            return self._recorder.take()

    def take(self) -> tuple[Findings, Statistics]:
        """Hand over what was found and counted since the last time."""
        self.gather()
        taken = self._findings, self._statistics
        self._findings, self._statistics = Findings(), Statistics()
        return taken
