"""Where the result of a run in one process goes: the flags for it, and the lines, the table and the files."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import port
from stalewatch.reports import expect, page, table
from stalewatch.reports.lines import plain_lines


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the flags."""
    group.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    group.add_argument("--report", type=Path, metavar="FILE", help="write the result as a page with charts")
    group.add_argument("--history", type=Path, metavar="FILE", help="write every operation (.jsonl[.gz|.zst])")
    group.add_argument("--keep", action="store_true", help="leave the run's keys in the database")
    group.add_argument(
        "--metrics-port",
        type=port,
        metavar="PORT",
        help="serve the run to Prometheus there, on 127.0.0.1",
    )
    group.add_argument(
        "--expect",
        metavar="LIST",
        help="e.g. read_your_writes=0,stale_reads<0.05; exit 1 where missed",
    )


def require(arguments: argparse.Namespace) -> list[expect.Expectation]:
    """Return what is expected, once it is sure that every file can be written.

    Raises `BadAddress` for expectations that make no sense, `page.PageUnavailable`, or OSError for a file.
    """
    expectations = _expectations(arguments.expect)
    if arguments.report:
        page.require()
    for path in (arguments.json, arguments.report, arguments.history):
        _require_writable(path)
    return expectations


def _expectations(text: str | None) -> list[expect.Expectation]:
    try:
        return [] if text is None else expect.parse(text)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None


def _require_writable(path: Path | None) -> None:
    """Raise OSError now, not after the run, where a file cannot be written; leaves no trace."""
    if path is None or (path.exists() and not path.is_file() and not path.is_dir()):
        return  # a pipe or a device would notice
    new = not path.exists()
    path.open("ab").close()
    if new:
        path.unlink()


def deliver(arguments: argparse.Namespace, findings: Findings, result: Mapping[str, Any]) -> None:
    """Print the lines and the table of a run, and write the files that were asked for."""
    try:
        show(findings, result)
    finally:  # the files are written also where nobody reads the lines to their end, as in `bench.py ... | head`
        write(arguments, [result])


def show(findings: Findings, result: Mapping[str, Any]) -> None:
    """Print the lines and the table of a run."""
    for line in plain_lines(result):
        print(line)
    table.show(f"{result['database']} {result['run']}", table.COLUMNS, table.rows(findings.verdicts))
    sys.stdout.flush()


def write(arguments: argparse.Namespace, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the files that were asked for; the JSON of several results is a list."""
    if arguments.json:
        shown = results[0] if len(results) == 1 else results
        arguments.json.write_text(json.dumps(shown, indent=1) + "\n")
    if arguments.report:
        page.write(arguments.report, list(results))
        print(f"report: {arguments.report}")


def tell(message: str) -> None:
    """Print a line of progress."""
    print(message, file=sys.stderr, flush=True)
