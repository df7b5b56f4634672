"""One HTML page with charts for one run or for several side by side: a single file that needs no network.

Two measures keep text from the results (keys, errors, options) from becoming part of the page: the template escapes
everything, and the page's content security policy lets the browser run its two scripts, by their hashes, and no other.
Besides, control characters are shown as such, and long texts are cut.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stalewatch.reports import answers, lines, page_charts, page_tables, page_witnesses, repeats, words
from stalewatch.reports.files import write_whole
from stalewatch.reports.table import group_labels, labels

FOLDER = Path(__file__).parent
UPLOT = FOLDER / "uplot"
"""The charts' library as its makers publish it, https://github.com/leeoniya/uPlot, and its license."""

PACKAGES = ("jinja2",)

MAX_OPEN_RUNS = 3
"""Up to this many runs are shown in full; of more, each is folded until it is clicked."""

LONGEST_TEXT, LONGEST_COMMAND = 200, 4000
"""Longer texts of results are cut."""

INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Categories of characters that do not show, or change how others do, such as one that reverses the text after it."""


class PageUnavailable(Exception):
    """A package that the page needs is not installed."""


def require() -> None:
    """Raise `PageUnavailable` if a package is missing."""
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise PageUnavailable(f"the page needs {' and '.join(missing)}: pip install {' '.join(PACKAGES)}")


def write(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the page of the JSON results of runs, and create the folders above it; raise `PageUnavailable`."""
    write_whole(path, render(results).encode(errors="replace"))  # a key may hold half a surrogate pair


def render(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the page; raise `PageUnavailable`."""
    require()
    scripts = [_uplot(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    frame = {
        "styles": "".join(file.read_text(encoding="utf-8") for file in (UPLOT / "uPlot.min.css", FOLDER / "page.css")),
        "scripts": scripts,
        "hashes": [_hash(script) for script in scripts],
    }
    return str(template(FOLDER).render(**frame, **content(results)))


@cache
def template(folder: Path) -> Any:  # noqa: ANN401 # jinja2's type, which a bare bench cannot name
    """Return the template `page.html` of a folder; it escapes whatever it shows."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 # the bare bench runs without it

    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def content(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything that the template shows of the results."""
    results = [presentable(result) for result in results]
    names, groups = labels(results), group_labels(results)
    runs = [_run(number, label, result) for number, (label, result) in enumerate(zip(names, results, strict=True))]
    members = repeats.by_group(groups, results)
    figures = {
        "freshness": page_charts.freshness(members),
        **{f"timeline{run['number']}": run.pop("figure") for run in runs},
    }
    return {
        "title": words.title(results, names),
        "overview": answers.overview(results),
        "runs": runs,
        "single": len(runs) == 1,
        "open": len(runs) <= MAX_OPEN_RUNS,
        "side_by_side": repeats.side_by_side(groups, results),
        "repeated": len(members) < len(runs),
        "matrix": page_tables.matrix(results),
        "latencies": page_tables.latencies(names, results),
        "staleness": page_tables.staleness(names, results),
        "options": page_tables.options(results),
        "commands": page_tables.commands(names, results),
        "figures": {name: figure for name, figure in figures.items() if figure is not None},
    }


def _run(number: int, label: str, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": number,
        "label": label,
        "id": result.get("run"),
        "date": words.date(result),
        "verdict": result["verdict"],
        "sentence": answers.verdict_sentence(result),
        "facts": list(words.facts(result)),
        "answers": answers.answers(result),
        "figure": page_charts.timeline(result),
        "nodes": page_tables.nodes(result),
        "freshness": page_tables.freshness(result),
        "recovery": answers.recovery(result),
        "losses": page_tables.losses(result),
        "resolution": lines.resolution(result),
        "errors": page_tables.errors(result),
        "witnesses": page_witnesses.diagrams(result),
    }


def presentable(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result with texts that can be shown: cut if they are long, and without invisible characters."""
    command = {"command": shown(result["command"], LONGEST_COMMAND)} if result.get("command") else {}
    return {str(name): _presentable(value) for name, value in result.items()} | command


def _presentable(value: Any) -> Any:  # noqa: ANN401 # whatever JSON holds
    if isinstance(value, str):
        return shown(value)
    if isinstance(value, Mapping):
        return {shown(str(name)): _presentable(one) for name, one in value.items()}
    return [_presentable(one) for one in value] if isinstance(value, list | tuple) else value


def shown(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text with escapes for characters that do not show, cut if it is long."""
    cut = text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"
    if cut.isascii() and cut.isprintable():
        return cut
    return "".join(f"\\u{ord(one):04x}" if unicodedata.category(one) in INVISIBLE else one for one in cut)


def _uplot() -> str:
    """Return the library with its license, as that demands."""
    license_text = (UPLOT / "LICENSE").read_text(encoding="utf-8")
    return f"/*!\n{license_text}\n*/\n{(UPLOT / 'uPlot.iife.min.js').read_text(encoding='utf-8')}"


def _hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
