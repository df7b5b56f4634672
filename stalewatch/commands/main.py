"""The `stalewatch` command: one table of subcommands, each a module that is imported only when it runs."""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from stalewatch import __version__
from stalewatch.credentials import hide_split, without_credentials
from stalewatch.exit_codes import BAD_INPUT, BROKEN_PIPE, INTERRUPTED, OUTPUT_ERROR, USAGE

PROG = "stalewatch"


class Command(NamedTuple):
    """One subcommand: its line in the help, its module, and its exit code for bad usage.

    The module has `add_arguments(parser)` and `run(arguments)`, which returns the exit code.
    """

    help: str
    module: str
    usage_error: int = USAGE


COMMANDS = {
    "bench": Command("load a database and report what its sessions saw", "stalewatch.commands.bench"),
    "drill": Command("break a cluster under load and report what its users saw", "stalewatch.commands.drill"),
    "matrix": Command(
        "measure what each combination of levels guarantees, beside what is documented", "stalewatch.commands.matrix"
    ),
    "check": Command("judge history files", "stalewatch.commands.check", BAD_INPUT),
    "history": Command(
        "convert histories from and to other tools' formats, and cut them", "stalewatch.commands.history", BAD_INPUT
    ),
    "report": Command("show results side by side", "stalewatch.commands.report"),
    "schema": Command("print the JSON schema of results", "stalewatch.commands.schema"),
    "clean": Command("find and remove what killed runs left in a database", "stalewatch.commands.clean"),
    "cluster": Command("start and stop databases on this machine", "stalewatch.commands.cluster"),
    "demo": Command("run three MongoDB scenarios on this machine and compare them", "stalewatch.commands.demo"),
    "locustfile": Command("print the path of a bundled locustfile", "stalewatch.commands.locustfile"),
    "grafana-files": Command(
        "copy the Grafana dashboards and the Prometheus configuration to a folder", "stalewatch.commands.grafana_files"
    ),
}


class _Parser(argparse.ArgumentParser):
    """A parser with its own exit code for bad usage: `check` uses 2 for a verdict."""

    usage_error = USAGE

    def parse_known_args(  # type: ignore[override] # the overloads only differ in the namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Reject unknown arguments here: the parser above this one has another exit code."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(map(_shown, unknown))}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and what is wrong, and exit."""
        self.print_usage(sys.stderr)
        self.exit(self.usage_error, without_credentials(f"{self.prog}: {message}\n"))


def _shown(argument: str) -> str:
    """Return an argument for a message; one with an @ may hold a password."""
    flag, equals, value = argument.partition("=")
    return f"{flag}=***" if equals and "@" in value else "***" if "@" in argument else argument


def parser(chosen: str | None, prog: str = PROG) -> argparse.ArgumentParser:
    """Return the command line; only the chosen subcommand gets its arguments, so that no other has to be imported."""
    top = _Parser(prog=PROG, description="What will your users see when the primary dies?")
    top.add_argument("--version", action="version", version=f"stalewatch {__version__}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        shown = prog if name == chosen and prog != PROG else f"{PROG} {name}"
        subparser = subparsers.add_parser(name, prog=shown, help=command.help, description=command.help)
        subparser.usage_error = command.usage_error
        if name == chosen:
            _module(name).add_arguments(subparser)
    return top


def _module(name: str) -> Any:  # noqa: ANN401 # a module
    return importlib.import_module(COMMANDS[name].module)


def main(arguments: Sequence[str] | None = None, prog: str = PROG) -> int:
    """Run one subcommand and return its exit code; `prog` is what the user started, for usage lines and errors."""
    arguments = sys.argv[1:] if arguments is None else arguments
    hide_split(arguments)
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    parsed = parser(chosen, prog).parse_args(arguments)
    parsed.prog = prog
    parsed.command_line = [PROG, *arguments] if prog == PROG else ["python", prog, *arguments[1:]]
    try:
        code = int(_module(parsed.command).run(parsed))
        sys.stdout.flush()
    except BrokenPipeError:
        return _leave_quietly()
    except OSError as error:
        print(without_credentials(f"stalewatch {parsed.command}: {error}"), file=sys.stderr)
        return OUTPUT_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _leave_quietly() -> int:
    """Redirect stdout to nowhere, so that nothing more fails on it, and return the exit code of a broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
