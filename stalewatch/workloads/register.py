"""The register workload: a session reads and writes keys, and often goes back to what it wrote."""

from collections import deque
from collections.abc import Mapping, Sequence
from math import log2
from random import Random

from stalewatch.clients.protocol import Answer, Client, ClientSession, Value
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads.keys import DISTRIBUTIONS, KeyChoice
from stalewatch.workloads.kinds import Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.recorded import INTERRUPTED, RecordedSession

OWN_KEYS = 8
"""How many of the keys that it wrote last a session goes back to: mostly the last one, as a person looks at what they
have just saved, the one before half as often, and so on."""


class RegisterSession(RecordedSession):
    """One simulated user; `step` does its next operation."""

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        keys: KeyChoice,
        options: LoadOptions,
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, opened)
        self._now = recorder.clock.now
        self._keys = keys
        self._write_ratio = options.write_ratio
        self._reread = options.reread
        self._random = Random(f"{options.seed}/{name}")
        self._payload = payload(options)
        self._own: deque[str] = deque(maxlen=OWN_KEYS)

    def step(self, due: int | None = None) -> None:
        """Do one operation; `due` (ns) is when it should have started, in an open loop."""
        random = self._random
        if random.random() < self._write_ratio:
            self.write(self._keys.choose_to_write(random), due)
        elif self._own and random.random() < self._reread:
            self.read(self._lately(), due)
        else:
            self.read(self._keys.choose(random), due)

    def _lately(self) -> str:
        """Return a key that the session wrote lately."""
        own = self._own
        steps_back = min(int(-log2(1 - self._random.random())), len(own) - 1)
        return own[-1 - steps_back]

    def write(self, key: str, due: int | None = None) -> None:
        """Raise the key to its next version."""
        self._keys.note_write(key)
        self._own.append(key)
        write = self._recorder.begin_write(self.name, key, due)
        value = Value(write.version or 0, self.name, None, self._payload, write.start)
        self._perform(write, lambda: self._session.write(key, value))

    def read(self, key: str, due: int | None = None) -> None:
        """Read the key."""
        start = self._now()
        answer = INTERRUPTED
        try:
            answer = self._session.read(key)
        except Exception as error:  # noqa: BLE001 # the client's table says what each means
            answer = self._failed(error)
        finally:
            self._recorder.end_read(self.name, key, start, answer, due)


class RegisterWorkload:
    """Sessions that read and write keys, and nothing beside them."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        self.keys = keys
        self._client = client
        self._recorder = recorder
        self._options = options
        self._choice = DISTRIBUTIONS[options.distribution](keys)

    def preload(self) -> None:
        """Create the keys."""
        self._client.preload(self.keys, payload(self._options))

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return RegisterSession(name, self._client, self._recorder, self._choice, self._options, opened)

    def start_background(self) -> None:
        """Do nothing: the sessions are all there is."""

    def stop_background(self) -> None:
        """Do nothing."""

    def written_keys(self) -> list[str]:
        """Return the keys with an acknowledged write."""
        keys = frozenset(self.keys)
        return [key for key in self._recorder.written_keys() if key in keys]

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read the key finally."""
        return [(key, self._client.final(key))]

    def remove(self) -> None:
        """Delete the keys."""
        self._client.remove(self.keys)

    def extra_results(self) -> Mapping[str, object]:
        """Return nothing beyond the guarantees."""
        return {}


def payload(options: LoadOptions) -> str:
    """Return the padding of every value: letters by chance, which no compression of a single value makes smaller."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(Random(options.seed).choices(letters, k=options.value_size))
