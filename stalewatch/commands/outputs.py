"""Where the result of a run goes: the plain lines and the table on stdout, the files, progress on stderr.

Shared by `bench` and `drill`, together with the flags for it.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.clients.options import port
from stalewatch.reports import expect, page, table
from stalewatch.reports.lines import plain_lines


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the flags for outputs."""
    group.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    group.add_argument("--report", type=Path, metavar="FILE", help="write the result as an HTML page with charts")
    group.add_argument("--history", type=Path, metavar="FILE", help="write every operation (.jsonl[.gz|.zst])")
    group.add_argument("--keep", action="store_true", help="leave the run's keys in the database")
    group.add_argument("--metrics-port", type=port, metavar="PORT", help="serve metrics to Prometheus on 127.0.0.1")
    group.add_argument(
        "--expect",
        metavar="LIST",
        help="e.g. read_your_writes=0,stale_reads<0.05; exit with code 1 if one is missed",
    )


def require(arguments: argparse.Namespace) -> list[expect.Expectation]:
    """Return the expectations, after a check that every file can be written.

    Raises `BadAddress` for an invalid expectation, `page.PageUnavailable`, or OSError for a file.
    """
    try:
        expectations = [] if arguments.expect is None else expect.parse(arguments.expect)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None
    if arguments.report:
        page.require()
    for path in (arguments.json, arguments.report, arguments.history):
        _require_writable(path)
    return expectations


def _require_writable(path: Path | None) -> None:
    """Raise OSError now, not after the run, if a file cannot be written; leave no new file behind."""
    if path is None or (path.exists() and not path.is_file() and not path.is_dir()):
        return  # opening a pipe or a device may block or have effects
    new = not path.exists()
    path.open("ab").close()
    if new:
        path.unlink()


def deliver(arguments: argparse.Namespace, findings: Findings, result: Mapping[str, Any]) -> None:
    """Print the lines and the table of a run, and write the files."""
    try:
        show(findings, result)
    finally:  # even if the reader of the lines leaves early, as in `bench.py ... | head`
        write(arguments, [result])


def show(findings: Findings, result: Mapping[str, Any]) -> None:
    """Print the lines and the table of a run."""
    for line in plain_lines(result):
        print(line)
    table.show(f"{result['database']} {result['run']}", table.COLUMNS, table.rows(findings.verdicts))
    sys.stdout.flush()


def write(arguments: argparse.Namespace, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the JSON file and the page; the JSON of several results is a list."""
    if arguments.json:
        content = results[0] if len(results) == 1 else results
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    if arguments.report:
        page.write(arguments.report, list(results))
        print(f"report: {arguments.report}")


def log(message: str) -> None:
    """Print a line of progress or an error on stderr, without credentials."""
    print(without_credentials(message), file=sys.stderr, flush=True)
