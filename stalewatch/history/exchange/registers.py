"""Registers of other tools, and counters, which are registers of numbers: what our judge may say about them, and why.

A model keeps the calls of its workload on disk (`accept`), and then yields operations of ours (`operations`), each with
the line that it comes from. It refuses what it cannot map exactly: a verdict over it would mean nothing.
"""

import heapq
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, ClassVar

from stalewatch.history.exchange.events import (
    LONGEST_SHOWN,
    Step,
    Unfit,
    is_pair,
    key_text,
    shown,
    staged,
    text,
)
from stalewatch.history.exchange.staging import Call, Staging
from stalewatch.history.operation import Operation, Read, Registers, Write

Numbered = tuple[Operation, int]
"""An operation, and the line that it comes from."""


class Model:
    """A workload: the calls it has, and what they become."""

    calls: ClassVar[frozenset[str]]
    registers: ClassVar[Registers] = "growing"
    default_key: ClassVar[str] = "register"

    def __init__(self, staging: Staging, initial: str) -> None:
        self.staging = staging
        self.initial = {"nil", initial}
        """Values that a key may have before any write."""
        self.notes: list[str] = []
        """What the user should know about the result."""
        self._keyed: bool | None = None

    def accept(self, step: Step) -> None:
        """Keep a call; raise `Unfit`."""
        key, asked, answer = self._split(step)
        self.stage(step, key, asked, answer)

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401 # any value
        """Keep a call of that key, with what was asked for and answered."""
        raise NotImplementedError

    def operations(self) -> Iterator[Numbered]:
        """Yield the operations in the order of their ends; raise `Unfit`."""
        raise NotImplementedError

    def _split(self, step: Step) -> tuple[str, Any, Any]:
        """Return the key of a call and its values without it: those of jepsen.independent are pairs [key value]."""
        asked, answer = step.asked, step.answer
        pair = is_pair(asked)
        if self._keyed is None:
            self._keyed = pair and (asked[1] is None) == (step.f in {"read", "generate"})
        if not self._keyed:
            return self.default_key, asked, step.answer
        if not pair:
            raise Unfit(step.line, f"the value {shown(asked)} is no pair [key value], as those of earlier lines are")
        if step.outcome == "ok" and not (is_pair(answer) and answer[0] == asked[0]):
            raise Unfit(step.line, f"the answer {shown(answer)} is no pair with the key {shown(asked[0])}")
        return key_text(asked[0]), asked[1], answer[1] if is_pair(answer) else None

    def keep(self, step: Step, kind: str, key: str, value: str | None, *, session: str = "") -> None:
        """Stage one row of a call."""
        node, outcome, end = step.more.get("node"), step.outcome, step.end
        if kind in UNBOUNDED and outcome == "unknown":
            end = None  # may take effect whenever
        session = session or f"p{step.process}"
        node = None if node is None else text(node)
        self.staging.add(Call(step.line, kind, session, key, value, step.start, end, outcome, node, step.error))

    def refuse_reuse(self, kind: str, what: str) -> None:
        """Raise `Unfit` at the first value that is written twice to one key; failed writes do not count."""
        query = """SELECT line, earlier, key, value FROM (
                SELECT line, key, value, lag(line) OVER (PARTITION BY key, value ORDER BY line) AS earlier
                FROM call WHERE kind = ? AND outcome != 'fail')
            WHERE earlier IS NOT NULL ORDER BY line LIMIT 1"""
        for line, earlier, key, value in self.staging.rows(query, kind):
            raise Unfit(
                line, f"{what} {value[:LONGEST_SHOWN]} of key {key!r} was used on line {earlier} already; {REUSED}"
            )


UNBOUNDED = {"write", "put", "append", "add", "generate"}
REUSED = "only values that are written once to a key tell which write a read saw"
CAS = (
    "a compare-and-set reads and writes in one step, and fails if another value stands: whether that was right cannot "
    "be told from versions; use a checker of models such as Knossos or porcupine"
)


class RegisterModel(Model):
    """Reads and writes of whole values: Jepsen's register.

    Such a register is overwritten, and its writers do not wait for each other. Numbering writes by their starts and
    judging by that order would be wrong: with w(a) [1,10] and w(b) [2,3], a may take effect after b, and a read of a
    afterwards is right, but would show version 1 after version 2.

    What is exact: let *clean* be an acknowledged write that overlaps no other acknowledged one of its key. Every other
    write is imported as unknown, so that no floor judges a read of its value, and numbered so that each clean write of
    a smaller version had ended when it started (`_number`). Then a read of a clean value v with a floor f > v is wrong
    for any register: w(v) had ended before w(f) started, w(f) took effect before the read started (acknowledged, or
    seen by an earlier read), and nothing writes v again. That needs values written once; the initial value, which is
    version 0, is written never. A failed write has no version, so that a read of its value is a phantom.

    Values that nobody wrote get the smallest versions of their key: they are phantoms, and set no floor for others.
    """

    calls = frozenset({"read", "write"})
    registers: ClassVar[Registers] = "overwriting"

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep a read or a write."""
        if step.f == "read":
            self.keep(step, "read", key, staged(answer) if step.outcome == "ok" else None)
            return
        value = staged(asked)
        if value in self.initial and step.outcome != "fail":
            raise Unfit(step.line, f"{shown(asked)} is written, which is also the initial value of the key; {REUSED}")
        self.keep(step, "write", key, value)

    def operations(self) -> Iterator[Numbered]:
        """Yield reads and writes with versions."""
        self.refuse_reuse("write", "the value")
        self._doubt_concurrent()
        self._number()
        query = """SELECT line, kind, session, key, call.value, start, "end", outcome, node, error, version
            FROM call LEFT JOIN number USING (key, value) ORDER BY coalesce("end", start), seq"""
        for *row, version in self.staging.rows(query):
            call = Call(*row)
            yield register_operation(call, 0 if call.value in self.initial else version), call.line

    def _doubt_concurrent(self) -> None:
        """Make every acknowledged write that overlaps another one of its key an unknown one that never ended."""
        query = """SELECT seq FROM (SELECT seq, start, "end",
                max("end") OVER (PARTITION BY key ORDER BY start
                                 ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before,
                lead(start) OVER (PARTITION BY key ORDER BY start) AS next
            FROM call WHERE kind = 'write' AND outcome = 'ok') WHERE before > start OR next < "end" """
        self.staging.run(f"CREATE TEMP TABLE concurrent AS {query}")
        ((doubted, writes),) = self.staging.rows("""SELECT (SELECT count(*) FROM concurrent),
            (SELECT count(*) FROM call WHERE kind = 'write' AND outcome = 'ok')""")
        self.staging.run(
            """UPDATE call SET outcome = 'unknown', "end" = NULL WHERE seq IN (SELECT seq FROM concurrent)"""
        )
        if doubted:
            self.notes.append(
                f"{doubted:,} of {writes:,} acknowledged writes overlap another write of their key: which of them won "
                "is not known, so they are imported as unknown, and only phantom_reads checks reads of their values"
            )

    def _number(self) -> None:
        """Give each value of a key its version: unwritten ones first, then written ones, clean ones by their ends.

        The others are numbered by their starts, so each has a greater version than the clean writes that had ended.
        """
        self.staging.run("""CREATE TEMP TABLE unwritten AS
            SELECT DISTINCT key, value FROM call WHERE kind = 'read' AND outcome = 'ok'
            EXCEPT SELECT key, value FROM call WHERE kind = 'write' AND outcome != 'fail'""")
        self.staging.run("DELETE FROM unwritten WHERE value = ?", [(value,) for value in self.initial])
        self.staging.run("""INSERT INTO number
            SELECT key, value, row_number() OVER (PARTITION BY key ORDER BY rank, at) FROM (
                SELECT key, value, 0 AS rank, 0 AS at FROM unwritten UNION ALL
                SELECT key, value, 1, CASE outcome WHEN 'ok' THEN "end" ELSE start END
                FROM call WHERE kind = 'write' AND outcome != 'fail')""")


def register_operation(call: Call, version: int | None) -> Read | Write:
    """Return the read or write of a call; a failed write has no version."""
    known: dict[str, Any] = {"session": call.session, "key": call.key, "start": call.start, "outcome": call.outcome}
    known |= {"node": call.node, "error": call.error}
    if call.kind == "read":
        return Read(**known, end=call.start if call.end is None else call.end, version=version)
    return Write(**known, end=call.end, version=None if call.outcome == "fail" else version)


class KeyValueModel(RegisterModel):
    """Puts, appends and gets of texts: porcupine's key-value logs.

    A key that is only put is a register. One that is appended to has the text of all appends since the last put, so the
    text that its i-th write leaves is known as long as its writes follow each other and are all acknowledged; then each
    text is the value of its write. Writes that overlap are refused: which texts are right depends on their order.
    Texts are kept as digests.
    """

    calls = frozenset({"get", "put", "append"})

    def __init__(self, staging: Staging, initial: str) -> None:
        super().__init__(staging, initial)
        self.initial = {_digest(""), "nil"}

    def _split(self, step: Step) -> tuple[str, Any, Any]:
        if type(step.key) is not str:
            raise Unfit(step.line, f"`:key` must be a string, not {shown(step.key)}")
        return step.key, step.asked, step.answer

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep a get with the digest of its text, or a put or an append with its text."""
        value = answer if step.f == "get" and step.outcome == "ok" else asked if step.f != "get" else ""
        if type(value) is not str:
            raise Unfit(step.line, f"`:value` must be a string, not {shown(value)}")
        if step.f == "get":
            self.keep(step, "read", key, _digest(value) if step.outcome == "ok" else None)
        else:
            self.keep(step, step.f, key, value)

    def operations(self) -> Iterator[Numbered]:
        """Yield reads and writes with versions."""
        self.staging.run("CREATE TEMP TABLE left_behind (seq INTEGER PRIMARY KEY, value TEXT)")
        self.staging.run("INSERT INTO left_behind VALUES (?, ?)", self._texts())
        self.staging.run("""UPDATE call SET kind = 'write',
            value = (SELECT value FROM left_behind WHERE left_behind.seq = call.seq) WHERE kind IN ('put', 'append')""")
        return super().operations()

    def _texts(self) -> Iterator[tuple[int, str]]:
        """Yield for each write the digest of the text that it leaves."""
        query = """SELECT seq, line, kind, key, value, start, "end", outcome FROM call
            WHERE kind IN ('put', 'append') ORDER BY key, start"""
        at, end, state, appended, doubt = None, 0, blake2b(digest_size=16), False, False
        for seq, line, kind, key, value, start, ended, outcome in self.staging.rows(query):
            if key != at:
                at, end, state, appended, doubt = key, start, blake2b(digest_size=16), False, False
            appended = appended or kind == "append"
            doubt = doubt or start < end or outcome == "unknown"
            if appended and doubt:
                raise Unfit(line, f"writes of key {key!r} overlap or are unknown, and some append: {OVERLAPPING}")
            end = max(end, ended or 0)
            if outcome == "fail":
                yield seq, "failed"
                continue
            if kind == "put":
                state = blake2b(digest_size=16)
            state.update(value.encode())
            yield seq, state.hexdigest()


OVERLAPPING = "which texts the key may hold depends on their order, which is not known; porcupine can judge such a log"


def _digest(value: str) -> str:
    return blake2b(value.encode(), digest_size=16).hexdigest()


class CounterModel(Model):
    """Adds of one positive amount, and reads: Jepsen's counter.

    Let d be the amount. After the j-th add has ended, by ends, at least j adds have taken effect, and before the j-th
    has started, by starts, fewer than j can have. So a register that only grows, whose write of version j starts with
    the j-th start of an add (failed ones aside) and ends with the j-th end of an acknowledged one, allows a read of
    j * d exactly if the counter does: `stale_reads` is Jepsen's lower bound, `phantom_reads` its upper bound, and
    `read_regressions` holds since a counter that is only added to never falls. Write starts rise with versions, so the
    three together are linearizability. Sessions of writes mean nothing here and are never those of readers.

    Adds of different amounts, or negative ones, are refused: a total would not tell which of them it contains.
    """

    calls = frozenset({"add", "read"})
    default_key = "counter"
    _amount = 0

    def stage(self, step: Step, key: str, asked: Any, answer: Any) -> None:  # noqa: ANN401
        """Keep an add or a read."""
        if step.f == "add":
            if type(asked) is not int or asked < 1 or asked != (self._amount or asked):
                raise Unfit(step.line, f"an add of {shown(asked)}: {UNEVEN}")
            self._amount = asked
            self.keep(step, "add", key, None)
        elif step.outcome == "ok" and type(answer) is not int:
            raise Unfit(step.line, f"a counter's read must return an integer, not {shown(answer)}")
        else:
            self.keep(step, "read", key, None if answer is None else str(answer))

    def operations(self) -> Iterator[Numbered]:
        """Yield writes of 1, 2, 3 ... and reads of the number of adds that they contain."""
        self.staging.run("""INSERT INTO call (line, kind, key, value, start, "end", outcome)
            SELECT s.line, 'write', s.key, s.n, s.start, e."end", CASE WHEN e."end" IS NULL THEN 'unknown' ELSE 'ok' END
            FROM (SELECT line, key, start, row_number() OVER (PARTITION BY key ORDER BY start) AS n
                  FROM call WHERE kind = 'add' AND outcome != 'fail') s
            LEFT JOIN (SELECT key, "end", row_number() OVER (PARTITION BY key ORDER BY "end") AS n
                  FROM call WHERE kind = 'add' AND outcome = 'ok') e ON e.key = s.key AND e.n = s.n""")
        self._assign_sessions()
        query = """SELECT line, kind, session, key, value, start, "end", outcome, node, error
            FROM call WHERE kind != 'add' ORDER BY coalesce("end", start), seq"""
        for row in self.staging.rows(query):
            call = Call(*row)
            yield register_operation(call, None if call.value is None else self._version(int(call.value))), call.line

    def _version(self, total: int) -> int:
        """Return how many adds a total contains; one that no adds make gets a version that nobody wrote."""
        adds, rest = divmod(total, self._amount or 1)
        return IMPOSSIBLE + abs(total) if rest or adds < 0 else adds

    def _assign_sessions(self) -> None:
        """Give writes that overlap different sessions, reusing those that are free."""
        self.staging.run("UPDATE call SET value = value * ? WHERE kind = 'write'", [(self._amount or 1,)])
        self.staging.run("CREATE TEMP TABLE lane (seq INTEGER PRIMARY KEY, session TEXT)")
        self.staging.run("INSERT INTO lane VALUES (?, ?)", self._lanes())
        self.staging.run("""UPDATE call SET session = (SELECT session FROM lane WHERE lane.seq = call.seq)
            WHERE kind = 'write'""")

    def _lanes(self) -> Iterator[tuple[int, str]]:
        busy: list[tuple[int, int]] = []
        lanes = 0
        for seq, start, end in self.staging.rows(
            """SELECT seq, start, "end" FROM call WHERE kind = 'write' ORDER BY start"""
        ):
            if busy and busy[0][0] < start:
                _, lane = heapq.heappop(busy)
            else:
                lanes += 1
                lane = lanes
            heapq.heappush(busy, (start if end is None else end, lane))
            yield seq, f"adds {lane}"


IMPOSSIBLE = 1 << 62
UNEVEN = "only a counter that always grows by the same positive amount tells from a total how many adds it contains"
