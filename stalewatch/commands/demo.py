"""`stalewatch demo`: a MongoDB replica set on this machine, three ways to write and read it, one table and a page.

The demo runs the very commands that it prints, so they can be repeated one by one.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import stalewatch
from stalewatch.exit_codes import DONE

RESULTS = Path("results") / "demo"
SCENARIOS = (("1", "secondary"), ("majority", "primary"), ("majority", "secondary"))
LOAD = ("--ops", "5000", "--keys", "1000", "--write-ratio", "0.3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command; it has no arguments."""
    parser.epilog = f"Results go to ./{RESULTS}. A replica set that was not running before is stopped at the end."


def run(_: argparse.Namespace) -> int:
    """Run the scenarios; return the first exit code that is not 0. A cluster that this starts is stopped at the end."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    status = subprocess.run(command("cluster", "status", "mongo"), check=False, capture_output=True)  # noqa: S603 # ours
    try:
        return _scenarios()
    finally:
        if status.returncode != DONE:
            _print_and_run("cluster", "down", "mongo")


def _scenarios() -> int:
    for number, (write_concern, read_from) in enumerate(SCENARIOS, start=1):
        levels = ("--write-concern", write_concern, "--read-from", read_from)
        result = RESULTS / f"{number}-w-{write_concern}-read-{read_from}.json"
        code = _print_and_run("bench", "mongo", *levels, *LOAD, "--json", str(result))
        if code != DONE:
            return code
    return _print_and_run("report", "--force", str(RESULTS))


def _print_and_run(*arguments: str) -> int:
    print(f"\n$ {shlex.join(('stalewatch', *arguments))}", flush=True)
    return subprocess.run(command(*arguments), check=False).returncode  # noqa: S603 # ours


def command(*arguments: str) -> list[str]:
    """Return the command line of a subcommand that runs this very package.

    The current folder may hold any files, so it stays off `sys.path`, unless it is the checkout of this package.
    """
    in_checkout = Path(stalewatch.__file__).parents[1] == Path.cwd()
    return [sys.executable, *(() if in_checkout else ("-P",)), "-m", "stalewatch", *arguments]
