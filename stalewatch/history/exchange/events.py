"""Logs of Jepsen and porcupine as calls: an invocation and its completion become one.

Time. Such a log is in the order in which one process saw its events: an invocation is recorded before the call begins,
a completion after it has ended. So a completion on an earlier line than an invocation did end before it, also if both
have the same `:time`; our judge, for which operations that touch are concurrent, would not see that. Hence every event
gets a time above that of the event before it: its own `:time`, or one nanosecond more than the last.

Processes. One that crashes (`:info`) is replaced by one with another number, so each number is a session of its own and
sequential. A call that ended in `:info` or not at all may take effect whenever: a write of it never ended.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from stalewatch.history.exchange.edn import EdnSet as EdnSet  # noqa: PLC0414 # exported
from stalewatch.history.exchange.edn import dump
from stalewatch.history.operation import Outcome

LONGEST_SHOWN = 40
OUTCOMES: dict[str, Outcome] = {"ok": "ok", "fail": "fail", "info": "unknown"}


class Unfit(ValueError):
    """A line that our judge can say nothing exact about, or that breaks its format; the message says why."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line


@dataclass
class Step:
    """A call: what was asked for, what came back, and when."""

    line: int
    process: int
    f: str
    asked: Any
    key: Any
    start: int
    more: dict[str, Any]
    answer: Any = None
    end: int | None = None
    outcome: Outcome = "unknown"
    error: str | None = None


class Pairing:
    """Pairs of invocations and completions; yields steps in the order of their ends, unfinished ones last."""

    def __init__(self, *, exact_times: bool = False) -> None:
        self._open: dict[int, Step] = {}
        self._now = 0
        self._exact = exact_times
        self.nemesis = 0
        """How many events were left out since no client caused them."""
        self.timed = True

    def take(self, line: int, event: object) -> Step | None:
        """Take the next event; return the call that it completes, if it completes one."""
        if not isinstance(event, dict):
            raise Unfit(line, "not a map: an operation is a map such as {:process 0, :type :invoke, :f :read}")
        process, kind = event.get("process"), event.get("type")
        if kind not in {"invoke", *OUTCOMES}:
            raise Unfit(line, f"`:type` must be invoke, ok, fail or info, not {shown(kind)}")
        now = self._time(line, event)
        if type(process) is not int:
            self.nemesis += 1
            return None
        if kind == "invoke":
            self._invoke(line, process, event, now)
            return None
        step = self._open.pop(process, None)
        if step is None:
            raise Unfit(line, f"process {process} completes what it has not invoked")
        if str(event.get("f")) != step.f:
            raise Unfit(line, f"process {process} completes {shown(event.get('f'))}, but had invoked {step.f}")
        step.answer, step.end, step.outcome = event.get("value"), now, OUTCOMES[kind]
        step.error = None if event.get("error") is None else text(event["error"])
        step.more |= event
        return step

    def _invoke(self, line: int, process: int, event: dict[str, Any], now: int) -> None:
        if process in self._open:
            first = self._open[process].line
            raise Unfit(line, f"process {process} invokes again before its call of line {first} has ended")
        f = event.get("f")
        if not isinstance(f, str):
            raise Unfit(line, "an invocation needs an `:f`")
        self._open[process] = Step(line, process, str(f), event.get("value"), event.get("key"), now, dict(event))

    def _time(self, line: int, event: dict[str, Any]) -> int:
        time = event.get("time")
        if time is None:
            self.timed, time = False, self._now + 1
        if type(time) is not int:
            raise Unfit(line, f"`:time` must be an integer, not {shown(time)}")
        self._now = time if self._exact else max(time, self._now + 1)
        return self._now

    def rest(self) -> Iterator[Step]:
        """Yield the calls that never ended."""
        yield from self._open.values()


def shown(value: object) -> str:
    """Return a value for a message, cut."""
    text = dump(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def is_pair(value: object) -> bool:
    """Return whether a value is a vector of two."""
    return type(value) is list and len(value) == len(("key", "value"))


def text(value: object) -> str:
    """Return a name: a string as it is, anything else as EDN."""
    return value if type(value) is str else dump(value)


def key_text(value: object) -> str:
    """Return a key's name; a string that could be mistaken for another value stays in quotes: "1" is not 1."""
    if (
        type(value) is str
        and value
        and (value[0].isalpha() or value[0] == "_")
        and value not in {"nil", "true", "false"}
    ):
        return value
    return dump(value)


def staged(value: object) -> str:
    """Return a value as text: two are equal exactly if their texts are; a collection is a JSON list of such texts."""
    if isinstance(value, list):
        return json.dumps([dump(item) for item in value], separators=(",", ":"))
    return dump(value)
