"""The ledger and sequence workloads: sessions append unique items to lists, or draw ids from the database's counters.

Applications append orders to a ledger and number them from a sequence. No item can stand for another, so missing items
are counted exactly, whereas a register gives only a lower bound; and no id may be drawn twice.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, cast

from stalewatch.clients.protocol import (
    Answer,
    Client,
    ClientSession,
    Counters,
    DrawingSession,
    Ledger,
    LedgerSession,
)
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import WORKLOADS, Perform, Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import RecordedSession, RecordedWorkload, object_keys


class SharedKeysSession(RecordedSession):
    """One simulated user, who operates on random keys that all sessions share."""

    workload: ClassVar[str]

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        keys: Sequence[str],
        options: LoadOptions,
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, opened)
        self._keys = keys
        self._random = Random(f"{options.seed}/{name}/{self.workload}")


class AppendingSession(SharedKeysSession):
    """One simulated user, who appends unique items, ``SESSION-NUMBER``, to random lists."""

    workload = "ledger"
    _session: LedgerSession
    _appended = 0

    def step(self, due: int | None = None) -> None:
        """Append an item to a random list; `due` (ns) is when it should have started, in an open loop."""
        self.append(self._random.choice(self._keys), due)

    def operations(self) -> Mapping[str, Perform]:
        """Return appends."""
        return {"append": lambda key, due: self.append(key or self._random.choice(self._keys), due)}

    def append(self, key: str, due: int | None = None) -> None:
        """Append an item that no other session appends."""
        self._appended += 1
        item = f"{self.name}-{self._appended}"
        append = self._recorder.begin_append(self.name, key, item, due)
        self._perform(append, lambda: self._session.append(key, item))


class LedgerWorkload(RecordedWorkload):
    """Sessions that append to lists, of a client that is a `Ledger`."""

    kinds = WORKLOADS["ledger"].kinds

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        super().__init__(client, recorder, object_keys(keys, "list"), options)
        self._ledger = cast("Ledger", client)

    def preload(self) -> None:
        """Create the lists."""
        self._ledger.create_lists(self.keys)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return AppendingSession(name, self._client, self._recorder, self.keys, self._options, opened)

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Make the final read of a list."""
        return [(key, self._ledger.final_items(key))]

    def remove(self) -> None:
        """Delete the lists."""
        self._ledger.remove_lists(self.keys)


class NumberingSession(SharedKeysSession):
    """One simulated user, who draws ids from random counters."""

    workload = "sequence"
    _session: DrawingSession

    def step(self, due: int | None = None) -> None:
        """Draw an id from a random counter; `due` (ns) is when it should have started, in an open loop."""
        self.draw(self._random.choice(self._keys), due)

    def operations(self) -> Mapping[str, Perform]:
        """Return draws."""
        return {"draw": lambda key, due: self.draw(key or self._random.choice(self._keys), due)}

    def draw(self, key: str, due: int | None = None) -> None:
        """Draw an id from the counter."""
        draw = self._recorder.begin_draw(self.name, key, due)
        self._perform(draw, lambda: self._session.draw(key))


class SequenceWorkload(RecordedWorkload):
    """Sessions that draw ids, of a client that has `Counters`."""

    kinds = WORKLOADS["sequence"].kinds

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        super().__init__(client, recorder, object_keys(keys, "counter"), options)
        self._counters = cast("Counters", client)

    def preload(self) -> None:
        """Create the counters."""
        self._counters.create_counters(self.keys)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return NumberingSession(name, self._client, self._recorder, self.keys, self._options, opened)

    def written_keys(self) -> list[str]:
        """Return no keys: every id is judged when it is drawn, and the final value of a counter adds nothing."""
        return []

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Return nothing: counters need no final read."""
        del key
        return []

    def remove(self) -> None:
        """Delete the counters."""
        self._counters.remove_counters(self.keys)
