"""The conflict workload: documents with a register, a counter, a basket and fields, edited at several leaders.

Each edit changes one part of a document and leaves the others as it found them, as an application does that reads a
document, changes it and saves it. In the history every part stands for itself, by the document's key and the part's
name: the register as the register ``k``, every field as a register ``k.color``, the basket as a list ``k.basket`` of
items, and the counter as a list ``k.count`` whose items are the increments: the third of session s1 is ``s1-3``. So
`lost_writes` counts exactly what a way to resolve conflicts loses: items, increments, fields that were reverted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import cast

from stalewatch.checkers.verdict import Violation
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.protocol import Answer, Body, Client, ClientSession, DocumentSession, Siblings
from stalewatch.history.operation import Append, Operation, Write
from stalewatch.recording.recorder import Recorder
from stalewatch.workloads import merges
from stalewatch.workloads.keys import KeyChoice
from stalewatch.workloads.kinds import Session
from stalewatch.workloads.options import LoadOptions
from stalewatch.workloads.register import RegisterSession, RegisterWorkload
from stalewatch.workloads.resolving import Resolving

FIELDS = ("color", "size", "place")
PARTS = ("register", "basket", "count", "fields")
"""What a run's losses are counted by."""


class ConflictSession(RegisterSession):
    """One simulated user: reads as in the register workload, and edits of any part of a document."""

    def __init__(
        self,
        name: str,
        client: Client,
        recorder: Recorder,
        keys: KeyChoice,
        options: LoadOptions,
        touched: set[str],
        opened: ClientSession | None = None,
    ) -> None:
        super().__init__(name, client, recorder, keys, options, opened)
        self._documents = cast("DocumentSession", self._session)
        self._touched = touched
        self._counted: dict[str, int] = {}
        self._added = 0
        self._edits = (self._raise_register, self._set_field, self._add_to_basket, self._increment)

    def write(self, key: str, due: int | None = None) -> None:
        """Change one part of the document."""
        self._keys.note_write(key)
        self._own.append(key)
        answer = self._random.choice(self._edits)(key, due)
        if answer.outcome == "ok":
            self._touched.add(key)

    def _raise_register(self, key: str, due: int | None) -> Answer:
        write = self._recorder.begin_write(self.name, key, due)
        version = write.version or 0

        def change(body: Body) -> Body | None:
            raised = {**body, "v": version, "author": self.name, "at": write.start}
            return raised if body["v"] < version else None

        return self._perform(write, lambda: self._documents.edit(key, change))

    def _set_field(self, key: str, due: int | None) -> Answer:
        name = self._random.choice(FIELDS)
        write = self._recorder.begin_write(self.name, f"{key}.{name}", due)
        version = write.version or 0

        def change(body: Body) -> Body | None:
            fields = body.get("fields", {})
            changed = {**body, "fields": {**fields, name: version}, "at": write.start, "by": self.name}
            return changed if fields.get(name, 0) < version else None

        return self._perform(write, lambda: self._documents.edit(key, change))

    def _add_to_basket(self, key: str, due: int | None) -> Answer:
        self._added += 1
        item = f"{self.name}-{self._added}"
        append = self._recorder.begin_append(self.name, f"{key}.basket", item, due)

        def change(body: Body) -> Body:
            return {**body, "basket": [*body.get("basket", ()), item], "at": append.start, "by": self.name}

        return self._perform(append, lambda: self._documents.edit(key, change))

    def _increment(self, key: str, due: int | None) -> Answer:
        count = self._counted.get(key, 0) + 1
        append = self._recorder.begin_append(self.name, f"{key}.count", f"{self.name}-{count}", due)

        def change(body: Body) -> Body:
            return {
                **body,
                "count": {**body.get("count", {}), self.name: count},
                "at": append.start,
                "by": self.name,
            }

        answer = self._perform(append, lambda: self._documents.edit(key, change))
        if answer.outcome != "fail":  # one that may have been applied counts, and the next one makes sure of it
            self._counted[key] = count
        return answer


class ConflictWorkload(RegisterWorkload):
    """Sessions that edit documents, and resolvers beside them; raises `BadAddress` where a database has no siblings."""

    def __init__(self, client: Client, recorder: Recorder, keys: Sequence[str], options: LoadOptions) -> None:
        super().__init__(client, recorder, keys, options)
        if not isinstance(client, Siblings):
            raise BadAddress(f"--workload conflict needs a database that keeps siblings: couch, not {client.database}")
        self.touched: set[str] = set()
        """The documents with an acknowledged edit."""
        self._siblings: Siblings = client
        self._acknowledged: Counter[str] = Counter()
        self._resolving: Resolving | None = None
        if options.resolve != merges.NONE:
            self._resolving = Resolving(client, client.clock, keys, merges.strategy(options.resolve))
        self._lost: Counter[str] = Counter()
        recorder.subscribe(self)

    def session(self, name: str, opened: ClientSession | None = None) -> Session:
        """Open a session."""
        return ConflictSession(name, self._client, self._recorder, self._choice, self._options, self.touched, opened)

    def start_background(self) -> None:
        """Begin to resolve conflicts."""
        if self._resolving is not None:
            self._resolving.start()

    def stop_background(self) -> None:
        """End resolving."""
        if self._resolving is not None:
            self._resolving.stop()

    def written_keys(self) -> list[str]:
        """Return the documents with an acknowledged edit."""
        return sorted(self.touched)

    def final(self, key: str) -> Sequence[tuple[str, Answer]]:
        """Read every part of a document, over all its leaves; with a resolver, once a single one is left."""
        leaves = self._siblings.leaves(key)
        if leaves is None:
            return [(key, Answer("unknown", error="leaders differ"))]
        if len(leaves) > 1 and self._resolving is not None:
            return [(key, Answer("unknown", error="unresolved"))]
        return list(_parts(key, leaves))

    def extra_results(self) -> Mapping[str, object]:
        """Return how conflicts were resolved, and by part how much was acknowledged and how much of it is lost."""
        losses = {part: {"acknowledged": self._acknowledged[part], "lost": self._lost[part]} for part in PARTS}
        merged, errors = (self._resolving.merged, self._resolving.errors) if self._resolving else (0, 0)
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
        self._lost.update(_part(violation) for violation in violations if _is_loss(violation))


def part_of(key: str) -> str:
    """Return the part of a document that a key of the history stands for."""
    _, dot, name = key.rpartition(".")
    return "register" if not dot else "fields" if name in FIELDS else name


def _part(violation: Violation) -> str:
    operation = violation.operations[0]
    return part_of(operation.key) if isinstance(operation, Write | Append) else "register"


def _is_loss(violation: Violation) -> bool:
    return violation.guarantee == "lost_writes"


def _parts(key: str, leaves: Sequence[Body]) -> Sequence[tuple[str, Answer]]:
    """Return what the leaves hold together, as final reads of the history's registers and lists."""
    winner, *siblings = (int(leaf.get("v", 0)) for leaf in leaves or [{}])
    counted = [f"{session}-{number + 1}" for session, count in merges.slots(leaves).items() for number in range(count)]
    fields = merges.fields(leaves)
    return [
        (key, Answer(version=winner, siblings=siblings)),
        (f"{key}.basket", Answer(items=list(merges.basket(leaves)))),
        (f"{key}.count", Answer(items=list(counted))),
        *((f"{key}.{name}", Answer(version=fields.get(name, 0))) for name in FIELDS),
    ]
