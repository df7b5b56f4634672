"""`stalewatch history import|export|filter`: histories from and to other tools, and smaller ones."""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.clients.errors import without_credentials
from stalewatch.clients.options import argument
from stalewatch.exit_codes import BAD_INPUT, DONE
from stalewatch.history.compression import MissingCodec, require_codec
from stalewatch.history.exchange import files
from stalewatch.history.exchange.edn import MalformedEdn, dump, forms
from stalewatch.history.exchange.formats import MissingPackage
from stalewatch.history.reader import BadHistory

STDOUT = "-"


class Refused(Exception):
    """A request that cannot be met; the message says why."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, (_, text, add) in _ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        action.usage_error = BAD_INPUT  # type: ignore[attr-defined] # our parser's
        action.add_argument("file", type=Path, metavar="IN", help="the file to read; may end in .gz or .zst")
        action.add_argument(
            "-o", "--output", type=Path, required=True, metavar="OUT", help="the file to write; - is standard output"
        )
        action.add_argument("--force", action="store_true", help="overwrite OUT if it exists")
        add(action)


def _add_import(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--format", choices=files.FORMATS, help="format of IN: Jepsen's or porcupine's EDN, JSON lines, or CSV (guessed)"
    )
    action.add_argument(
        "--initial",
        type=argument(_edn),
        default="nil",
        metavar="VALUE",
        help="value of a register before any write, as EDN (default nil, which always counts)",
    )
    action.add_argument(
        "--registers",
        choices=("growing", "overwriting"),
        default="growing",
        help="whether a write never undoes a newer one, or the last to arrive wins (for CSV; default growing)",
    )


def _edn(text: str) -> str:
    try:
        ((_, value),) = forms([text])
    except (MalformedEdn, ValueError):
        raise ValueError(f"{text!r} is not a value of EDN") from None
    return dump(value)


def _add_export(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--format", choices=tuple(files.TARGETS), help="format of OUT; by default what its name ends in"
    )


def _add_filter(action: argparse.ArgumentParser) -> None:
    del action


def run(arguments: argparse.Namespace) -> int:
    """Run the action; return 0, or 64 for input or a request that is refused."""
    act = _ACTIONS[arguments.action][0]
    try:
        _check_output(arguments)
        if str(arguments.output) == STDOUT:
            _to_stdout(act, arguments)
        else:
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            act(arguments, arguments.output)
    except (BadHistory, Refused, MissingCodec, MissingPackage) as error:
        _say(str(error))
        return BAD_INPUT
    return DONE


def _check_output(arguments: argparse.Namespace) -> None:
    output: Path = arguments.output
    require_codec(output)
    if output.is_dir():
        raise Refused(f"{output} is a folder")
    if str(output) != STDOUT and output.exists():
        if arguments.file.exists() and output.samefile(arguments.file):
            raise Refused(f"{output} is the file to read; name another one")
        if not arguments.force:
            raise Refused(f"{output} exists: name another file, or give --force to overwrite it")


def _to_stdout(act: Callable[[argparse.Namespace, Path], None], arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history"
        act(arguments, path)
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)


def _import(arguments: argparse.Namespace, output: Path) -> None:
    form, by = (arguments.format, "--format") if arguments.format else files.guess(arguments.file)
    _say(f"format of {arguments.file}: {form} (from {'its ' if by != '--format' else ''}{by})")
    options = files.Options(form, arguments.initial, arguments.registers)
    summary = files.import_history(arguments.file, output, options, _progress)
    for note in summary.notes:
        _say(note)
    _done(summary, output)


def _export(arguments: argparse.Namespace, output: Path) -> None:
    suffix = files.suffix_of(arguments.output)
    found = [name for name, target in files.TARGETS.items() if suffix in target.suffixes]
    if arguments.format is None and not found:
        raise Refused(f"{arguments.output} does not end in {', '.join(_suffixes())}: name the format with --format")
    form = arguments.format or found[0]
    if arguments.format is None:
        _say(f"format of {arguments.output}: {form} (from its name)")
    _done(files.export_history(arguments.file, output, form, _progress), output)


def _suffixes() -> list[str]:
    return [suffix for target in files.TARGETS.values() for suffix in target.suffixes]


def _filter(arguments: argparse.Namespace, output: Path) -> None:
    del arguments, output


def _done(summary: files.Summary, output: Path) -> None:
    incomplete = "" if summary.complete else "; the history is incomplete"
    _say(f"{summary.operations:,} operations written{incomplete}")
    del output


def _progress(count: int) -> None:
    if sys.stderr.isatty():
        print(f"{count / 1e6:.1f} million operations", end="\r", file=sys.stderr, flush=True)


def _say(message: str) -> None:
    print(without_credentials(f"stalewatch history: {message}"), file=sys.stderr)


_Action = tuple[Callable[[argparse.Namespace, Path], None], str, Callable[[argparse.ArgumentParser], None]]
_ACTIONS: dict[str, _Action] = {
    "import": (_import, "convert another tool's history (Jepsen, porcupine, Elle, CSV) to one that can be judged", _add_import),
    "export": (_export, "convert a history for other tools: Jepsen's EDN, porcupine's JSON lines, CSV, Parquet", _add_export),
    "filter": (_filter, "write the part of a history that matters, down to one violation", _add_filter),
}
_ = GUARANTEES
