"""Splits the judging of a history by key over several processes; the result is the same as that of one.

One process reads the history and checks the rules of files, as if it were alone: sessions, versions written twice,
turns, the order of lines. So bad input has the same file, line and reason whatever the number of jobs. It passes the
lines on to the others, or judges the operations itself if there are none.

Operations are judged in batches, key by key, because an operation of another key finds the processor's caches cold.
`Shard.take` says why that changes nothing.

Why the number of processes changes nothing:

- All state of a judge belongs to a key, and so does every violation. `SessionView` and the past of `SessionFiles` are
  what a session did to one key. What an operation finds and leaves there depends on the operations of that key before
  it, which a shard gets in their order, and on the sources, which it knows.
- The one exception is consistent_prefix: a read says what its session must find under another key. If that key belongs
  to another shard, the read goes there as well, at its place in the order, but only to be learnt from.
- Counts add up. A distribution rounds its values once it has seen too many different ones; rounding after the sum, or
  twice, gives the same as rounding each.
- Violations are known by their place in the history: that of the operation that revealed them, and for those found at
  the end, that at which a key began to wait for it. One judge finds them in that order. No two shards have the same
  place, and in each they rise, so the first five of all are among the first five of each.
- Causes are listed in the order of their first violation in the same sense. `lost` is not known before the end, so it
  is the last one.
"""

import gc
import os
import pickle
import subprocess
import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import IO, NamedTuple

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import WITNESSES, Findings, Verdict, Violation
from stalewatch.history.codec import decode_lines, encode_lines
from stalewatch.history.operation import Fault, Operation, Read, Record
from stalewatch.history.reader import BadHistory, History, OperationBlock

LEAST_BYTES = 1 << 24
"""The shortest history that several jobs judge by default: starting one takes the time of 50,000 operations."""

COMPRESSION = 10
"""About how many times compressed histories expand."""

MOST_JOBS = 4
"""The most jobs by default: more would wait for the one that reads."""

BATCH = 1 << 14
"""About how many operations are read between two deliveries to the shards."""

PIPE_BYTES = 1 << 20

SLOTS = 256
"""Keys are spread over so many slots, and slots over the jobs that judge."""

_Rank = tuple[bool, int]
"""Whether it was found at the end, and its place in the history."""

_LAST: _Rank = (True, 1 << 63)


class Part(NamedTuple):
    """The findings of one shard, and for each guarantee the ranks of its witnesses, and of the first of each cause."""

    findings: Findings
    witnesses: dict[str, list[_Rank]]
    causes: dict[str, dict[str, _Rank]]


class Batch(NamedTuple):
    """The places of some operations on their way to a shard.

    A number is the place in the history times the number of sources, plus the source; or the complement of that for an
    operation that is only to be learnt from.
    """

    numbers: "array[int]"
    sizes: "array[int] | None"
    """How many operations of one key follow each other; None if they are in the order of the history."""


class Shard:
    """The judge of some of the keys, which notes where in the history it finds what."""

    def __init__(self, context: JudgeContext) -> None:
        self.judge = Judge(context)
        self._context = context
        self._witnesses: dict[str, list[_Rank]] = {}
        self._causes: dict[str, dict[str, _Rank]] = {}

    def take(self, batch: Batch, operations: Sequence[Operation | Record], _lines: Sequence[bytes] = ()) -> None:
        """Judge operations, those of each key in the order of the history.

        What is usual is judged key by key. The first operation of a key that is not, and those of the key after it, are
        judged later in the order of the history, with those of other keys. Keys of a grouped batch have nothing to do
        with each other, and only unusual operations find anything.
        """
        numbers = batch.numbers
        if batch.sizes is None:
            self._take_in_order(zip(numbers, operations, strict=True))
            return
        later: list[tuple[int, Operation | Record]] = []
        begin = 0
        for size in batch.sizes:
            group = operations[begin : begin + size]
            passed = self.judge.pass_usual(group[0].key, group)  # type: ignore[union-attr,arg-type] # no Fault or Close
            if passed < size:
                later += zip(numbers[begin + passed : begin + size], group[passed:], strict=True)
            begin += size
        later.sort(key=itemgetter(0))
        self._take_in_order(later)

    def _take_in_order(self, numbered: Iterable[tuple[int, Operation | Record]]) -> None:
        observe, place, sources = self.judge.observe, self._context.place, len(self._context.sources)
        for number, operation in numbered:
            if number < 0:
                self._learn(operation, ~number % sources)
                continue
            place.number = number
            found = observe(operation, number % sources)  # type: ignore[arg-type] # no Close is passed on
            if found:
                self._note(found, at_the_end=False)

    def _learn(self, read: Operation | Record, source: int) -> None:
        if isinstance(read, Read) and read.depends is not None:
            self.judge.learn_dependency(read, read.depends, source)

    def _note(self, found: Iterable[Violation], *, at_the_end: bool) -> None:
        rank = at_the_end, self._context.place.number
        for violation in found:
            witnesses = self._witnesses.setdefault(violation.guarantee, [])
            if len(witnesses) < WITNESSES:
                witnesses.append(rank)
            if violation.cause is not None:
                self._causes.setdefault(violation.guarantee, {}).setdefault(violation.cause, rank)

    def finish(self) -> Part:
        """Decide what had to wait for the end, and return everything found."""
        for violation in self.judge.conclude():
            self._note([violation], at_the_end=True)
        return Part(self.judge.findings(), self._witnesses, self._causes)


def merged(parts: Sequence[Part]) -> Findings:
    """Return the findings of all shards as those of one judge."""
    total = Findings()
    for part in parts:
        total.merge(part.findings)
    for verdict in total.verdicts.values():
        _put_in_order(verdict, parts)
    return total


def _put_in_order(verdict: Verdict, parts: Sequence[Part]) -> None:
    """Put witnesses and causes in the order in which one judge finds them."""
    name = verdict.name
    found = chain.from_iterable(
        zip(part.witnesses.get(name, ()), part.findings.verdicts[name].witnesses, strict=True) for part in parts
    )
    verdict.witnesses = [witness for _, witness in sorted(found, key=lambda pair: pair[0])[:WITNESSES]]
    first: dict[str, _Rank] = {}
    for cause, rank in chain.from_iterable(part.causes.get(name, {}).items() for part in parts):
        first[cause] = min(rank, first.get(cause, _LAST))
    causes = sorted(verdict.causes, key=lambda cause: first.get(cause, _LAST))
    verdict.causes = Counter({cause: verdict.causes[cause] for cause in causes})


def number_of_jobs(paths: Sequence[Path]) -> int:
    """Return how many jobs pay for files of this size on this machine."""
    size = sum(path.stat().st_size * (COMPRESSION if path.suffix in {".gz", ".zst"} else 1) for path in paths)
    if size < LEAST_BYTES:
        return 1
    return min(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, MOST_JOBS)


class _Queue:
    """Operations on their way to one shard, as operations or, if it `takes_lines` and these are known, as lines."""

    def __init__(
        self, deliver: Callable[[Batch, list[Operation], list[bytes]], None], *, takes_lines: bool = False
    ) -> None:
        self._deliver = deliver
        self._takes_lines = takes_lines
        self._empty()

    def _empty(self) -> None:
        self._numbers, self._sizes = array("q"), array("q")
        self._operations: list[Operation] = []
        self._lines: list[bytes] = []

    def add(self, number: int, operation: Operation) -> None:
        """Add an operation."""
        self._numbers.append(number)
        self._operations.append(operation)

    def add_group(self, numbers: Iterable[int], indexes: Sequence[int], read: "_Read") -> None:
        """Add those operations, of one key, of what was read."""
        self._sizes.append(len(indexes))
        self._numbers.extend(numbers)
        if self._takes_lines and read.lines is not None:
            self._lines += [read.lines[index] for index in indexes]
        else:
            self._operations += [read.operations[index] for index in indexes]

    def flush(self, *, grouped: bool) -> None:
        """Deliver what is there."""
        if self._numbers:
            batch = Batch(self._numbers, self._sizes if grouped else None)
            self._deliver(batch, self._operations, self._lines)
            self._empty()


class _Read:
    """What was read since the last delivery: operations, their sources and, if all are known, their lines."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.sources: list[int] = []
        self.lines: list[bytes] | None = []

    def add(self, block: OperationBlock) -> None:
        """Add a block."""
        self.operations += block.operations
        self.sources += block.sources
        if block.lines is None or self.lines is None:
            self.lines = None
        else:
            self.lines += block.lines.split(b"\n")[: len(block.operations)]


class _Job:
    """Another process that judges a shard. It ends when its input does, whatever has become of this one."""

    PROGRAM = "import sys; sys.path[:] = sys.argv[1:]; from stalewatch.checkers.shards import serve; serve()"

    def __init__(self, history: History) -> None:
        self._path = history.paths[0]
        self.process = subprocess.Popen(  # noqa: S603 # this Python
            [sys.executable, "-c", self.PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
            pipesize=PIPE_BYTES,
        )
        self._send((tuple(history.sources), history.horizon_ns))

    def deliver(self, batch: Batch, operations: Sequence[Operation], lines: Sequence[bytes]) -> None:
        """Pass operations on, as the lines that they were read from, or new ones: that is faster than pickling."""
        self._send((tuple(batch), b"\n".join(lines) if lines else encode_lines(operations)[:-1]))

    def part(self) -> Part:
        """Return what it found."""
        self._send(None)
        return self._answer()

    def _send(self, message: object) -> None:
        try:
            pickle.dump(message, _stream(self.process.stdin), protocol=5)
            _stream(self.process.stdin).flush()
        except BrokenPipeError:
            self._answer()
            raise self._died() from None

    def _answer(self) -> Part:
        try:
            part: Part | None = pickle.load(_stream(self.process.stdout))  # noqa: S301 # from a process of ours
        except (EOFError, pickle.UnpicklingError):
            raise self._died() from None
        if part is None:
            raise MemoryError
        return part

    def _died(self) -> BadHistory:
        code = self.process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"exited with {code}"
        return BadHistory(
            self._path, None, f"a process that judged some of the keys {how}; it may have been out of memory"
        )

    def end(self) -> None:
        """End the process, if it has not, and close its pipes."""
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with suppress(BrokenPipeError):  # what was not sent yet
                _stream(stream).close()
        self.process.wait()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 # it was asked for
    return stream


def serve() -> None:
    """Judge the shard that another process sends on standard input, and write what was found on standard output."""
    gc.disable()  # operations hold no cycles
    stream = sys.stdin.buffer
    answer: Part | None = None
    try:
        shard = Shard(JudgeContext(*pickle.load(stream)))  # noqa: S301 # from the process that started this one
        while (message := pickle.load(stream)) is not None:  # noqa: S301
            batch, lines = message
            shard.take(Batch(*batch), decode_lines(lines))
        answer = shard.finish()
    except EOFError:
        return  # the other one has given up
    except MemoryError:
        pass
    pickle.dump(answer, sys.stdout.buffer, protocol=5)


def _table(queues: Sequence[_Queue]) -> list[_Queue]:
    """Return the queue of each slot of keys.

    Reading takes about three quarters of the time of judging. So with one other job, the process that reads judges an
    eighth of the slots itself; with more others, or fewer, there is nothing to balance.
    """
    judging = queues[1:] or queues
    own = SLOTS // 8 if len(judging) == 1 else 0
    return [queues[0] if slot < own else judging[slot % len(judging)] for slot in range(SLOTS)]


@contextmanager
def _started(history: History, number: int) -> Iterator[list[_Job]]:
    with ExitStack() as ends:
        jobs = []
        for _ in range(number):
            job = _Job(history)
            ends.callback(job.end)
            jobs.append(job)
        yield jobs


def judge_in_shards(history: History, jobs: int, progress: Callable[[int, int], None]) -> Judge:
    """Return a finished judge of the history, which `jobs` processes judge, this one included.

    `progress` is called after every batch with the number of operations so far, and the source of the last.
    """
    own = Shard(JudgeContext(tuple(history.sources), history.horizon_ns))
    with _started(history, jobs - 1) as others:
        _feed(history, [_Queue(own.take), *(_Queue(job.deliver, takes_lines=True) for job in others)], progress)
        findings = merged([own.finish(), *(job.part() for job in others)])
    own.judge.adopt(findings)
    return own.judge


def _feed(history: History, queues: Sequence[_Queue], progress: Callable[[int, int], None]) -> None:
    """Deliver every operation to the queue of its key, and what it says of another key to that one's."""
    table, files = _table(queues), len(history.sources)
    place = 0
    for read in _batches(history):
        groups = _by_key(read.operations) if files == 1 else None
        if groups is None:
            _add_in_order(read, place + 1, table, files)
        else:
            for key, indexes in groups.items():
                table[hash(key) % SLOTS].add_group([place + 1 + index for index in indexes], indexes, read)
        for queue in queues:
            queue.flush(grouped=groups is not None)
        place += len(read.operations)
        progress(place, read.sources[-1])


def _batches(history: History) -> Iterator[_Read]:
    """Yield as many operations at a time as make groups of some size by their keys."""
    read = _Read()
    for block in history.blocks():
        read.add(block)
        if len(read.operations) >= BATCH:
            yield read
            read = _Read()
    if read.operations:
        yield read


def _by_key(operations: Sequence[Operation]) -> Mapping[str, list[int]] | None:
    """Return the indexes of each key's operations; None if one says something of another key."""
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, operation in enumerate(operations):
        if isinstance(operation, Fault):
            continue
        groups[operation.key].append(index)
        if type(operation) is Read and operation.depends is not None:
            return None
    return groups


def _add_in_order(read: _Read, first: int, table: Sequence[_Queue], files: int) -> None:
    """Add operations, of which the first has that place, and what they say of other keys, to the queues of the keys."""
    for place, (operation, source) in enumerate(zip(read.operations, read.sources, strict=True), first):
        if isinstance(operation, Fault):
            continue
        queue = table[hash(operation.key) % SLOTS]
        number = place * files + source
        queue.add(number, operation)
        if type(operation) is Read and operation.depends is not None:
            effect = operation.outcome == "ok" and operation.version is not None
            other = table[hash(operation.depends.key) % SLOTS]
            if effect and other is not queue:
                other.add(~number, operation)
