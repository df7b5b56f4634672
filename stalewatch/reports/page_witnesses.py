"""Witnesses as space-time diagrams: a lane a session and node, a bar an operation, an arrow from what a read missed.

Places are percentages of the time from the first to the last moment of a witness, so that a diagram fits any width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports.words import span

Operation = Mapping[str, Any]
Row = dict[str, Any]

CAUSES: Mapping[str, str] = {
    "lag": "replication lag",
    "lost": "the newer version was lost in the end",
    "vanished": "the final read holds nothing as new",
    "conflict": "conflict: the newer version is a sibling of the one shown",
    "monotonic_writes": "its author had written the missing version before",
    "writes_follow_reads": "its author had read the missing version before",
    "failed": "the write had failed",
    "not_started": "the write started only after the read",
    "never_written": "no such write",
    "duplicate": "it was there twice",
    "phantom": "nobody appended it, or its append failed",
    "smaller": "smaller than an id drawn before",
}

LANE_PX, BAR_PX = 44, 30
"""The height of a lane, and how far below its top the middle of its bars is."""

ENDLESS_SCALE = 1.25
"""If an operation never ended, the scale is this much longer than the others need, so that its bar stands out."""

NO_ARROW = frozenset({"phantom_reads", "unexpected_items", "conflicts"})
"""Guarantees whose witnesses show nothing that the last operation missed."""


def diagrams(result: Mapping[str, Any]) -> list[Row]:
    """Return the violated guarantees of a run, each with its witnesses."""
    run = str(result.get("run") or "")
    return [
        {"guarantee": name, "witnesses": [_diagram(name, _without_run(one, run)) for one in row["witnesses"]]}
        for name, row in result["guarantees"].items()
        if row["witnesses"]
    ]


def _without_run(witness: Mapping[str, Any], run: str) -> Mapping[str, Any]:
    """Return a witness with the short names of its keys: the run's id, which starts them all, tells nothing here."""
    operations = [
        {**operation, "key": f"key {operation['key'].removeprefix(f'{run}-')}"} for operation in witness["operations"]
    ]
    return {**witness, "operations": operations}


def _diagram(guarantee: str, witness: Mapping[str, Any]) -> Row:
    operations = witness["operations"]
    first = min(operation["start"] for operation in operations)
    last = max(operation["end"] or operation["start"] for operation in operations)
    endless = any(operation["end"] is None for operation in operations)
    length = max(1, last - first) * (ENDLESS_SCALE if endless else 1)
    lanes = list(dict.fromkeys(map(_lane, operations)))
    rows = [_bar(operation, number, first, length) for number, operation in enumerate(operations, start=1)]
    for row, operation in zip(rows, operations, strict=True):
        row["top"] = lanes.index(_lane(operation)) * LANE_PX + BAR_PX
    return {
        "sentence": witness_sentence(guarantee, witness),
        "lanes": [{"name": lane, "top": number * LANE_PX} for number, lane in enumerate(lanes)],
        "height": len(lanes) * LANE_PX,
        "operations": rows,
        "arrow": None if guarantee in NO_ARROW or len(rows) == 1 else _arrow(rows[-2], rows[-1]),
        "length": span(length / 1e9),
    }


def _lane(operation: Operation) -> str:
    who = f"session {operation['session']}" if operation.get("session") else "final read"
    return f"{who} at {operation['node']}" if operation.get("node") else who


def _arrow(missed: Row, read: Row) -> Row | None:
    """Return the arrow from the end of what was missed to the start of what missed it."""
    begin, end = missed["left"] + missed["width"], read["left"]
    if missed["open"] or end < begin:
        return None
    top, bottom = sorted((missed["top"], read["top"]))
    down = read["top"] >= missed["top"]
    # Near the right edge the head points down or up, where a horizontal one would have no room.
    return {"left": begin, "width": end - begin, "top": top, "height": bottom - top, "down": down}


def _bar(operation: Operation, number: int, first: int, length: float) -> Row:
    """Return a bar with its place in percent, and the operation in words with times in ms since the first one."""
    start, end = operation["start"], operation["end"]
    width = (first + length if end is None else end) - start
    return {
        "number": number,
        "kind": operation["op"],
        "words": f"{_who(operation)} {_did(operation)} {operation['key']}{_at(operation)}{_outcome(operation)}",
        "times": f"{_offset_ms(start - first)} to {'never' if end is None else _offset_ms(end - first)} ms",
        "left": round((start - first) / length * 100, 3),
        "width": round(width / length * 100, 3),
        "open": end is None,
    }


def _offset_ms(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f}"


def _outcome(operation: Operation) -> str:
    outcome = operation.get("outcome", "ok")
    error = f": {operation['error']}" if operation.get("error") else ""
    return "" if outcome == "ok" else f" ({outcome}{error})"


def _who(operation: Operation) -> str:
    return f"session {operation['session']}" if operation.get("session") else "the final read"


def _at(operation: Operation) -> str:
    return f" at {operation['node']}" if operation.get("node") else ""


def _did(operation: Operation) -> str:
    """Return what an operation did, in words that its key follows."""
    match operation["op"]:
        case "write":
            return f"wrote version {operation.get('version')} to"
        case "append":
            return f"appended item {operation.get('item')} to"
        case "draw":
            return f"drew {operation.get('value')} from"
    seen = ", ".join(_seen(operation)) or "nothing"
    depends = operation.get("depends")
    cause = f", which depends on version {depends['version']} of {depends['key']}," if depends else ""
    return f"showed {seen} of" if operation["op"] == "final" else f"read {seen}{cause} from"


def _seen(operation: Operation) -> Iterator[str]:
    is_list = operation.get("items") is not None or operation.get("items_left_out")
    if operation.get("version") is not None and not is_list:
        yield "nothing (version 0)" if operation["version"] == 0 else f"version {operation['version']}"
    if operation.get("siblings"):
        yield f"siblings {', '.join(str(version) for version in operation['siblings'])}"
    if operation.get("items") is not None:
        yield f"{len(operation['items']):,} items"
    if operation.get("items_left_out"):
        yield f"{operation['items_left_out']:,} items"


def witness_sentence(guarantee: str, witness: Mapping[str, Any]) -> str:
    """Return what a witness proves, in a sentence, and its cause."""
    operations = witness["operations"]
    words = _SENTENCES.get(guarantee, _read_later)(operations) if len(operations) > 1 else _alone(operations)
    details = []
    if witness.get("cause"):
        details.append(CAUSES.get(witness["cause"], str(witness["cause"])))
    if witness.get("staleness_s") is not None:
        details.append(f"stale for {span(witness['staleness_s'])}")
    why = f" ({', '.join(details)})" if details else ""
    return f"{words[:1].upper()}{words[1:]}{why}."


def _alone(operations: Sequence[Operation]) -> str:
    (only,) = operations
    return f"{_who(only)} {_did(only)} {only['key']}{_at(only)}"


def _after(earlier: Operation, later: Operation) -> str:
    if earlier["end"] is None or later["start"] < earlier["end"]:
        return "and"
    return f"and {span((later['start'] - earlier['end']) / 1e9)} later"


def _read_later(operations: Sequence[Operation]) -> str:
    *_, missed, read = operations
    who = "" if read.get("session") and read.get("session") == missed.get("session") else f"{_who(read)} "
    what = f"drew {read.get('value')}" if read["op"] == "draw" else f"read {', '.join(_seen(read)) or 'nothing'}"
    return f"{_who(missed)} {_did(missed)} {missed['key']}{_at(missed)}, {_after(missed, read)} {who}{what}{_at(read)}"


def _final(operations: Sequence[Operation]) -> str:
    write, final = operations[-2:]
    shown = "it is missing" if write["op"] == "append" else f"there was {', '.join(_seen(final)) or 'nothing'}"
    return (
        f"{_who(write)} {_did(write)} {write['key']}, {write.get('node') or 'the database'} acknowledged it, "
        f"{_after(write, final).replace(' later', ' later,')} in the final read, {shown}"
    )


def _phantom(operations: Sequence[Operation]) -> str:
    read, write = operations
    return f"{_who(read)} {_did(read)} {read['key']}{_at(read)}, and {_who(write)} {_did(write)} it{_outcome(write)}"


_SENTENCES: Mapping[str, Callable[[Sequence[Operation]], str]] = {
    "lost_writes": _final,
    "phantom_reads": _phantom,
}
"""Of the guarantees whose witnesses are not an operation and a later read that should have shown it."""
