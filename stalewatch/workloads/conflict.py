"""The conflict workload: documents with a register, a counter, a basket and fields, edited at several leaders.

Each edit changes one part of a document and leaves the others unchanged, like an application that reads a document,
modifies it and saves it. In the history each part is a separate object, named by the document's key and the part: the
register is the register ``k``, a field a register such as ``k.color``, the basket a list ``k.basket`` of items, and the
counter a list ``k.count`` whose items are the increments: the third one of session s1 is ``s1-3``. So `lost_writes`
counts exactly what a conflict resolution strategy loses: items, increments, and fields that were reverted.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.protocol import Answer, Body, Client, ClientSession, DocumentSession, Siblings
from stalewatch.history.operation import Append, Operation, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import Session, resolution
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import KeyChoice, RegisterSession, RegisterWorkload

FIELDS = ("color", "size", "place")
PARTS = ("register", "basket", "count", "fields")
"""The parts by which losses are counted."""


class ConflictSession(RegisterSession):
    """One simulated user, who reads as in the register workload and edits parts of documents."""

    _session: DocumentSession

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        keys: KeyChoice,
        options: LoadOptions,
        edited: set[str],
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, keys, options, opened)
        self._edited = edited
        self._increments: dict[str, int] = {}
        self._added = 0
        self._edits = (self._raise_register, self._set_field, self._add_to_basket, self._increment)

    def write(self, key: str, due: int | None = None) -> None:
        """Edit one part of the document."""
        self._keys.note_write(key)
        answer = self._random.choice(self._edits)(key, due)
        if answer.outcome == "ok":
            self._edited.add(key)

    def _edit(self, key: str, operation: Write | Append, change: Callable[[Body], Body | None]) -> Answer:
        return self._perform(operation, lambda: self._session.edit(key, change))

    def _raise_register(self, key: str, due: int | None) -> Answer:
        write = self._recorder.begin_write(self.name, key, due)
        version = write.version or 0

        def change(body: Body) -> Body | None:
            raised = {**body, "v": version, "author": self.name, "at": write.start}
            return raised if body["v"] < version else None

        return self._edit(key, write, change)

    def _set_field(self, key: str, due: int | None) -> Answer:
        name = self._random.choice(FIELDS)
        write = self._recorder.begin_write(self.name, f"{key}.{name}", due)
        version = write.version or 0

        def change(body: Body) -> Body | None:
            fields = body.get("fields", {})
            changed = {**body, "fields": {**fields, name: version}, "at": write.start, "by": self.name}
            return changed if fields.get(name, 0) < version else None

        return self._edit(key, write, change)

    def _add_to_basket(self, key: str, due: int | None) -> Answer:
        self._added += 1
        item = f"{self.name}-{self._added}"
        append = self._recorder.begin_append(self.name, f"{key}.basket", item, due)

        def change(body: Body) -> Body:
            return {**body, "basket": [*body.get("basket", ()), item], "at": append.start, "by": self.name}

        return self._edit(key, append, change)

    def _increment(self, key: str, due: int | None) -> Answer:
        count = self._increments.get(key, 0) + 1
        append = self._recorder.begin_append(self.name, f"{key}.count", f"{self.name}-{count}", due)

        def change(body: Body) -> Body:
            counter = {**body.get("count", {}), self.name: count}
            return {**body, "count": counter, "at": append.start, "by": self.name}

        answer = self._edit(key, append, change)
        if answer.outcome != "fail":  # an increment that may have been applied counts; the next one includes it
            self._increments[key] = count
        return answer


class ConflictWorkload(RegisterWorkload):
    """Sessions that edit documents, with resolvers in the background, of a client that has `Siblings`."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        super().__init__(client, recorder, keys, options)
        self._siblings = cast("Siblings", client)
        self._edited: set[str] = set()
        """The documents with an acknowledged edit."""
        self._acknowledged: Counter[str] = Counter()
        self._resolvers: resolution.ResolverThreads | None = None
        if options.resolve != resolution.NONE:
            merge = resolution.strategy(options.resolve)
            self._resolvers = resolution.ResolverThreads(self._siblings, client.clock, keys, merge)
        self._lost: Counter[str] = Counter()
        recorder.subscribe(self)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return ConflictSession(name, self._client, self._recorder, self._choice, self._options, self._edited, opened)

    def start_background(self) -> None:
        """Start resolving conflicts."""
        if self._resolvers is not None:
            self._resolvers.start()

    def stop_background(self) -> None:
        """Stop resolving conflicts."""
        if self._resolvers is not None:
            self._resolvers.stop()

    def written_keys(self) -> list[str]:
        """Return the documents with an acknowledged edit."""
        return sorted(self._edited)

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read every part of a document from all its leaves; with resolvers, only once a single leaf is left."""
        leaves = self._siblings.leaves(key)
        if leaves is None:
            return [(key, Answer("unknown", error="leaders differ"))]
        if len(leaves) > 1 and self._resolvers is not None:
            return [(key, Answer("unknown", error="unresolved"))]
        return _parts(key, leaves)

    def extra_results(self) -> Mapping[str, object]:
        """Return how conflicts were resolved, and how many writes of each part were acknowledged and lost."""
        losses = {part: {"acknowledged": self._acknowledged[part], "lost": self._lost[part]} for part in PARTS}
        merged, errors = (self._resolvers.merged, self._resolvers.errors) if self._resolvers else (0, 0)
        return {
            "resolution": {"strategy": self._options.resolve, "merged": merged, "errors": errors},
            "losses": losses,
        }

    def on_operation(self, operation: Operation, _violations: Sequence[Violation]) -> None:
        """Count acknowledged edits by part of the document."""
        if isinstance(operation, Write | Append) and operation.outcome == "ok":
            self._acknowledged[part_of(operation.key)] += 1

    def on_end(self, violations: Sequence[Violation]) -> None:
        """Count lost edits by part of the document."""
        self._lost.update(_lost_part(violation) for violation in violations if _is_loss(violation))


def part_of(key: str) -> str:
    """Return the part of a document that a key of the history stands for."""
    _, dot, name = key.rpartition(".")
    return "register" if not dot else "fields" if name in FIELDS else name


def _lost_part(violation: Violation) -> str:
    operation = violation.operations[0]
    return part_of(operation.key) if isinstance(operation, Write | Append) else "register"


def _is_loss(violation: Violation) -> bool:
    return violation.guarantee == "lost_writes"


def _parts(key: str, leaves: Sequence[Body]) -> Sequence[tuple[str, Answer]]:
    """Return what the leaves hold together, as final reads of the history's registers and lists."""
    winner, *siblings = (int(leaf.get("v", 0)) for leaf in leaves or [{}])
    counter = resolution.merged_counter(leaves)
    increments: list[str | int] = [
        f"{session}-{number + 1}" for session, count in counter.items() for number in range(count)
    ]
    fields = resolution.merged_fields(leaves)
    return [
        (key, Answer(version=winner, siblings=siblings)),
        (f"{key}.basket", Answer(items=list(resolution.merged_basket(leaves)))),
        (f"{key}.count", Answer(items=increments)),
        *((f"{key}.{name}", Answer(version=fields.get(name, 0))) for name in FIELDS),
    ]
