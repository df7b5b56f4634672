"""Sets, ids and lists of other tools, and the table of all models, of which a log's first calls choose one."""

import json
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, NamedTuple

from stalewatch.history.exchange.events import EdnSet, Step, Unfit, is_pair, key_text, shown, staged
from stalewatch.history.exchange.registers import (
    CAS,
    CounterModel,
    KeyValueModel,
    Model,
    Numbered,
    RegisterModel,
    register_operation,
)
from stalewatch.history.exchange.staging import Call, Staging
from stalewatch.history.operation import Append, Draw, Final, Operation, Write

MOST_ELEMENT_READS = 20_000_000


class SetModel(Model):
    """Adds of elements and reads of all of them: Jepsen's set and set-full.

    Two views of one history. As a *list*: every add is an append, and the ok read that was invoked last is the final
    read, which the set checkers take it for as well: an acknowledged element that it misses is lost, one that it has
    twice or that nobody added is unexpected. If there are several reads, also as *registers*, one an element, as
    set-full looks at them: version 1 once it was added, and every read shows 1 or 0. An element never leaves a set
    without removes, so such a register grows; `stale_reads` is what set-full calls stale (`:linearizable? true`),
    `read_regressions` an element that was seen and is gone. Each element has sessions of its own, since one read shows
    all elements at once.
    """

    calls = frozenset({"add", "read"})
    default_key = "set"

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep an add, or a read with its elements."""
        if step.f == "add":
            self.keep(step, "add", key, staged(asked))
        elif step.outcome == "ok":
            if not isinstance(answer, list):
                raise Unfit(step.line, f"a set's read must return a collection, not {shown(answer)}")
            self.keep(step, "read", key, staged(answer))

    def operations(self) -> Iterator[Numbered]:
        """Yield appends and final reads, and if there are several reads, writes and reads of each element."""
        self.refuse_reuse("add", "the element")
        finals = {
            key: (seq, reads)
            for key, seq, reads in self.staging.rows(
                "SELECT key, seq, count(*) OVER (PARTITION BY key) FROM call WHERE kind = 'read' ORDER BY start"
            )
        }
        ((expanded,),) = self.staging.rows("""SELECT total(adds * reads) FROM
            (SELECT sum(kind = 'add') AS adds, sum(kind = 'read') AS reads FROM call GROUP BY key) WHERE reads > 1""")
        if expanded > MOST_ELEMENT_READS:
            raise Unfit(
                0, f"{expanded:,.0f} reads of single elements would be needed, more than {MOST_ELEMENT_READS:,}"
            )
        elements = _Elements(self.staging)
        query = """SELECT seq, line, kind, session, key, value, start, "end", outcome, node, error
            FROM call ORDER BY coalesce("end", start), seq"""
        for seq, *row in self.staging.rows(query):
            call = Call(*row)
            final, reads = finals.get(call.key, (0, 0))
            if call.kind == "add":
                yield _append(call), call.line
            elif seq == final:
                yield _final(call), call.line
            if reads > 1:
                for operation in elements.views(call):
                    yield operation, call.line


class _Elements:
    """The elements of each set that may have been added so far, by the time of the reads."""

    def __init__(self, staging: Staging) -> None:
        self._adds = staging.rows("SELECT start, key, value FROM call WHERE kind = 'add' ORDER BY start")
        self._next = next(self._adds, None)
        self._known: dict[str, set[str]] = {}

    def views(self, call: Call) -> Iterator[Operation]:
        """Yield the write of an add, or the reads of a read."""
        if call.kind == "add":
            element = call.value or ""
            one = call._replace(session=f"{call.session}/{element}", key=f"{call.key}/{element}")
            yield register_operation(one, 1)
            return
        end = call.end or 0
        while self._next is not None and self._next[0] < end:
            self._known.setdefault(self._next[1], set()).add(self._next[2])
            self._next = next(self._adds, None)
        shown = set(json.loads(call.value or "[]"))
        for element in sorted(shown | self._known.get(call.key, set())):
            one = call._replace(session=f"{call.session}/{element}", key=f"{call.key}/{element}")
            yield register_operation(one, int(element in shown))


def _append(call: Call) -> Append:
    return Append(
        session=call.session,
        key=call.key,
        item=call.value,
        start=call.start,
        end=call.end,
        outcome=call.outcome,
        node=call.node,
        error=call.error,
    )


def _final(call: Call) -> Final:
    items = json.loads(call.value or "[]")
    return Final(key=call.key, items=items, start=call.start, end=call.end or 0, outcome="ok", node=call.node)


class UniqueIdsModel(Model):
    """Generated ids: Jepsen's unique-ids.

    Ids may be anything, and need not rise. So each distinct one is numbered in the order in which they were first
    returned: of two calls in a row the later id has the greater number, so that `unique_ids`, which also wants ids to
    rise, finds nothing but duplicates.
    """

    calls = frozenset({"generate"})
    default_key = "ids"

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep a call with its id."""
        self.keep(step, "generate", key, staged(answer) if step.outcome == "ok" else None)

    def operations(self) -> Iterator[Numbered]:
        """Yield draws."""
        self.staging.run("""INSERT INTO number
            SELECT key, value, row_number() OVER (PARTITION BY key ORDER BY first) FROM (
                SELECT key, value, min("end") AS first FROM call WHERE outcome = 'ok' GROUP BY key, value)""")
        query = """SELECT line, kind, session, key, call.value, start, "end", outcome, node, error, version
            FROM call LEFT JOIN number USING (key, value) ORDER BY coalesce("end", start), seq"""
        for *row, number in self.staging.rows(query):
            call = Call(*row)
            yield (
                Draw(
                    session=call.session,
                    key=call.key,
                    value=number,
                    start=call.start,
                    end=call.end,
                    outcome=call.outcome,
                    node=call.node,
                    error=call.error,
                ),
                call.line,
            )


class _Order(NamedTuple):
    """The longest list that a read of a key showed: its elements, and the digest of each of its beginnings."""

    elements: list[str]
    digests: list[bytes]


class ListAppendModel(Model):
    """Appends to lists and reads of whole lists: Elle's list-append, one operation a transaction.

    A list that is only appended to is a register that only grows: its version is its length. The longest list that was
    read tells the place of each element, which is the version that its append wrote; elements that no read shows come
    after it, so a read that started after such an append was acknowledged is stale, and it is. That holds if every read
    shows a beginning of the longest one; else the history is refused (Elle: incompatible-order). As a *list* the read
    that was invoked last is the final one: lost, doubled and failed elements. Write starts need not rise with versions,
    so no violation does not prove linearizability. Transactions of several operations are refused.
    """

    calls = frozenset({"txn"})
    default_key = "list"

    def __init__(self, staging: Staging, initial: str) -> None:
        super().__init__(staging, initial)
        self._orders: dict[str, _Order] = {}
        self._last: dict[str, tuple[int, int]] = {}

    def _split(self, step: Step) -> tuple[str, Any, Any]:
        done = step.answer if step.outcome == "ok" else step.asked
        if (
            not isinstance(done, list)
            or len(done) != 1
            or not isinstance(done[0], list)
            or len(done[0]) != len(("f", "key", "value"))
        ):
            raise Unfit(step.line, f"the transaction {shown(done)} has not exactly one operation; {TRANSACTIONS}")
        f, key, value = done[0]
        if str(f) not in {"append", "r"}:
            raise Unfit(step.line, f"{shown(f)} is neither :append nor :r")
        step.f = str(f)
        return key_text(key), value, value

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep an append, or a read with its list."""
        if step.f == "append":
            self.keep(step, "append", key, staged(asked))
            return
        if step.outcome != "ok":
            return
        answer = [] if answer is None else answer
        if not isinstance(answer, list) or isinstance(answer, EdnSet):
            raise Unfit(step.line, f"a read of a list must return a list, not {shown(answer)}")
        self._extend(step.line, key, json.loads(staged(answer)))
        self._last[key] = max(self._last.get(key, (0, 0)), (step.start, step.line))
        self.keep(step, "read", key, staged(answer))

    def _extend(self, line: int, key: str, elements: list[str]) -> None:
        """Compare a list with the longest one of its key, which it may replace."""
        digests, chain = [], blake2b(digest_size=16)
        for element in elements:
            chain.update(f"{len(element)}:{element}".encode())
            digests.append(chain.digest())
        known = self._orders.get(key)
        common = min(len(digests), len(known.digests) if known else 0)
        if known and common and digests[common - 1] != known.digests[common - 1]:
            raise Unfit(
                line, f"the list of key {key!r} is no beginning of one read earlier, or the other way round; {FORKED}"
            )
        if known is None or len(digests) > len(known.digests):
            self._orders[key] = _Order(elements, digests)

    def operations(self) -> Iterator[Numbered]:
        """Yield writes and reads of lengths, and appends and final reads."""
        self.refuse_reuse("append", "the element")
        self.staging.run(
            "INSERT OR IGNORE INTO number VALUES (?, ?, ?)",
            (
                (key, element, place)
                for key, order in self._orders.items()
                for place, element in enumerate(order.elements, 1)
            ),
        )
        self.staging.run("CREATE TEMP TABLE longest (key TEXT PRIMARY KEY, length INTEGER)")
        lengths = ((key, len(order.elements)) for key, order in self._orders.items())
        self.staging.run("INSERT INTO longest VALUES (?, ?)", lengths)
        self.staging.run("""INSERT INTO number SELECT key, value,
                coalesce((SELECT length FROM longest WHERE longest.key = c.key), 0)
                + row_number() OVER (PARTITION BY key ORDER BY start)
            FROM call c WHERE kind = 'append' AND outcome != 'fail'
            AND NOT EXISTS (SELECT 1 FROM number WHERE number.key = c.key AND number.value = c.value)""")
        query = """SELECT line, kind, session, key, call.value, start, "end", outcome, node, error, version
            FROM call LEFT JOIN number USING (key, value) ORDER BY coalesce("end", start), seq"""
        for *row, version in self.staging.rows(query):
            call = Call(*row)
            yield from ((operation, call.line) for operation in self._views(call, version))

    def _views(self, call: Call, version: int | None) -> Iterator[Operation]:
        listed = call._replace(session=f"{call.session}/list", key=f"{call.key}/list")
        if call.kind == "append":
            write = register_operation(call, version)
            if isinstance(write, Write):
                write.version = version  # a failed append that a read shows is a phantom
            yield write
            yield _append(listed)
            return
        yield register_operation(call, len(json.loads(call.value or "[]")))
        if self._last[call.key] == (call.start, call.line):
            yield _final(listed)


TRANSACTIONS = "isolation between the operations of a transaction is for Elle to judge"
FORKED = "Elle calls that incompatible-order"

MODELS: tuple[type[Model], ...] = (
    RegisterModel,
    KeyValueModel,
    CounterModel,
    SetModel,
    UniqueIdsModel,
    ListAppendModel,
)

REFUSED = {
    "cas": CAS,
    "enqueue": "queues have no versions",
    "dequeue": "queues have no versions",
    "transfer": "transfers between accounts are transactions, which Jepsen's bank checker judges",
}


def model_of(steps: Iterable[Step]) -> type[Model]:
    """Return the model of a log, chosen by its first calls: reads show whether an `:add` is to a set or a counter."""
    has_adds = False
    collections: bool | None = None
    for step in steps:
        if step.f in REFUSED:
            raise Unfit(step.line, f":{step.f} is not supported: {REFUSED[step.f]}")
        models = [model for model in MODELS if step.f in model.calls]
        if not models:
            raise Unfit(step.line, f":{step.f} is of no workload that can be imported; docs/histories.md lists them")
        if len(models) == 1:
            return models[0]
        has_adds = has_adds or step.f == "add"
        if step.f == "read" and step.outcome == "ok" and collections is None:
            keyed = is_pair(step.asked) and is_pair(step.answer)
            collections = isinstance(step.answer[1] if keyed else step.answer, list)
        if has_adds and collections is not None:
            return SetModel if collections else CounterModel
    return SetModel if has_adds or collections else RegisterModel


def check_call(step: Step, model: Model) -> None:
    """Raise `Unfit` if a call is not of the model's workload."""
    if step.f in REFUSED:
        raise Unfit(step.line, f":{step.f} is not supported: {REFUSED[step.f]}")
    if step.f not in model.calls:
        known = ", ".join(f":{call}" for call in sorted(model.calls))
        raise Unfit(step.line, f":{step.f} does not belong to a history of {known}")
