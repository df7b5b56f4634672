"""`stalewatch history import|export|filter`: histories from and to other tools, and smaller ones."""

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.checkers.smallest import NoSuchViolation, nth_violation, smallest_history, violated_keys
from stalewatch.clients.errors import without_credentials
from stalewatch.clients.options import argument
from stalewatch.exit_codes import BAD_INPUT, DONE
from stalewatch.history.compression import MissingCodec, require_codec
from stalewatch.history.exchange import files
from stalewatch.history.exchange.edn import MalformedEdn, dump, forms
from stalewatch.history.exchange.formats import MissingFormat
from stalewatch.history.exchange.selection import NothingSelected, Selection
from stalewatch.history.reader import BadHistory, History

STDOUT = "-"
TEMPORARY = "stalewatch-history-"


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
        "--format",
        choices=files.FORMATS,
        help="format of IN: Jepsen's or porcupine's EDN, JSON lines, or CSV (guessed)",
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
    for flag, what in (("--key", "key"), ("--session", "session"), ("--node", "node")):
        action.add_argument(flag, action="append", metavar=what.upper(), help=f"keep this {what}; may be repeated")
    action.add_argument(
        "--from",
        dest="first",
        type=argument(_seconds),
        metavar="SECONDS",
        help="keep operations that end no sooner than this after the first one began",
    )
    action.add_argument(
        "--to",
        dest="last",
        type=argument(_seconds),
        metavar="SECONDS",
        help="keep operations that start no later than this after the first one began",
    )
    action.add_argument(
        "--guarantee", choices=tuple(GUARANTEES), help="keep the keys on which this guarantee is violated"
    )
    action.add_argument(
        "--witness",
        type=argument(_number),
        metavar="N",
        help="write the smallest history that shows violation N (of --guarantee, if given); the first is 1",
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ValueError("must be a number of seconds")
    return seconds


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ValueError(f"{text!r} is not a number from 1")
    return int(text)


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
    except (BadHistory, Refused, MissingCodec, MissingFormat, NothingSelected) as error:
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
    with tempfile.TemporaryDirectory(prefix=TEMPORARY) as folder:
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
    history = History([arguments.file])
    if arguments.witness is not None:
        _write_witness(arguments, history, output)
        return
    keys = None if arguments.key is None else frozenset(arguments.key)
    if arguments.guarantee is not None:
        violated = violated_keys(history, arguments.guarantee)
        keys = violated if keys is None else keys & violated
    if None not in (arguments.first, arguments.last) and arguments.first > arguments.last:
        raise Refused(f"--from {arguments.first:g} is after --to {arguments.last:g}: nothing is in between")
    first, last = (None if at is None else round(at * 1e9) for at in (arguments.first, arguments.last))
    selection = Selection(keys, _set(arguments.session), _set(arguments.node), first, last)
    if selection == Selection():
        raise Refused("nothing to filter by: give --key, --session, --node, --from, --to, --guarantee or --witness")
    start = 0 if first is last is None else min((one.start for one, _ in history.operations()), default=0)
    operations = selection.of((operation for operation, _ in history.operations()), start)
    summary = files.write_part(history, output, operations, _progress, complete=selection.keeps_whole_keys)
    _done(summary, output)


def _set(values: list[str] | None) -> frozenset[str] | None:
    return None if values is None else frozenset(values)


def _write_witness(arguments: argparse.Namespace, history: History, output: Path) -> None:
    others = (arguments.key, arguments.session, arguments.node, arguments.first, arguments.last)
    if any(value is not None for value in others):
        raise Refused("--witness goes with --guarantee alone: it chooses the operations itself")
    try:
        violation = nth_violation(history, arguments.witness, arguments.guarantee)
    except NoSuchViolation as error:
        raise Refused(str(error)) from None
    _say(f"violation {arguments.witness} is one of {violation.guarantee}")
    operations = smallest_history(history, violation)
    _done(files.write_part(history, output, operations, _progress, complete=True), output)


def _done(summary: files.Summary, output: Path) -> None:
    incomplete = "" if summary.complete else "; marked as incomplete"
    where = "" if output.parent.name.startswith(TEMPORARY) else f" to {output}"
    _say(f"{summary.operations:,} operations written{where}{incomplete}")


def _progress(count: int) -> None:
    if sys.stderr.isatty():
        print(f"{count / 1e6:.1f} million operations", end="\r", file=sys.stderr, flush=True)


def _say(message: str) -> None:
    print(without_credentials(f"stalewatch history: {message}"), file=sys.stderr)


_Action = tuple[Callable[[argparse.Namespace, Path], None], str, Callable[[argparse.ArgumentParser], None]]
_ACTIONS: dict[str, _Action] = {
    "import": (
        _import,
        "convert another tool's history (Jepsen, porcupine, Elle, CSV) to one that can be judged",
        _add_import,
    ),
    "export": (
        _export,
        "convert a history for other tools: Jepsen's EDN, porcupine's JSON lines, CSV, Parquet",
        _add_export,
    ),
    "filter": (_filter, "write the part of a history that matters, down to one violation", _add_filter),
}
