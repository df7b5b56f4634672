"""The page of a matrix: a heat map for each provocation, in which every cell opens its proof; one file, no scripts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stalewatch.matrix import report
from stalewatch.matrix.report import Document, contradictions, figure, figures, percent
from stalewatch.reports import page
from stalewatch.reports.page_witnesses import diagrams

FOLDER = Path(__file__).parent

WORDS: Mapping[str, str] = {
    "holds": "holds",
    "violated": "violated",
    "no_evidence": "no evidence",
    "not_applicable": "not applicable",
}


def render(matrices: Sequence[Document]) -> str:
    """Return the page of one or several matrices; raise `stalewatch.reports.page.PageUnavailable`."""
    page.require()
    styles = (page.FOLDER / "page.css").read_text(encoding="utf-8") + (FOLDER / "page.css").read_text(encoding="utf-8")
    shown = [_matrix(number, one) for number, one in enumerate(matrices)]
    return str(page.template(FOLDER).render(styles=styles, matrices=shown))


def write(path: Path, matrices: Sequence[Document]) -> None:
    """Write the page, and create the folders above it."""
    text = render(matrices)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", errors="replace")


def _matrix(number: int, matrix: Document) -> dict[str, Any]:
    names = report.columns(matrix)
    numbered = {cell["name"]: f"m{number}c{place}" for place, cell in enumerate(matrix["cells"])}
    return {
        "database": report.heading(matrix),
        "date": matrix["date"].replace("T", " ").replace("Z", " UTC"),
        "version": matrix["stalewatch"],
        "servers": report.versions(matrix),
        "levels": matrix["levels"],
        "summary": [line for line in report.summary(matrix) if line and not line.startswith(("contradiction", " "))],
        "contradictions": [
            {"anchor": f"{numbered[one.cell['name']]}-{one.guarantee}", "sentence": one.sentence, **one.judged}
            for one in contradictions(matrix)
        ],
        "names": names,
        "headings": [report.HEADINGS[name].replace("-\n", "").replace("\n", " ") for name in names],
        "sections": [
            {
                "anchor": f"m{number}-{provocation}",
                "title": f"{provocation}: {matrix['provocations'][provocation]}",
                "rows": [_row(cell, names, numbered[cell["name"]]) for cell in cells],
            }
            for provocation, cells in report.by_provocation(matrix)
        ],
    }


def _row(cell: Document, names: Sequence[str], anchor: str) -> dict[str, Any]:
    proofs = {one["guarantee"]: one["witnesses"][0] for one in diagrams(cell["result"])}
    return {
        "label": cell["label"],
        "command": cell["command"],
        "figures": figures(cell),
        "cells": [_cell(name, cell["guarantees"][name], f"{anchor}-{name}", proofs.get(name)) for name in names],
    }


def _cell(name: str, judged: Document, anchor: str, witness: Document | None) -> dict[str, Any]:
    interval = judged["interval"]
    return {
        **judged,
        "name": name,
        "anchor": anchor,
        "figure": figure(judged),
        "verdict": WORDS[judged["measured"]],
        "bounds": None if interval is None else f"{percent(interval[0])} to {percent(interval[1])}",
        "heat": round(25 + 75 * min(1.0, (judged["rate"] or 0) ** 0.5)) if judged["measured"] == "violated" else 0,
        "witness": witness if judged["measured"] == "violated" else None,
    }
