"""`stalewatch report`: the JSON results of a folder side by side, and as a page."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.reports import page
from stalewatch.reports.side_by_side import seen, show_side_by_side

USAGE_ERROR = 2
PAGE = "report.html"


_FIELDS = {
    "guarantees": dict,
    "verdict": str,
    "database": str,
    "options": dict,
    "run": str,
    "duration_s": int | float,
    "latency": dict,
    "operations": dict,
}
"""What every result has."""


class BadResult(Exception):
    """A file that is no result of a run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `stalewatch report`."""
    parser.add_argument("results", nargs="+", type=Path, help="folders of JSON results, or the files themselves")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help=f"where the page goes (default: {PAGE} beside the results)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the results side by side and write the page; return 0, or 2 where there is nothing to show."""
    try:
        results = [_load(path) for path in _files(arguments.results)]
        _print(results)
        target = arguments.html or _folder(arguments.results[0]) / PAGE
        page.require()
        page.write(target, results)
    except (BadResult, page.MissingPackage) as error:
        print(f"stalewatch report: {error}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"stalewatch report: {error.filename}: {error.strerror}", file=sys.stderr)
        return USAGE_ERROR
    print(f"report: {target}")
    return 0


def _print(results: Sequence[Mapping[str, Any]]) -> None:
    show_side_by_side(results)
    print(seen(results))


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise BadResult(f"no .json results in {', '.join(map(str, paths))}; write some with bench.py ... --json FILE")
    return files


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _load(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadResult(f"{path}: {error}") from None
    if not _is_result(result):
        raise BadResult(f"{path}: not the result of a run, as bench.py ... --json FILE writes it")
    return result


def _is_result(result: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(result, dict)
        and result.keys() >= _FIELDS.keys()
        and all(isinstance(result[name], kind) for name, kind in _FIELDS.items())
        and result["guarantees"].keys() >= GUARANTEES.keys()
        and result["latency"].keys() >= {"read", "write"}
    )
