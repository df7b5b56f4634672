"""`stalewatch report`: show JSON results side by side, and write them as a page."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeGuard

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.clients.errors import without_credentials
from stalewatch.exit_codes import DONE, USAGE
from stalewatch.reports import page
from stalewatch.reports.table import show_side_by_side, stale_sentence

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
"""The fields that every result has."""


class BadResult(Exception):
    """A file that is not the JSON result of a run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stalewatch report`."""
    parser.add_argument("results", nargs="+", type=Path, help="JSON results, or folders with some below them")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help=f"where to write the page (default: {PAGE} next to the results)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the results side by side and write the page; return the exit code."""
    target = arguments.html or _folder(arguments.results[0]) / PAGE
    try:
        results = [result for path in _files(arguments.results) for result in _load(path)]
        show_side_by_side(results)
        print(stale_sentence(results))
        page.write(target, results)
    except (BadResult, page.PageUnavailable) as error:
        print(without_credentials(f"stalewatch report: {error}"), file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"stalewatch report: {error.filename or target}: {error.strerror}", file=sys.stderr)
        return USAGE
    print(f"report: {target}")
    return DONE


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise BadResult(
            f"no .json results in {', '.join(map(str, paths))}; write some with: stalewatch bench ... --json FILE"
        )
    return files


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _load(path: Path) -> list[dict[str, Any]]:
    """Return the results in a file: one, or the list of a drill that was repeated or varied."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadResult(f"{path}: {error}") from None
    results = content if isinstance(content, list) and content else [content]
    if not all(map(_is_result, results)):
        raise BadResult(f"{path}: not the result of a run, as written by: stalewatch bench ... --json FILE")
    return results


def _is_result(result: object) -> TypeGuard[dict[str, Any]]:
    return (
        isinstance(result, dict)
        and result.keys() >= _FIELDS.keys()
        and all(isinstance(result[name], kind) for name, kind in _FIELDS.items())
        and result["guarantees"].keys() >= GUARANTEES.keys()
        and result["latency"].keys() >= {"read", "write"}
    )
