"""The ledger workload: sessions append unique items to lists, as orders are appended to a book.

No item can stand for another, so what is missing in the end is counted exactly; a register only gives a lower bound.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import Answer, Client, ClientSession, Ledger, LedgerSession
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads.keys import share_of
from stalewatch.workloads.kinds import Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.recorded import RecordedSession


class AppendingSession(RecordedSession):
    """One simulated user; `step` appends its next item, ``SESSION-NUMBER``, to a list chosen by chance."""

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        lists: Sequence[str],
        options: LoadOptions,
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, opened)
        self._ledger = cast("LedgerSession", self._session)
        self._lists = lists
        self._random = Random(f"{options.seed}/{name}/ledger")
        self._appended = 0

    def step(self, due: int | None = None) -> None:
        """Append an item that nobody else appends; `due` (ns) is when it should have begun, in an open loop."""
        self._appended += 1
        key, item = self._random.choice(self._lists), f"{self.name}-{self._appended}"
        append = self._recorder.begin_append(self.name, key, item, due)
        self._perform(append, lambda: self._ledger.append(key, item))


class LedgerWorkload:
    """Sessions that append to lists; raises `BadAddress` where a database keeps none."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        if not isinstance(client, Ledger):
            raise BadAddress(f"--workload ledger needs a database that keeps lists, which {client.database} does not")
        self.keys = share_of(keys, "list")
        self._client = client
        self._ledger: Ledger = client
        self._recorder = recorder
        self._options = options

    def preload(self) -> None:
        """Create the lists."""
        self._ledger.create_lists(self.keys)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return AppendingSession(name, self._client, self._recorder, self.keys, self._options, opened)

    def start_background(self) -> None:
        """Do nothing: the sessions are all there is."""

    def stop_background(self) -> None:
        """Do nothing."""

    def written_keys(self) -> list[str]:
        """Return the lists with an acknowledged item."""
        lists = frozenset(self.keys)
        return [key for key in self._recorder.written_keys() if key in lists]

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read the list finally."""
        return [(key, self._ledger.final_items(key))]

    def remove(self) -> None:
        """Delete the lists."""
        self._ledger.remove_lists(self.keys)

    def extra_results(self) -> Mapping[str, object]:
        """Return nothing beyond the guarantees."""
        return {}
