"""Where the result of a run goes: the plain lines and the table on stdout, the files, progress on stderr.

Shared by `bench` and `drill`, together with the flags for it.
"""

import argparse
import errno
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from stalewatch.checkers.verdict import Findings
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError, without_credentials
from stalewatch.clients.options import argument, options_of, port, public_command
from stalewatch.clusters.protocol import ClusterError
from stalewatch.exit_codes import DONE, OUTPUT_ERROR, UNREACHABLE, USAGE
from stalewatch.reports import ci, expect, page, table
from stalewatch.reports.files import STDOUT, OutputFile, claimed, write_json
from stalewatch.reports.files import write as write_file
from stalewatch.reports.lines import answer_lines, figure_lines
from stalewatch.workloads.options import LoadOptions

STANDARD_OUTPUT = "standard output"

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What is wrong with a disk, not with the name of a file that the user gave."""


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the flags for outputs."""
    group.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="write the result as JSON; - is standard output, and the lines then go to standard error",
    )
    ci.add_flags(group.add_argument)
    group.add_argument("--report", type=Path, metavar="FILE", help="write the result as an HTML page with charts")
    group.add_argument("--history", type=Path, metavar="FILE", help="write every operation (.jsonl[.gz|.zst])")
    group.add_argument("--force", action="store_true", help="overwrite the history of an earlier run")
    group.add_argument("--keep", action="store_true", help="leave the run's keys in the database")
    group.add_argument(
        "--metrics-port", type=argument(port), metavar="PORT", help="serve metrics to Prometheus on 127.0.0.1"
    )
    group.add_argument(
        "--expect",
        metavar="LIST",
        help="e.g. read_your_writes=0,stale_reads<0.05; exit with code 1 if one is missed",
    )


def exit_code_of(prog: str, work: Callable[[], int], *usage: type[Exception]) -> int:
    """Do the work of a command, and return its exit code; report an error that ends it, with the program's name.

    `usage` are exceptions of bad usage, apart from `BadAddress`.
    """
    bad_usage: tuple[type[Exception], ...] = (BadAddress, page.PageUnavailable, *usage)
    try:
        return work()
    except bad_usage as error:
        log(f"{prog}: {error}")
        return USAGE
    except (ClientError, ClusterError) as error:
        log(f"{prog}: {error}")
        return UNREACHABLE
    except BrokenPipeError:
        raise
    except OSError as error:
        log(f"{prog}: {os_error(error)}")
        return os_exit_code(error)


def require(arguments: argparse.Namespace) -> list[expect.Expectation]:
    """Return the expectations; raise `BadAddress` if they are invalid, or `page.PageUnavailable`."""
    if arguments.report:
        page.require()
    try:
        return [] if arguments.expect is None else expect.parse(arguments.expect)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None


def command(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the result's field with the command that was given, without secrets."""
    options = (*DATABASES[arguments.database].flags(), *options_of(LoadOptions))
    return {"command": public_command(arguments.command_line, options)}


class Outputs:
    """The files of one command; `failures` are lines about those that could not be written, histories included."""

    def __init__(self, arguments: argparse.Namespace, expectations: Sequence[expect.Expectation] = ()) -> None:
        self.failures: list[str] = []
        self._json = _file("--json", arguments.json)
        self._report = _file("--report", arguments.report)
        self._ci = ci.ci_files(arguments.junit, arguments.markdown)
        self._expectations = expectations
        self._force: bool = arguments.force

    @contextmanager
    def claimed(self, histories: Sequence[Path | None]) -> Iterator[None]:
        """Claim the files during the block; if one is standard output, everything else goes to standard error.

        Raises `BadAddress` or OSError for a file that cannot be used.
        """
        histories_of_runs = [_file("--history", path, is_history=True) for path in histories]
        files = [file for file in (self._json, self._report, *self._ci, *histories_of_runs) if file is not None]
        with claimed(files, log, force=self._force):
            self._stdout = sys.stdout
            taken = any(str(file.path) == STDOUT for file in (self._json, *self._ci) if file is not None)
            with redirect_stdout(sys.stderr) if taken else nullcontext():
                yield

    def write(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Write the JSON file, the files for CI and the page; the JSON of several results is a list."""
        self.failures += [result["history_error"] for result in results if result.get("history_error")]
        with redirect_stdout(self._stdout):
            if self._json is not None:
                self._note(write_file(self._json, partial(write_json, results)))
            for file in self._ci:
                writer = partial(ci.WRITERS[file.flag], results=results, expectations=self._expectations)
                self._note(write_file(file, writer))
        if self._report is not None:
            failure = write_file(self._report, lambda path: page.write(path, results))
            self._note(failure)
            if failure is None:
                log(f"report: {self._report.path}")  # not on stdout, which ends with the answer

    def _note(self, failure: str | None) -> None:
        if failure is not None:
            log(failure)
            self.failures.append(failure)

    def exit_code(self, code: int) -> int:
        """Return the exit code of a run that would end with `code`."""
        return OUTPUT_ERROR if code == DONE and self.failures else code


def _file(flag: str, path: Path | None, *, is_history: bool = False) -> OutputFile | None:
    return None if path is None else OutputFile(flag, path, is_history)


def show(findings: Findings, result: Mapping[str, Any]) -> None:
    """Print the figures of a run, the table, and last the answer; raise OSError that names standard output."""
    try:
        for line in figure_lines(result):
            print(line)
        table.show_guarantees(f"{result['database']} {result['run']}", findings.verdicts)
        for line in answer_lines(result):
            print(line)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        error.filename = STANDARD_OUTPUT
        raise


def os_error(error: OSError) -> str:
    """Return an error of the system in words, with the file if it has one."""
    return ": ".join(filter(None, (error.filename, error.strerror or str(error))))


def os_exit_code(error: OSError) -> int:
    """Return the exit code for a file that cannot be used, or for output that cannot be written."""
    return OUTPUT_ERROR if error.filename == STANDARD_OUTPUT or error.errno in NO_SPACE else USAGE


def log(message: str) -> None:
    """Print a line of progress or an error on stderr, without credentials."""
    print(without_credentials(message), file=sys.stderr, flush=True)
