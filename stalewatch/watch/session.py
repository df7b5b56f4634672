"""Sessions and their blocks: an operation starts where its block begins, and ends where the block is left.

The blocks are plain classes with slots rather than generators: they run around every operation of somebody else's
program. Each works as `with` and as `async with`.
"""

from collections.abc import Iterable
from itertools import count
from types import TracebackType
from typing import ClassVar, Self

from stalewatch.clients.errors import without_credentials
from stalewatch.clients.protocol import Answer
from stalewatch.history.operation import Append, Draw, Outcome, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.watch.misuse import Misuse, Warnings
from stalewatch.watch.turns import KeyTurns, WriterTurn, current_context

NEW, WAITING, OPEN, ENDED = range(4)
"""The states of a block. A write waits for its key's turn."""

MAX_REASON = 200
"""The most characters of a reason or an exception that are recorded."""

MAX_REASONS = 100
"""The most different texts that are recorded: statistics count each, and many contain a key or an address."""

TOO_GREAT = 1 << 63
"""Numbers from here on fit into no history."""

NO_VALUE_YET = "; 0 means that there is no value yet"

_OK = Answer()

KINDS = {"register": "key", "ledger": "list", "sequence": "counter"}
"""What a workload works on, in words."""


class WatchedRun:
    """What the sessions of one process share: the recorder, the turns of the keys, and which keys were used."""

    def __init__(self, recorder: Recorder, name: str, *, growing: bool = False) -> None:
        self.recorder = recorder
        self.name = name
        self.growing = growing
        self.warnings = Warnings()
        self.turns = None if growing else KeyTurns(self.warnings)
        self.used: dict[str, dict[str, None]] = {workload: {} for workload in KINDS}
        """By workload, the keys, lists and counters in the order of their first use."""
        self._sessions: dict[str, WatchedSession] = {}
        self._reasons: set[str] = set()

    def session(self, name: str) -> "WatchedSession":
        """Return the session of that name: one user, who performs one operation at a time."""
        _require_name("session", name)
        self.require_running()
        return self._sessions.setdefault(name, WatchedSession(self, name))

    @property
    def keys(self) -> list[str]:
        """The keys that were read or written so far, in the order of their first use."""
        return list(self.used["register"])

    @property
    def lists(self) -> list[str]:
        """The lists that were appended to so far, in the order of their first use."""
        return list(self.used["ledger"])

    @property
    def workloads(self) -> list[str]:
        """The workloads that the operations so far belong to."""
        return [workload for workload, used in self.used.items() if used]

    def final_read(self, key: str) -> "FinalReadBlock":
        """Return a block around the read of what a key holds in the end, which proves losses: make it strong."""
        return FinalReadBlock(self, None, key)

    def final_items(self, key: str) -> "FinalItemsBlock":
        """Return a block around the read of all the items that a list holds in the end."""
        return FinalItemsBlock(self, None, key)

    def use(self, workload: str, key: str) -> None:
        """Note that a key, list or counter is used; raise `Misuse` if it is something else already."""
        self.require_kind(workload, key)
        self.used[workload][key] = None

    def require_kind(self, workload: str, key: str) -> None:
        """Raise `Misuse` if that name has been used for something else."""
        for other, used in self.used.items():
            if key in used and other != workload:
                raise Misuse(
                    f"{key!r} is a {KINDS[other]} and cannot be a {KINDS[workload]} too: give each a name of its own"
                )

    def reason(self, text: str, otherwise: str = "other") -> str:
        """Return what is recorded of a text: one line without credentials; `otherwise` if too many texts differ."""
        encodable = str(text).encode(errors="backslashreplace").decode()
        line = without_credentials(" ".join(encodable.split()))[:MAX_REASON]
        if line not in self._reasons:
            if len(self._reasons) >= MAX_REASONS:
                return otherwise
            self._reasons.add(line)
        return line

    def reason_of(self, error: BaseException) -> str:
        """Return what is recorded of an exception: its class and its text."""
        kind, text = type(error).__name__, str(error)
        return self.reason(f"{kind}: {text}" if text else kind, otherwise=kind)

    def require_running(self) -> None:
        """Raise `Misuse` if the run has ended."""
        if self.recorder.finished:
            raise Misuse("the watch has ended, and its verdict is final: operations must end before it is closed")


class WatchedSession:
    """One user. Its operations follow one another; whatever runs at the same time needs a session of its own."""

    __slots__ = ("_items", "_open", "name", "run")

    def __init__(self, run: WatchedRun, name: str) -> None:
        self.run = run
        self.name = name
        self._items = count(1)
        self._open: dict[str, Block] = {}
        """The block that is open, if any."""

    def write(self, key: str, due: int | None = None) -> "WriteBlock":
        """Return a block around a write; its `version` is the number to store with the value.

        `due` (ns) is when it should have started, in an open loop.
        """
        return WriteBlock(self.run, self, key, due)

    def read(self, key: str, due: int | None = None) -> "ReadBlock":
        """Return a block around a read; call its `saw` with the version that the value came with."""
        return ReadBlock(self.run, self, key, due)

    def append(self, key: str, due: int | None = None) -> "AppendBlock":
        """Return a block around an append to a list; its `item` is what to append."""
        return AppendBlock(self.run, self, key, due)

    def draw(self, key: str, due: int | None = None) -> "DrawBlock":
        """Return a block around the drawing of an id from a counter; call its `took` with the id."""
        return DrawBlock(self.run, self, key, due)

    def next_item(self) -> str:
        """Return an item that no other session or run appends."""
        return f"{self.run.name}-{self.name}-{next(self._items)}"

    def begin(self, block: "Block") -> None:
        """Open a block; raise `Misuse` if another one is open."""
        self.run.require_running()
        other = self._open.setdefault("block", block)
        if other is block:
            return
        if other.context == current_context():
            raise Misuse(
                f"session {self.name!r} is {other.doing} {other.key!r}, and performs one operation at a time: end that "
                "block before the next one, or use another session inside it"
            )
        raise Misuse(
            f"session {self.name!r} is used by two threads at a time (greenlets, tasks): one is {other.doing} "
            f"{other.key!r}; give each a session of its own"
        )

    def end(self) -> None:
        """Close the open block."""
        self._open.clear()


class Block:
    """One operation; the block can be used once. An exception in it goes on to the caller."""

    __slots__ = ("_due", "_error", "_outcome", "_run", "_session", "_state", "context", "key", "node")
    doing: ClassVar[str]
    """What the session does in it, in words; the key follows."""

    def __init__(self, run: WatchedRun, session: WatchedSession | None, key: str, due: int | None = None) -> None:
        _require_name("key", key)
        self.key = key
        self.node: str | None = None
        """The server that answered, if known."""
        self.context: object = None
        """The thread, greenlet or task that opened it."""
        self._run = run
        self._session = session
        """None for final reads, which belong to no session."""
        self._due = due
        self._state = NEW
        self._outcome: Outcome | None = None
        """What the caller said about the outcome."""
        self._error: str | None = None

    def __enter__(self) -> Self:
        """Start the operation."""
        self._begin()
        try:
            self._start()
        except BaseException:
            self._leave()
            raise
        self._state = OPEN
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Record the operation, which ends now."""
        self._require_open("left")
        self._state = ENDED
        try:
            self._end(error)
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        """Start the operation."""
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Record the operation, which ends now."""
        self.__exit__(kind, error, at)

    def _start(self) -> None:
        raise NotImplementedError

    def _end(self, error: BaseException | None) -> None:
        raise NotImplementedError

    def _begin(self) -> None:
        if self._state != NEW:
            raise Misuse(f"a block of key {self.key!r} is used twice: every operation needs a new one")
        self._run.require_running()
        self.context = current_context()
        if self._session is not None:
            self._session.begin(self)
        self._state = WAITING

    def _leave(self) -> None:
        if self._session is not None:
            self._session.end()

    @property
    def _user(self) -> str:
        return "" if self._session is None else self._session.name

    def _require_open(self, call: str) -> None:
        if self._state != OPEN:
            when = "after it has ended" if self._state == ENDED else "before it begins: use `with`"
            raise Misuse(f"a block of key {self.key!r} is asked for {call!r} {when}")

    def _decide(self, call: str, outcome: Outcome, error: str | None = None) -> None:
        """Take the caller's word for the outcome, once."""
        self._require_open(call)
        if self._outcome is not None:
            raise Misuse(f"{call!r} in a block of key {self.key!r} whose outcome was given already; give it once")
        self._outcome, self._error = outcome, error

    def _unseen(self, call: str, error: BaseException | None) -> str:
        """Return why a block saw nothing; warn if that is not due to an exception."""
        if error is not None:
            return self._run.reason_of(error)
        self._run.warnings.warn(
            f"no {call}", f"{call!r} was not called in a block of key {self.key!r}, so that nothing is judged"
        )
        return f"{call} was not called"


class ReadBlock(Block):
    """A read of a key. A read that saw nothing counts as failed."""

    __slots__ = ("_siblings", "_start_ns", "_version")
    doing = "reading"
    _siblings: list[int] | None
    _version: int | None

    def saw(self, version: int, siblings: Iterable[int] | None = None, node: str | None = None) -> None:
        """Say which version the value has; 0 if there is no value yet.

        `siblings` are the versions of concurrent values, if the store exposes them, and `node` the server that
        answered.
        """
        _check_number("a version", version, NO_VALUE_YET)
        others = None if siblings is None else list(siblings)
        for other in others or ():
            _check_number("the version of a sibling", other, NO_VALUE_YET)
        self._decide("saw", "ok")
        self._version, self._siblings, self.node = version, others, node
        newest = self._run.recorder.newest_version(self.key)
        if version > newest or others:
            self._warn_of_unwritten((version, *(others or ())), newest)

    def _start(self) -> None:
        if self.key not in self._run.used["register"]:
            self._run.use("register", self.key)
        self._start_reading()

    def _start_reading(self) -> None:
        self._version = self._siblings = None
        self._start_ns = self._run.recorder.clock.now()

    def _end(self, error: BaseException | None) -> None:
        if self._version is None:
            self._record(Answer("fail", error=self._unseen("saw", error), node=self.node))
        else:
            self._record(Answer(version=self._version, siblings=self._siblings, node=self.node))

    def _record(self, answer: Answer) -> None:
        self._run.recorder.end_read(self._user, self.key, self._start_ns, answer, self._due)

    def _warn_of_unwritten(self, versions: Iterable[int], newest: int) -> None:
        unwritten = [version for version in versions if version > newest]
        if unwritten:
            self._run.warnings.warn(
                "unwritten",
                f"saw version {unwritten[0]} of key {self.key!r}, which was never handed out (the newest is {newest}): "
                "it counts as a phantom read; store the `version` of the write, under keys that only this run writes",
            )


class FinalReadBlock(ReadBlock):
    """The read of what a key holds in the end."""

    __slots__ = ()

    def _start(self) -> None:
        self._run.require_kind("register", self.key)
        self._start_reading()

    def _record(self, answer: Answer) -> None:
        self._run.recorder.end_final(self.key, self._start_ns, answer)


class FinalItemsBlock(Block):
    """The read of all the items that a list holds in the end."""

    __slots__ = ("_items", "_start_ns")
    _items: list[str | int] | None

    def saw(self, items: Iterable[str | int], node: str | None = None) -> None:
        """Say which items are there, each as often as the list shows it."""
        found = [] if isinstance(items, str | bytes) else list(items)
        wrong = [items] if isinstance(items, str | bytes) else [one for one in found if not _is_item(one)]
        if wrong:
            raise Misuse(f"the items of list {self.key!r} are strings, as `append.item` gave them, not {wrong[0]!r}")
        self._decide("saw", "ok")
        self._items, self.node = found, node

    def _start(self) -> None:
        self._run.require_kind("ledger", self.key)
        self._items = None
        self._start_ns = self._run.recorder.clock.now()

    def _end(self, error: BaseException | None) -> None:
        if self._items is None:
            answer = Answer("fail", error=self._unseen("saw", error), node=self.node)
        else:
            answer = Answer(items=self._items, node=self.node)
        self._run.recorder.end_final(self.key, self._start_ns, answer)


class ChangeBlock(Block):
    """A write, append or draw: ok unless the caller says otherwise, and unknown after an exception."""

    __slots__ = ("_operation",)
    _operation: Write | Append | Draw

    def unknown(self, reason: str) -> None:
        """Say that nobody knows whether it took effect, or whether it will later, as after a timeout or a 5xx."""
        self._decide("unknown", "unknown", self._run.reason(reason))

    def fail(self, reason: str) -> None:
        """Say that it certainly took no effect and never will."""
        self._decide("fail", "fail", self._run.reason(reason))

    def _answer(self, error: BaseException | None) -> Answer:
        if error is not None and self._outcome not in {"fail", "unknown"}:
            return Answer("unknown", error=self._run.reason_of(error), node=self.node)
        if self._outcome is None and self.node is None:
            return _OK
        return Answer(self._outcome or "ok", error=self._error, node=self.node)

    def _end(self, error: BaseException | None) -> None:
        self._run.recorder.end_write(self._operation, self._answer(error))


class WriteBlock(ChangeBlock):
    """A write of a key's next version; writers of one key wait for each other, unless the run's keys are growing."""

    __slots__ = ("_superseded", "_turn")
    doing = "writing"
    _operation: Write

    @property
    def version(self) -> int:
        """The number to store with the value."""
        if self._state < OPEN:
            self._require_open("version")
        return self._operation.version or 0

    def superseded(self) -> None:
        """Say that the store refused the write because it holds an equal or newer version; that counts as ok."""
        self._decide("superseded", "ok")
        self._superseded = True

    async def __aenter__(self) -> Self:
        """Wait for the key's turn without blocking the event loop, and start the write."""
        self._begin()
        try:
            if self._run.turns is not None:
                self._turn = WriterTurn(self.key, self._user, self.context)
                await self._run.turns.take_async(self._turn)
            self._start_in_turn()
        except BaseException:
            self._leave()
            raise
        self._state = OPEN
        return self

    def _start(self) -> None:
        if self._run.turns is not None:
            self._turn = WriterTurn(self.key, self._user, self.context)
            self._run.turns.take(self._turn)
        self._start_in_turn()

    def _start_in_turn(self) -> None:
        """Take the version and the start, in one step, now that no other write of the key is under way."""
        self._superseded = False
        try:
            self._run.require_running()
            if self.key not in self._run.used["register"]:
                self._run.use("register", self.key)
            self._operation = self._run.recorder.begin_write(self._user, self.key, self._due)
        except BaseException:
            self._end_turn()
            raise

    def _answer(self, error: BaseException | None) -> Answer:
        if self._superseded and error is None:
            return Answer(superseded=True, node=self.node)
        return super()._answer(error)

    def _end(self, error: BaseException | None) -> None:
        try:
            super()._end(error)
        finally:
            self._end_turn()

    def _end_turn(self) -> None:
        if self._run.turns is not None:
            self._run.turns.release(self._turn)


class AppendBlock(ChangeBlock):
    """An append of a unique item to a list."""

    __slots__ = ("item",)
    doing = "appending to"

    def __init__(self, run: WatchedRun, session: WatchedSession, key: str, due: int | None) -> None:
        super().__init__(run, session, key, due)
        self.item = session.next_item()
        """The item to append."""

    def _start(self) -> None:
        self._run.use("ledger", self.key)
        self._operation = self._run.recorder.begin_append(self._user, self.key, self.item, self._due)


class DrawBlock(ChangeBlock):
    """The drawing of an id from a counter."""

    __slots__ = ("_value",)
    doing = "drawing from"
    _value: int | None

    def took(self, value: int) -> None:
        """Say which id was drawn."""
        _check_number("an id", value, "")
        self._decide("took", "ok")
        self._value = value

    def _start(self) -> None:
        self._value = None
        self._run.use("sequence", self.key)
        self._operation = self._run.recorder.begin_draw(self._user, self.key, self._due)

    def _answer(self, error: BaseException | None) -> Answer:
        if self._value is not None:
            return Answer(version=self._value, node=self.node)
        if self._outcome is not None:
            return super()._answer(error)
        return Answer("unknown", error=self._unseen("took", error), node=self.node)


def _is_item(item: object) -> bool:
    return _encodable(item) if isinstance(item, str) else type(item) is int and abs(item) < TOO_GREAT


def _check_number(what: str, number: int, hint: str) -> None:
    if type(number) is not int or not 0 <= number < TOO_GREAT:  # True is an int, too
        raise Misuse(f"{what} is an int of at least 0, not {number!r}{hint}")


def _require_name(what: str, name: str) -> None:
    if not isinstance(name, str) or not name or not _encodable(name):
        raise Misuse(f"the name of a {what} is a string, not {name!r}")


def _encodable(text: str) -> bool:
    """Return whether a history can hold the text: names of files may contain bytes that are no UTF-8."""
    return text.isascii() or text.encode(errors="ignore").decode() == text
