"""`stalewatch check`: judge the history files of one run."""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path

from stalewatch.checkers.files import judge_files
from stalewatch.checkers.judge import Judge
from stalewatch.checkers.shards import MOST_JOBS
from stalewatch.clients.errors import BadAddress, without_credentials
from stalewatch.engine.result import check_result
from stalewatch.exit_codes import BAD_INPUT, OUTPUT_ERROR
from stalewatch.history.reader import BadHistory
from stalewatch.reports import ci
from stalewatch.reports.files import STDOUT, OutputFile, claimed, write
from stalewatch.reports.table import show_guarantees

JOBS_LIMIT = 64

EXIT_CODES = {"valid": 0, "invalid": 1, "unknown": 2}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stalewatch check`."""
    parser.epilog = "Exit codes: 0 valid, 1 invalid, 2 unknown, 64 bad usage or input, 74 a file could not be written."
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="history files of one run (.jsonl[.zst|.gz])"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else on stdout")
    parser.add_argument(
        "--jobs",
        type=_jobs,
        metavar="N",
        help="processes that judge, each some of the keys; the result is the same (default: one per core, at most "
        f"{MOST_JOBS}; one for short histories)",
    )
    ci.add_flags(parser.add_argument)


def _jobs(text: str) -> int:
    number = int(text)
    if not 1 <= number <= JOBS_LIMIT:
        raise argparse.ArgumentTypeError(f"must be from 1 to {JOBS_LIMIT}, but is {text}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Judge the files and print the result; return the exit code: 0 valid, 1 invalid, 2 unknown, 64 bad input."""
    files = ci.ci_files(arguments.junit, arguments.markdown)
    try:
        taken = _require(files, arguments)
        with claimed(files, partial(print, file=sys.stderr)):
            judge = judge_files(arguments.files, _progress, arguments.jobs)
            with redirect_stdout(sys.stderr) if taken else nullcontext():
                _show(judge, arguments)
            written = _write(files, judge, arguments.files)
    except (BadHistory, BadAddress) as error:
        print(without_credentials(f"stalewatch check: {error}"), file=sys.stderr)
        return BAD_INPUT
    return EXIT_CODES[judge.verdict()] if written else OUTPUT_ERROR


def _require(files: Sequence[OutputFile], arguments: argparse.Namespace) -> bool:
    """Return whether a file is standard output; raise `BadAddress` if the files cannot be written."""
    taken = [file.flag for file in files if str(file.path) == STDOUT]
    if taken and arguments.json:
        raise BadAddress(f"--json and {taken[0]} both write to standard output: give {taken[0]} a file")
    histories = {path.resolve() for path in arguments.files}
    for file in files:
        if file.path.resolve() in histories:
            raise BadAddress(f"{file.flag} {file.path} is a history to check: name another file")
    return bool(taken)


def _show(judge: Judge, arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(check_result(judge.findings())))
    else:
        _print(judge, arguments.files)


def _write(files: Sequence[OutputFile], judge: Judge, histories: Sequence[Path]) -> bool:
    """Write the files for CI; return whether all could be written."""
    result = {**check_result(judge.findings()), "run": ", ".join(path.name for path in histories)}
    failures = [write(file, partial(ci.WRITERS[file.flag], results=[result])) for file in files]
    for failure in filter(None, failures):
        print(without_credentials(f"stalewatch check: {failure}"), file=sys.stderr)
    return not any(failures)


def _progress(count: int) -> None:
    if sys.stderr.isatty():
        print(f"{count / 1e6:.0f} million operations", end="\r", file=sys.stderr, flush=True)


def _print(judge: Judge, paths: Sequence[Path]) -> None:
    show_guarantees(_names(paths), judge.verdicts())
    if judge.duplicate_items or judge.phantom_items:
        print(f"duplicate_items: {judge.duplicate_items}")
        print(f"phantom_items: {judge.phantom_items}")
    incomplete = [path for path, source in zip(paths, judge.context.sources, strict=True) if not source.complete]
    if incomplete:
        print(f"incomplete, only what is there was judged: {_names(incomplete)}")
    print(f"verdict: {judge.verdict()}")


def _names(paths: Sequence[Path]) -> str:
    """Return the files' names, escaped so that stdout can encode them: a file name may hold any bytes."""
    names, encoding = ", ".join(map(str, paths)), sys.stdout.encoding
    return names.encode(encoding, "backslashreplace").decode(encoding)
