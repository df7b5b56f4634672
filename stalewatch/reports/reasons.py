"""Why a verdict is what it is: one clause, what broke first, and a witness in a sentence.

Terminals, JUnit files and Markdown summaries use the same words.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from stalewatch.clients.errors import without_credentials
from stalewatch.reports.words import unread_keys

Result = Mapping[str, Any]

FACTS = frozenset({"conflicts"})
"""Guarantees whose violation never makes a run invalid."""

MAX_TEXT = 120
"""The most characters shown of a key, a session or another text from outside."""

MAX_READ = 2000
"""The most characters looked at: the search for passwords takes a time that grows faster than the text."""

CAUSES: Mapping[str, str] = {
    "lag": "replication was behind",
    "lost": "the newer write was lost",
    "conflict": "the newer version was only among conflicting ones",
    "vanished": "something that had been read was gone",
    "duplicate": "it was there more than once",
    "phantom": "nobody wrote it, or its write failed",
}


def shown(text: object) -> str:
    """Return a text from outside cut to one readable length, without passwords; what cannot be printed is escaped."""
    words = readable(text)
    if len(words) > MAX_TEXT:
        words = f"{words[: MAX_TEXT - 3]}..."
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in words)


def readable(text: object) -> str:
    """Return a text without passwords, and of a very long one only the beginning."""
    words = str(text)
    if len(words) <= MAX_READ:
        return without_credentials(words)
    return without_credentials(words[:MAX_READ])[: MAX_READ // 2]  # the cut may have halved an address


def verdict_clause(result: Result) -> str:
    """Return in one clause why the verdict of a run is what it is."""
    guarantees: Mapping[str, Result] = result["guarantees"]
    violated = [name for name, row in guarantees.items() if row["violated"] and name not in FACTS]
    if result["verdict"] == "invalid":
        return f"the database broke a guarantee that was checked: {', '.join(violated)}"
    if result["verdict"] == "valid":
        return f"no guarantee was violated, and {len(_checked(guarantees))} were checked"
    return next(_why_unknown(result))


def _checked(guarantees: Mapping[str, Result]) -> list[str]:
    return [name for name, row in guarantees.items() if row["checked"] and name not in FACTS]


def _why_unknown(result: Result) -> Iterator[str]:
    if not _checked(result["guarantees"]):
        yield "nothing could be checked"
    if result.get("ended_early"):
        yield f"nothing was violated until the run ended early ({shown(result['ended_early'])})"
    if not result.get("complete", True):
        yield "nothing was violated in what was recorded, but something is missing"
    if result.get("unread_keys"):
        yield f"nothing was violated, but lost writes were not checked: {shown(unread_keys(result))}"
    yield "nothing was violated, but not everything could be checked"


def first_broken(result: Result) -> tuple[str, Result] | None:
    """Return the guarantee that was violated first, by the end of the operation that shows it, and that witness."""
    found = [
        (_moment(witness), name, witness)
        for name, row in result["guarantees"].items()
        if name not in FACTS
        for witness in row["witnesses"]
    ]
    return min(found, key=lambda one: one[0])[1:] if found else None


def _moment(witness: Result) -> int:
    last: Result = witness["operations"][-1]
    return int(last["start"] if last["end"] is None else last["end"])


def first_broken_words(result: Result) -> str | None:
    """Return what broke first and its witness as one sentence; None if nothing did."""
    first = first_broken(result)
    if first is None:
        return None
    guarantee, witness = first
    return f"{guarantee}{_since_fault(result, witness)}: {witness_words(witness)}"


def _since_fault(result: Result, witness: Result) -> str:
    """Return how long after a drill's first fault it was."""
    faults = [fault for fault in result.get("faults") or () if fault.get("start") is not None]
    if not faults:
        return ""
    first = min(faults, key=lambda fault: fault["start"])
    seconds = (_moment(witness) - first["start"]) / 1e9
    return (
        f", {abs(seconds):.1f} s {'before' if seconds < 0 else 'after'} {first['fault']} of {first.get('node')} began"
    )


def witness_words(witness: Result) -> str:
    """Return the operations that prove a violation as one sentence, in the order of their starts."""
    operations = sorted(witness["operations"], key=lambda one: one["start"])
    begin = operations[0]["start"]
    parts = [_words(operations[0])]
    parts += [f"{_milliseconds(one['start'] - begin)} later {_words(one)}" for one in operations[1:]]
    cause, staleness_s = witness.get("cause"), witness.get("staleness_s")
    if staleness_s is not None:
        parts.append(f"stale by {_milliseconds(round(staleness_s * 1e9))}")
    if cause:
        parts.append(CAUSES.get(cause, shown(cause).replace("_", " ")))
    return "; ".join(parts)


def _words(operation: Result) -> str:
    key, node = shown(operation.get("key", "")), operation.get("node")
    what = _ACTIONS.get(operation["op"], "{session} did {op} on {key}")
    if operation["op"] == "final" and operation.get("version") is None:
        what = "the final read of {key} showed other items"
    fields = {name: shown(value) for name, value in operation.items()} | {"key": key}
    text = what.format_map({"session": "somebody", "version": "nothing", "item": "?", "value": "?", **fields})
    return f"{text}{f' at {shown(node)}' if node else ''}{_outcome(operation)}"


_ACTIONS: Mapping[str, str] = {
    "write": "{session} wrote version {version} of {key}",
    "read": "{session} read version {version} of {key}",
    "append": "{session} appended {item} to {key}",
    "draw": "{session} drew {value} from {key}",
    "final": "the final read of {key} showed version {version}",
}


def _outcome(operation: Result) -> str:
    outcome, end = operation.get("outcome", "ok"), operation["end"]
    if outcome != "ok":
        return f" (outcome: {shown(outcome)})"
    if operation["op"] in {"write", "append"} and end is not None:
        return f" (acknowledged after {_milliseconds(end - operation['start'])})"
    return ""


def _milliseconds(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:.1f} ms"
