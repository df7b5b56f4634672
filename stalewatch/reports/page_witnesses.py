"""The operations that prove a violation, as rows with their times and a bar on a common scale."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stalewatch.reports.page_words import CAUSES, span

Operation = Mapping[str, Any]
Row = dict[str, Any]

OPEN_LENGTH = 1.25
"""The scale's length where an operation never ended, in that of the others, so that its bar can be seen."""

NAMES: Mapping[str, str] = {"final": "final read"}


def witnesses(result: Mapping[str, Any]) -> list[Row]:
    """Return the violated guarantees of a run, each with its witnesses."""
    return [
        {"guarantee": name, "witnesses": [_witness(one) for one in row["witnesses"]]}
        for name, row in result["guarantees"].items()
        if row["witnesses"]
    ]


def _witness(witness: Mapping[str, Any]) -> Row:
    operations = witness["operations"]
    first = min(operation["start"] for operation in operations)
    last = max(operation["end"] or operation["start"] for operation in operations)
    endless = any(operation["end"] is None for operation in operations)
    length = max(1, last - first) * (OPEN_LENGTH if endless else 1)
    return {
        "caption": ", ".join(_caption(witness)),
        "operations": [_row(operation, first, length) for operation in operations],
    }


def _caption(witness: Mapping[str, Any]) -> Iterator[str]:
    if witness.get("cause"):
        yield CAUSES.get(witness["cause"], str(witness["cause"]))
    if witness.get("staleness_s") is not None:
        yield f"stale for {span(witness['staleness_s'])}"


def _row(operation: Operation, first: int, length: float) -> Row:
    """Return an operation: times in ms since the first one, the bar's place and width in percent."""
    start, end = operation["start"], operation["end"]
    width = (first + length if end is None else end) - start
    return {
        "kind": operation["op"],
        "name": NAMES.get(operation["op"], operation["op"]) + _outcome(operation),
        "session": operation.get("session", ""),
        "key": operation["key"],
        "content": _content(operation),
        "node": operation.get("node", ""),
        "start": _offset(start - first),
        "end": "never" if end is None else _offset(end - first),
        "left": round((start - first) / length * 100, 3),
        "width": round(width / length * 100, 3),
        "open": end is None,
    }


def _offset(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f}"


def _outcome(operation: Operation) -> str:
    outcome = operation.get("outcome", "ok")
    error = f": {operation['error']}" if operation.get("error") else ""
    return "" if outcome == "ok" else f" ({outcome}{error})"


def _content(operation: Operation) -> str:
    return ", ".join(_parts(operation))


def _parts(operation: Operation) -> Iterator[str]:
    for name in ("version", "item", "value"):
        if operation.get(name) is not None:
            yield str(operation[name]) if name == "version" else f"{name} {operation[name]}"
    if operation.get("siblings"):
        yield f"beside it {_listed(operation['siblings'])}"
    if operation.get("items") is not None:
        yield f"{len(operation['items']):,} items"
    if operation.get("items_left_out"):
        yield f"{operation['items_left_out']:,} items"
    depends = operation.get("depends")
    if depends:
        yield f"depends on version {depends['version']} of {depends['key']}"


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(str(version) for version in versions)
