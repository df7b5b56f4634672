"""The `stalewatch` command: judge histories, show results, run clusters, do drills."""

import sys

if sys.argv[1:2] == ["drill"]:  # first of all, so that sessions are greenlets wherever gevent is installed
    try:
        from gevent import monkey
    except ImportError:
        pass
    else:
        monkey.patch_all()

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn

import drills.command
import replication.local.command
import reports.check
import reports.folder
from reports.stdout import leave_quietly

__version__ = "0.1.0"

USAGE_ERROR = 2
CHECK_USAGE_ERROR = 64
OUTPUT_ERROR = 74
"""What could not be written (a full disk); not 1, which means that a guarantee was violated."""


class Command:
    """One subcommand: what it is for, how a room adds its arguments, what runs it, and its exit code for bad usage."""

    def __init__(
        self,
        help: str,  # noqa: A002 # argparse's word
        add_arguments: Callable[[argparse.ArgumentParser], None],
        run: Callable[[argparse.Namespace], int],
        usage_error: int = USAGE_ERROR,
    ) -> None:
        self.help = help
        self.add_arguments = add_arguments
        self.run = run
        self.usage_error = usage_error


COMMANDS = {
    "check": Command("judge history files", reports.check.add_arguments, reports.check.run, CHECK_USAGE_ERROR),
    "report": Command("show results side by side", reports.folder.add_arguments, reports.folder.run),
    "cluster": Command(
        "start and stop databases on this machine",
        replication.local.command.add_arguments,
        replication.local.command.run,
    ),
    "drill": Command(
        "break a cluster under load, and measure what its users saw", drills.command.add_arguments, drills.command.run
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser with an exit code of its own for bad usage: `check` uses 2 for a verdict."""

    usage_error = USAGE_ERROR

    def parse_known_args(  # type: ignore[override] # the overloads only differ in the namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse unknown arguments here, for the parser above has another exit code."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and how the command is used."""
        self.print_usage(sys.stderr)
        self.exit(self.usage_error, f"{self.prog}: {message}\n")


def parser() -> argparse.ArgumentParser:
    """Return the command line of `stalewatch`."""
    top = _Parser(prog="stalewatch", description="What do your users see when the primary dies?")
    top.add_argument("--version", action="version", version=f"stalewatch {__version__}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        subparser.usage_error = command.usage_error
        command.add_arguments(subparser)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        code = COMMANDS[parsed.command].run(parsed)
        sys.stdout.flush()
    except BrokenPipeError:
        return leave_quietly()
    except OSError as error:
        print(f"stalewatch {parsed.command}: {error}", file=sys.stderr)
        return OUTPUT_ERROR
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
