"""Who opens a database first: alone, for it may create what is missing; the others follow at once.

Two workers that create the same table at the same moment can leave a Cassandra ring with two of that name, of which one
is dropped with all that was written into it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Turns:
    """The turns of one run, by database: `grant` tells a process that it is its turn."""

    grant: Callable[[str, str], None]
    _opened: set[str] = field(default_factory=set)
    _first: dict[str, str] = field(default_factory=dict)
    _waiting: dict[str, list[str]] = field(default_factory=dict)

    def ask(self, process: str, database: str) -> None:
        """Let a process open the database now, or once the first one has."""
        if database in self._opened:
            self.grant(process, database)
        elif database in self._first:
            self._waiting.setdefault(database, []).append(process)
        else:
            self._first[database] = process
            self.grant(process, database)

    def end(self, process: str, database: str, *, opened: bool) -> None:
        """Take note that a process has opened the database, or could not: then it is the next one's turn."""
        if opened and database not in self._opened:
            self._opened.add(database)
            for other in self._waiting.pop(database, []):
                self.grant(other, database)
        elif self._first.get(database) == process:
            self._next(database)

    def lose(self, process: str) -> None:
        """Take note that a process is gone."""
        for database, first in list(self._first.items()):
            if first == process and database not in self._opened:
                self._next(database)

    def _next(self, database: str) -> None:
        del self._first[database]
        waiting = self._waiting.get(database)
        if waiting:
            self.ask(waiting.pop(0), database)
