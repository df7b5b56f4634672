"""What a cell's run proves: `holds` needs a fault that acted, and a control that shows that it does harm.

A guarantee that was not violated holds only if something could have gone wrong:

1. the cell was provoked, the fault began and ended as planned, and operations succeeded while it was active; and
2. there is a control: the same provocation violated the same guarantee at other levels of this matrix, or, for a
   guarantee of sessions, this very run had reads that were stale because of lag.

Otherwise there is `no_evidence`. A violation needs no provocation: it has a witness.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.matrix.cells import CALM, Cell
from stalewatch.matrix.promises import promise

Result = Mapping[str, Any]

SESSION_GUARANTEES = frozenset({"read_your_writes", "monotonic_reads", "consistent_prefix", "read_regressions"})


class MeasuredCell(NamedTuple):
    """A cell and the JSON result of its run, which took that many seconds in all."""

    cell: Cell
    result: Result
    seconds: float


def judged(cells: Sequence[MeasuredCell]) -> list[dict[str, Any]]:
    """Return, for each cell, what is documented and measured of every guarantee, by its name."""
    return [{name: _judged(one, name, cells) for name in GUARANTEES} for one in cells]


def _judged(one: MeasuredCell, guarantee: str, cells: Sequence[MeasuredCell]) -> dict[str, Any]:
    row = one.result["guarantees"][guarantee]
    said = promise(one.cell, guarantee)
    verdict, why = _verdict(one, guarantee, cells)
    broken = [cause for cause in said.causes if row.get("causes", {}).get(cause)]
    return {
        "documented": said.documented,
        "source": said.source,
        "says": said.says,
        "measured": verdict,
        "why": why,
        "checked": row["checked"],
        "violated": row["violated"],
        "rate": row["rate"],
        "interval": row["interval"],
        "contradiction": bool(broken) or (said.documented == "promised" and verdict == "violated"),
        "broken_causes": broken,
    }


def _verdict(one: MeasuredCell, guarantee: str, cells: Sequence[MeasuredCell]) -> tuple[str, str]:
    """Return the verdict, and why."""
    row = one.result["guarantees"][guarantee]
    if row["verdict"] == "not_applicable":
        return "not_applicable", "this database cannot show it"
    if row["violated"]:
        return "violated", "the witness proves it"
    if not row["checked"]:
        return "no_evidence", "nothing was checked"
    harmless = why_harmless(one)
    if harmless:
        return "no_evidence", harmless
    control = _control(one, guarantee, cells)
    if control is None:
        return "no_evidence", f"this provocation violated it at no other levels either ({_while_active(one)})"
    return "holds", control


def why_harmless(one: MeasuredCell) -> str | None:
    """Return why nothing could have gone wrong in a run, if so."""
    if one.cell.provocation.name == CALM:
        return "nothing was broken"
    if one.cell.provocation.drill is None:
        return None  # the simulator's own delays act in every run
    if one.result.get("drill_trouble"):
        return f"the drill was not completed: {one.result['drill_trouble']}"
    faults = one.result.get("faults") or ()
    if not faults or any(fault["end"] is None for fault in faults):
        return "the fault did not act as planned"
    return _acted_on_nobody(one)


def _acted_on_nobody(one: MeasuredCell) -> str | None:
    """Return why the fault could do no harm although it was active, if so."""
    during = one.result["phases"]["during"]["operations"]
    if not any(counts["ok"] for counts in during.values()):
        return "no operation succeeded during the fault"
    if one.cell.provocation.misses and not during["write"]["ok"]:
        return f"no write could be missed: {_while_active(one)}"
    return None


def _while_active(one: MeasuredCell) -> str:
    """Return what happened while the fault was active: whom it acted on, if a guarantee was not violated."""
    during = (one.result.get("phases") or {}).get("during")
    if not during:
        return "no fault was active"
    shown = (f"{row['ok']} of {sum(row.values())} {kind}s succeeded" for kind, row in during["operations"].items())
    return f"while the fault was active, {' and '.join(shown)}"


def _control(one: MeasuredCell, guarantee: str, cells: Sequence[MeasuredCell]) -> str | None:
    """Return what shows that the guarantee was in danger."""
    if guarantee in SESSION_GUARANTEES and one.result["guarantees"]["stale_reads"].get("causes", {}).get("lag"):
        return "reads of the same run were stale because of lag"
    for other in cells:
        alike = other.cell.provocation == one.cell.provocation and other.cell.group == one.cell.group
        if alike and other.result["guarantees"][guarantee]["violated"]:
            return f"the same provocation violated it at {other.cell.label}"
    return None
