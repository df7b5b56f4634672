"""One HTML page with charts for one run or for several side by side: a single file that needs no network.

Two measures keep text from the results (keys, errors, options) from becoming part of the page: the template escapes
everything, and the page's content security policy lets the browser run its two scripts, by their hashes, and no other.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from stalewatch.reports import lines, page_charts, page_tables, words
from stalewatch.reports.files import write_whole
from stalewatch.reports.table import labels

FOLDER = Path(__file__).parent

PACKAGES = ("jinja2", "plotly")

MAX_OPEN_RUNS = 3
"""Up to this many runs are shown in full; of more, each is folded until it is clicked."""


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
    scripts = [_plotly(), (FOLDER / "page.js").read_text(encoding="utf-8")]
    frame = {
        "styles": (FOLDER / "page.css").read_text(encoding="utf-8"),
        "scripts": scripts,
        "hashes": [_hash(script) for script in scripts],
    }
    return str(_template().render(**frame, **content(results)))


@cache
def _template() -> Any:  # noqa: ANN401 # jinja2's type, which a bare bench cannot name
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 # the bare bench runs without it

    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html")


def content(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything that the template shows of the results."""
    names = labels(results)
    runs = [_run(number, label, result) for number, (label, result) in enumerate(zip(names, results, strict=True))]
    figures = {
        "rates": page_charts.rates(names, results),
        "latencies": page_charts.latencies(names, results),
        **{f"timeline{run['number']}": run.pop("figure") for run in runs},
    }
    return {
        "title": words.title(results),
        "runs": runs,
        "single": len(runs) == 1,
        "open": len(runs) <= MAX_OPEN_RUNS,
        "matrix": page_tables.matrix(results),
        "latencies": page_tables.latencies(names, results),
        "staleness": page_tables.staleness(names, results),
        "fresh_after": page_tables.fresh_after(names, results),
        "options": page_tables.options(results),
        "figures": {name: figure for name, figure in figures.items() if figure is not None},
    }


def _run(number: int, label: str, result: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "number": number,
        "label": label,
        "name": " ".join(str(result[part]) for part in ("database", "run") if result.get(part)),
        "date": words.date(result),
        "verdict": result["verdict"],
        "sentence": words.run_sentence(result),
        "facts": list(words.facts(result)),
        "figure": page_charts.timeline(result),
        "freshness": page_tables.freshness(result),
        "recovery": page_tables.recovery(result),
        "losses": page_tables.losses(result),
        "resolution": lines.resolution(result),
        "errors": page_tables.errors(result),
        "witnesses": page_tables.witnesses(result),
    }


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 # the bare bench runs without it

    return str(get_plotlyjs())


def _hash(script: str) -> str:
    """Return a script's hash as a content security policy writes it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
