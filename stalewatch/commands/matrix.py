"""`stalewatch matrix`: what each combination of levels guarantees, beside what the documentation promises."""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import Option, argument, check_options, options_of, parse_options, positive
from stalewatch.clients.options import add_arguments as add_options
from stalewatch.clusters.protocol import ClusterError, Reachable
from stalewatch.commands import outputs
from stalewatch.commands.outputs import log
from stalewatch.exit_codes import DONE, OUTPUT_ERROR, UNREACHABLE, USAGE
from stalewatch.reports import page as run_page
from stalewatch.reports.files import STDOUT, OutputFile, claimed, write_json, write_text
from stalewatch.reports.files import write as write_file
from stalewatch.workloads.options import LoadOptions

try:
    from stalewatch.drills.catalogue import FLAGS, BadDrill, Drill, bundled_drills
except ModuleNotFoundError as error:
    log(f"stalewatch: the matrix needs {error.name}: pip install {error.name}")
    sys.exit(USAGE)

from stalewatch.checkers.judge import GUARANTEES
from stalewatch.drills.clusters import needs_links, prepared_cluster, require
from stalewatch.matrix import page, report
from stalewatch.matrix.cells import GRIDS, PROVOCATIONS, Cell, Provocation, all_cells, in_order, level_names, parse_only
from stalewatch.matrix.promises import promised
from stalewatch.matrix.run import MOST_FAILURES, CellsFailed, Interrupted, Matrix, Setup, StateFile, clock_time

EXITS = (
    "Exit codes: 0 done, 2 usage, 3 a database or cluster that cannot be reached or broken, or a cell that failed, 130 "
    "Ctrl-C and 143 SIGTERM (after the tables; with --json, the same command goes on from there)."
)

SHOW = "show"

NO_DRILL = Drill("matrix", tuple(GRIDS), "", "", ())

ANY_SECONDARY = "&localThresholdMS=10000"
"""For our own replica set: the driver then also reads from a secondary that answers later than another."""

_TIME = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smh]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}

_LOAD = frozenset({"users", "rate", "keys", "write_ratio", "reread", "value_size", "distribution", "seed"})
"""The options of a load that all cells share."""

DEFAULTS: Mapping[str, str] = {"keys": "50", "sticky_seconds": "10"}
"""Other defaults than the bench's: few keys, so that a session often reads one while a write of it is under way; and
more sticky seconds than any provocation's lag.
"""


def budget(text: str) -> float:
    """Return a time such as 90, 90s, 10m or 2h in seconds, or raise ValueError."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise ValueError("must be a time such as 90s, 10m or 2h")
    return positive(str(float(found["number"]) * _UNITS[found["unit"]]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the databases and their options."""
    parser.epilog = EXITS
    databases = parser.add_subparsers(dest="database", required=True, metavar="DATABASE")
    for name in GRIDS:
        database = DATABASES[name]
        one = databases.add_parser(
            name, help=database.help, description=database.help, epilog=EXITS, allow_abbrev=False
        )
        _add_matrix(one.add_argument_group("matrix"))
        add_options(one.add_argument_group("database"), _with_defaults(_free_options(name, database.flags())))
        load = (option for option in options_of(LoadOptions) if option.name in _LOAD)
        add_options(one.add_argument_group("load"), _with_defaults(load))
        _add_outputs(one.add_argument_group("output"))
    shown = databases.add_parser(SHOW, help="show matrices that were measured before, from their JSON files")
    shown.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the JSON of a matrix")
    _add_outputs(shown)


def _free_options(database: str, options: Sequence[Option]) -> list[Option]:
    """Return the options that the matrix does not set itself."""
    own = {*level_names(database), *(name for one in PROVOCATIONS[database] for name in one.options)}
    return [option for option in options if option.name not in own]


def _with_defaults(options: Iterable[Option]) -> Iterator[Option]:
    return (one._replace(omitted=DEFAULTS.get(one.name, one.omitted)) for one in options)


def _add_matrix(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--budget",
        type=argument(budget),
        metavar="TIME",
        help="90s, 10m, 2h: measure the most telling cells first, and end in time (default: measure all)",
    )
    group.add_argument("--only", metavar="LIST", help="only these cells: write_concern=1,read_from=secondary")
    group.add_argument("--list", action="store_true", help="list the cells in their order, and measure nothing")
    for flag in ("--lab", "--compose"):
        group.add_argument(flag, **FLAGS[flag])


def _add_outputs(group: argparse._ActionsContainer) -> None:
    group.add_argument("--json", type=Path, metavar="FILE", help="write the matrix as JSON; - is standard output")
    group.add_argument("--report", type=Path, metavar="FILE", help="write the matrix as an HTML page: a heat map")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write the matrix as a page in Markdown")


def run(arguments: argparse.Namespace) -> int:
    """Measure, list or show a matrix, and return the exit code."""
    return outputs.exit_code_of("stalewatch", lambda: _list_show_or_measure(arguments), BadDrill)


def _list_show_or_measure(arguments: argparse.Namespace) -> int:
    if arguments.report:
        run_page.require()
    if arguments.database == SHOW:
        return _show(arguments)
    for name, value in DEFAULTS.items():
        if getattr(arguments, name, value) is None:
            setattr(arguments, name, value)
    return _list(arguments) if arguments.list else _measure(arguments)


def _list(arguments: argparse.Namespace) -> int:
    provocations, left_out = _provocations(arguments, None)
    cells = _cells(arguments, provocations)
    for cell in cells:
        promises = promised(cell, tuple(GUARANTEES))
        print(f"{cell.provocation.name:9} {cell.label:45} {f'{promises} promised' if promises else ''}".rstrip())
    print(f"{len(cells)} cells, about {clock_time(Matrix(cells, [], None).estimate_s(cells))}")
    for name, reason in left_out.items():
        print(f"without {name}: {reason}")
    return DONE


def _cells(arguments: argparse.Namespace, provocations: Sequence[Provocation]) -> list[Cell]:
    wanted = parse_only(arguments.database, arguments.only) if arguments.only else lambda _cell: True
    cells = [cell for cell in all_cells(arguments.database, provocations) if wanted(cell)]
    if not cells:
        raise BadAddress(f"--only {arguments.only}: no cell has these levels together (see --list)")
    return in_order(cells, lambda cell: promised(cell, tuple(GUARANTEES)))


def _provocations(arguments: argparse.Namespace, cluster: Reachable | None) -> tuple[list[Provocation], dict[str, str]]:
    """Return the provocations that can act, and why the others cannot."""
    able, left_out = list[Provocation](), dict[str, str]()
    for one in PROVOCATIONS[arguments.database]:
        reason = _why_unable(arguments, one, cluster)
        if reason is None:
            able.append(one)
        else:
            left_out[one.name] = reason
    return able, left_out


def _why_unable(arguments: argparse.Namespace, provocation: Provocation, cluster: Reachable | None) -> str | None:
    database = DATABASES[arguments.database]
    if provocation.drill is None or not database.addresses:
        return None
    drill = bundled_drills()[provocation.drill]
    if cluster is None and not database.lacks_address(parse_options(database.options, arguments)):
        return "faults cannot act on servers that are known only by their address"
    if needs_links(drill) and not arguments.lab:
        return "it needs --lab (root)"
    if cluster is not None:
        try:
            require(drill, cluster)
        except ClusterError as error:
            return str(error)
    return None


@contextmanager
def _cluster(arguments: argparse.Namespace) -> Iterator[Reachable | None]:
    """Yield the cluster that faults break; None for servers that are given by their address, and the simulator."""
    database = DATABASES[arguments.database]
    given: object = parse_options(database.options, arguments)
    check_options(given)
    if database.addresses and not database.lacks_address(given):
        if arguments.lab or arguments.compose:
            raise BadAddress("--lab and --compose are for clusters of stalewatch's own: leave the address out")
        yield None
        return
    with prepared_cluster(arguments, NO_DRILL, log) as cluster:
        yield cluster


def _measure(arguments: argparse.Namespace) -> int:
    load = parse_options(LoadOptions, argparse.Namespace(**{name: getattr(arguments, name) for name in _LOAD}))
    provocations, left_out = _provocations(arguments, None)
    _cells(arguments, provocations)  # complains before a cluster is started
    files, state = _Files(arguments), _state(arguments)  # before the cluster's addresses become arguments
    with files.claimed(), _cluster(arguments) as cluster:
        provocations, left_out = _provocations(arguments, cluster)
        if cluster is not None and arguments.database == "mongo":
            arguments.mongo_uri += ANY_SECONDARY
        cells = _cells(arguments, provocations)
        options: object = parse_options(DATABASES[arguments.database].options, arguments)
        setup = Setup(arguments.database, options, load, cluster, _scope(arguments, cluster))
        matrix = Matrix(cells, state.load(cells) if state else (), arguments.budget)
        if matrix.measured:
            log(f"going on with {len(matrix.measured)} cells that were measured before")
        return _finish(matrix, setup, left_out, files, state)


def _scope(arguments: argparse.Namespace, cluster: Reachable | None) -> str:
    given = "given servers" if cluster is None and DATABASES[arguments.database].addresses else ""
    flags = (flag for flag in ("--lab", "--compose") if getattr(arguments, flag.removeprefix("--")))
    return ", ".join(filter(None, (given, *flags, arguments.only and f"--only {arguments.only}")))


def _state(arguments: argparse.Namespace) -> StateFile | None:
    """Return the file of an interrupted command beside the JSON; None without a JSON file."""
    if arguments.json is None or str(arguments.json) == STDOUT:
        return None
    secret = {one.name for one in DATABASES[arguments.database].flags() if one.secret}
    own = {"json", "report", "markdown", "budget", "list", "command", "command_line", "prog", *secret}
    settings = {name: str(value) for name, value in vars(arguments).items() if name not in own and value is not None}
    return StateFile(arguments.json.with_name(arguments.json.name + ".state"), settings)


def _finish(
    matrix: Matrix,
    setup: Setup,
    left_out: Mapping[str, str],
    files: "_Files",
    state: StateFile | None,
) -> int:
    """Measure the cells, then show and write what was measured, whatever ended it."""
    code = DONE
    try:
        if state is None:
            matrix.run(setup, lambda _cell: None, log)
        else:
            with state.keeping(matrix.measured) as keep:
                matrix.run(setup, keep, log)
    except (Interrupted, SystemExit) as error:
        code = int(error.code or 0)
    except CellsFailed as error:
        log(f"stalewatch: {MOST_FAILURES} cells in a row failed, so the others were not tried: {error}")
    if code == DONE and matrix.failed:
        code = UNREACHABLE
    document = report.document(matrix, setup, code not in {DONE, UNREACHABLE}, left_out)
    with files.tables_to():
        report.show_matrix(document)
    return files.write([document], code)


def _show(arguments: argparse.Namespace) -> int:
    documents = [one for path in arguments.files for one in _read(path)]
    files = _Files(arguments)
    with files.claimed(), files.tables_to():
        for one in documents:
            report.show_matrix(one)
    return files.write(documents, DONE)


def _read(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadAddress(f"{path}: not JSON: {error}") from None
    documents = found if isinstance(found, list) else [found]
    for one in documents:
        version = (one.get("format"), one.get("version")) if isinstance(one, dict) else None
        if version != (report.FORMAT, report.FORMAT_VERSION):
            raise BadAddress(f"{path}: not the JSON of a matrix of this version (stalewatch matrix ... --json FILE)")
    return documents


class _Files:
    """The files of one command."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        flags = ("json", "report", "markdown")
        self._files = {
            flag: OutputFile(f"--{flag}", path) for flag in flags if (path := getattr(arguments, flag)) is not None
        }
        self._stdout = sys.stdout

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Let no other command write to these files during the block."""
        with claimed(self._files.values(), log):
            yield

    @contextmanager
    def tables_to(self) -> Iterator[None]:
        """Print on standard error during the block if a file is standard output."""
        to_stdout = any(str(file.path) == STDOUT for file in self._files.values())
        with redirect_stdout(sys.stderr) if to_stdout else nullcontext():
            yield
            sys.stdout.flush()

    def write(self, documents: Sequence[report.Document], code: int) -> int:
        """Write the files, and return the exit code of a command that would end with `code`."""
        writers: Mapping[str, Callable[[Path], None]] = {
            "json": partial(write_json, documents),
            "report": lambda path: page.write(path, documents),
            "markdown": partial(write_text, report.markdown(documents)),
        }
        failures = [write_file(file, writers[flag]) for flag, file in self._files.items()]
        for failure in filter(None, failures):
            log(failure)
        return OUTPUT_ERROR if code == DONE and any(failures) else code
