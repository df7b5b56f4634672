"""The sequence workload: sessions draw ids from the database's own counters, as an application numbers its orders."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import cast

from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import Answer, Client, ClientSession, Counters, DrawingSession
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads.keys import share_of
from stalewatch.workloads.kinds import Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.recorded import RecordedSession


class NumberingSession(RecordedSession):
    """One simulated user; `step` draws an id from a counter chosen by chance."""

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        counters: Sequence[str],
        options: LoadOptions,
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, opened)
        self._drawing = cast("DrawingSession", self._session)
        self._counters = counters
        self._random = Random(f"{options.seed}/{name}/sequence")

    def step(self, due: int | None = None) -> None:
        """Draw an id; `due` (ns) is when it should have begun, in an open loop."""
        key = self._random.choice(self._counters)
        draw = self._recorder.begin_draw(self.name, key, due)
        self._perform(draw, lambda: self._drawing.draw(key))


class SequenceWorkload:
    """Sessions that draw ids; raises `BadAddress` where a database does not count."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        if not isinstance(client, Counters):
            raise BadAddress(f"--workload sequence needs a database that counts, which {client.database} does not")
        self.keys = share_of(keys, "counter")
        self._client = client
        self._counters: Counters = client
        self._recorder = recorder
        self._options = options

    def preload(self) -> None:
        """Create the counters."""
        self._counters.create_counters(self.keys)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return NumberingSession(name, self._client, self._recorder, self.keys, self._options, opened)

    def start_background(self) -> None:
        """Do nothing: the sessions are all there is."""

    def stop_background(self) -> None:
        """Do nothing."""

    def written_keys(self) -> list[str]:
        """Return none: every id was judged as it was drawn, and how far a counter has come says nothing more."""
        return []

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Return nothing: there is nothing to look at in the end."""
        del key
        return []

    def remove(self) -> None:
        """Delete the counters."""
        self._counters.remove_counters(self.keys)

    def extra_results(self) -> Mapping[str, object]:
        """Return nothing beyond the guarantees."""
        return {}
