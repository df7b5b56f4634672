"""The register workload: a session reads and writes keys, and often returns to keys that it wrote.

Sessions and workloads of other kinds are built on `RecordedSession` and `RecordedWorkload`.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from math import log2
from random import Random
from typing import ClassVar, Protocol

from stalewatch.clients.protocol import Answer, Client, ClientSession, Timed, Value
from stalewatch.history.operation import Append, Draw, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import WORKLOADS, Perform, Session
from stalewatch.workloads.options import LoadOptions

ZIPF_EXPONENT = 0.99
"""YCSB's constant: with a thousand keys, the first gets 13% of the accesses."""

RECENT_KEYS = 1024

KEYS_PER_OBJECT = 100


def object_keys(keys: Sequence[str], kind: str) -> list[str]:
    """Return the names of lists or counters: KEY.kind for the first hundredth of the keys, and for one at least.

    A few are enough: each list is read in full at the end, and counters are meant to be shared by many sessions.
    """
    return [f"{key}.{kind}" for key in keys[: max(1, len(keys) // KEYS_PER_OBJECT)]]


class KeyChoice(Protocol):
    """A distribution over the keys of one worker, shared by its sessions."""

    def choose(self, random: Random) -> str:
        """Return the next key to read."""
        ...

    def choose_to_write(self, random: Random) -> str:
        """Return the next key to write."""
        ...

    def note_write(self, key: str) -> None:
        """Record that a key is being written."""
        ...


class Uniform:
    """All keys with equal probability."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = keys

    def choose(self, random: Random) -> str:
        """Return any key."""
        return self._keys[int(random.random() * len(self._keys))]

    choose_to_write = choose

    def note_write(self, key: str) -> None:
        """Do nothing: earlier writes do not matter."""


class Zipfian(Uniform):
    """The n-th key with a weight of 1 / n ** 0.99: a few hot keys and a long tail."""

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self._weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(len(keys))))

    def choose(self, random: Random) -> str:
        """Return a key, usually one of the first."""
        return self._keys[bisect_left(self._weights, random.random() * self._weights[-1])]

    choose_to_write = choose


class Latest(Uniform):
    """Mostly recently written keys: reads choose the key written n writes ago with a weight of 1 / n ** 0.99.

    Writes choose all keys with equal probability. If they too preferred recently written keys, each write would make
    its key even more likely, and soon all load would go to one key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        super().__init__(keys)
        self._recent: deque[str] = deque(maxlen=RECENT_KEYS)
        self._weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(RECENT_KEYS)))

    def choose(self, random: Random) -> str:
        """Return a key, usually one written recently."""
        recent = self._recent
        if not recent:
            return super().choose(random)
        return recent[bisect_left(self._weights, random.random() * self._weights[len(recent) - 1])]

    choose_to_write = Uniform.choose

    def note_write(self, key: str) -> None:
        """Make the key the most recent one."""
        self._recent.appendleft(key)


DISTRIBUTIONS: dict[str, Callable[[Sequence[str]], KeyChoice]] = {
    "uniform": Uniform,
    "zipfian": Zipfian,
    "latest": Latest,
}


OWN_KEYS = 8
"""How many of its most recently written keys a session returns to: usually the last, as people look at what they have
just saved, the one before that half as often, and so on."""


class SessionKeys:
    """The keys that one session chooses: by the distribution, and often one that it wrote recently."""

    def __init__(self, choice: KeyChoice, reread: float, random: Random) -> None:
        self._choice = choice
        self._reread = reread
        self._random = random
        self._own: deque[str] = deque(maxlen=OWN_KEYS)

    def to_read(self) -> str:
        """Return a key to read."""
        random = self._random
        if self._own and random.random() < self._reread:
            return self.recently_written()
        return self._choice.choose(random)

    def to_write(self) -> str:
        """Return a key to write."""
        return self._choice.choose_to_write(self._random)

    def recently_written(self) -> str:
        """Return a key that the session wrote recently; there must be one."""
        own = self._own
        steps_back = min(int(-log2(1 - self._random.random())), len(own) - 1)
        return own[-1 - steps_back]

    def note_write(self, key: str) -> None:
        """Record that the session is writing a key."""
        self._choice.note_write(key)
        self._own.append(key)


INTERRUPTED = Answer("unknown", error="interrupted")
"""The recorded answer to an operation during which its session was killed."""


class RecordedSession:
    """One simulated user, whose writes are recorded however they end.

    `opened` is the user's database session, if there is one already.
    """

    def __init__(self, name: str, client: Client, recorder: Recorder, opened: ClientSession | None = None) -> None:
        self.name = name
        self._client = client
        self._session = client.session(name) if opened is None else opened
        self._recorder = recorder
        self._times = self._session.times if isinstance(self._session, Timed) else None

    def _perform(self, write: Write | Append | Draw, send: Callable[[], Answer]) -> Answer:
        """Send a write that has begun, and record how it ends."""
        answer = INTERRUPTED
        try:
            answer = send()
        except Exception as error:  # noqa: BLE001 # the client's error table classifies it
            answer = self._failed(error)
        finally:  # a write that was sent is recorded even if the session is killed
            self._recorder.end_write(write, answer)
            if self._times is not None and isinstance(write, Write) and write.end is not None:
                self._times.write_ended(write.key, write.end)
        return answer

    def _failed(self, error: Exception) -> Answer:
        failure = self._client.explain(error)
        return Answer(failure.outcome, error=failure.error)


class RecordedWorkload:
    """The common parts of workloads: final reads of the keys that were written, and no background tasks."""

    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        self.keys = keys
        self._client = client
        self._recorder = recorder
        self._options = options

    def keys_by_kind(self) -> Mapping[str, Sequence[str]]:
        """Return the keys for each kind of operation."""
        return dict.fromkeys(self.kinds, self.keys)

    def start_background(self) -> None:
        """Do nothing: there are no background tasks."""

    def stop_background(self) -> None:
        """Do nothing: there are no background tasks."""

    def written_keys(self) -> list[str]:
        """Return the keys with an acknowledged write."""
        keys = frozenset(self.keys)
        return [key for key in self._recorder.written_keys() if key in keys]

    def extra_results(self) -> Mapping[str, object]:
        """Return no results beyond the guarantees."""
        return {}


class RegisterSession(RecordedSession):
    """One simulated user, who reads and writes keys."""

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
        self._write_ratio = options.write_ratio
        self._random = Random(f"{options.seed}/{name}")
        self._keys = SessionKeys(keys, options.reread, self._random)
        self._payload = payload(options)

    def step(self, due: int | None = None) -> None:
        """Perform one operation; `due` (ns) is when it should have started, in an open loop."""
        if self._random.random() < self._write_ratio:
            self.write(self._keys.to_write(), due)
        else:
            self.read(self._keys.to_read(), due)

    def operations(self) -> Mapping[str, Perform]:
        """Return reads and writes."""
        return {
            "read": lambda key, due: self.read(key or self._keys.to_read(), due),
            "write": lambda key, due: self.write(key or self._keys.to_write(), due),
        }

    def write(self, key: str, due: int | None = None) -> None:
        """Raise the key to its next version."""
        self._keys.note_write(key)
        write = self._recorder.begin_write(self.name, key, due)
        value = Value(write.version or 0, self.name, None, self._payload, write.start)
        self._perform(write, lambda: self._session.write(key, value))

    def read(self, key: str, due: int | None = None) -> Answer:
        """Read the key, and return what was recorded."""
        start = self._now()
        if self._times is not None:
            self._times.read_starts(start)
        answer = INTERRUPTED
        try:
            answer = self._session.read(key)
        except Exception as error:  # noqa: BLE001 # the client's error table classifies it
            answer = self._failed(error)
        finally:
            self._recorder.end_read(self.name, key, start, answer, due)
        return answer


class RegisterWorkload(RecordedWorkload):
    """Sessions that read and write keys."""

    kinds = WORKLOADS["register"].kinds

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        super().__init__(client, recorder, keys, options)
        self._choice = DISTRIBUTIONS[options.distribution](keys)

    def preload(self) -> None:
        """Create the keys."""
        self._client.preload(self.keys, payload(self._options))

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return RegisterSession(name, self._client, self._recorder, self._choice, self._options, opened)

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Make the final read of a key."""
        return [(key, self._client.final(key))]

    def remove(self) -> None:
        """Delete the keys."""
        self._client.remove(self.keys)


def payload(options: LoadOptions) -> str:
    """Return the padding of every value: random characters, so that compressing a single value does not shrink it."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return "".join(Random(options.seed).choices(characters, k=options.value_size))
