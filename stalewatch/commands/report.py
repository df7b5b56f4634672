"""`stalewatch report`: show JSON results side by side, and write them as a page."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stalewatch.clients.errors import without_credentials
from stalewatch.commands.outputs import os_exit_code
from stalewatch.exit_codes import DONE, USAGE
from stalewatch.history.compression import MissingCodec
from stalewatch.history.reader import BadHistory, History
from stalewatch.reports import page
from stalewatch.reports.decoding import BadResult, decoded
from stalewatch.reports.files import STDOUT
from stalewatch.reports.table import show_side_by_side, stale_sentence

PAGE = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stalewatch report`."""
    parser.epilog = "Exit codes: 0 done, 2 usage, or a file that holds no results was skipped, 74 no space left."
    parser.add_argument("results", nargs="+", type=Path, help="JSON results, or folders with some below them")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help=f"where to write the page (default: {PAGE} next to the results)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite a page that exists")


def run(arguments: argparse.Namespace) -> int:
    """Print the results side by side and write the page; return the exit code: 2 if a file had to be skipped."""
    target = arguments.html or _folder(arguments.results[0]) / PAGE
    try:
        results, skipped = _load_all(_files(arguments.results))
        if not results:
            return USAGE
        show_side_by_side(results)
        print(stale_sentence(results))
        _spare(target, force=arguments.force)
        page.write(target, results)
    except (BadResult, page.PageUnavailable) as error:
        print(without_credentials(f"stalewatch report: {error}"), file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"stalewatch report: {error.filename or target}: {error.strerror}", file=sys.stderr)
        return os_exit_code(error)
    print(f"report: {target}")
    return USAGE if skipped else DONE


def _spare(target: Path, *, force: bool) -> None:
    """Raise `BadResult` for standard output, and for a page that exists, unless it may be overwritten."""
    if str(target) == STDOUT:
        raise BadResult("--html -: this cannot go to standard output; name a file")
    if target.is_file() and not force:
        raise BadResult(f"{target} exists: give --force to overwrite it, or --html FILE for another one")


def _files(paths: Sequence[Path]) -> list[Path]:
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    if not files:
        raise BadResult(
            f"no .json results in {', '.join(map(str, paths))}; write some with: stalewatch bench ... --json FILE"
        )
    return files


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def _load_all(files: Sequence[Path]) -> tuple[list[dict[str, Any]], bool]:
    """Return the results in all files, and whether a file had to be skipped; each such file is named on stderr."""
    results, skipped = [], False
    for number, path in enumerate(files, 1):
        _progress(f"reading {number} of {len(files)}")
        try:
            results += decoded(path.read_bytes())
        except (BadResult, OSError) as error:
            skipped = True
            _progress("")
            reason = error.strerror if isinstance(error, OSError) else _history_hint(path) or error
            print(without_credentials(f"stalewatch report: {path}: {reason}; skipped"), file=sys.stderr)
    _progress("")
    return results, skipped


def _history_hint(path: Path) -> str | None:
    """Return what to do with a file that is a history; None if it is none."""
    try:
        History([path])
    except (BadHistory, MissingCodec):
        return None
    return (
        f"a history, not the result of a run: `stalewatch check {path}` judges it (--markdown FILE for a summary); "
        "the page shows what a run wrote with --json, or under Locust with --report-json"
    )


def _progress(text: str) -> None:
    """Replace the last line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
