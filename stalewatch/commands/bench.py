"""`stalewatch bench DATABASE ...`, also `python bench.py`: load a database from this process and report what was seen.

The load, the checks and the plain lines need the standard library and the database's driver only; what needs more
(tables, progress bars, the page) uses it if it is installed, or names the package to install.
"""

import argparse

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.options import add_arguments as add_options
from stalewatch.clients.options import options_of, parse_options
from stalewatch.commands import outputs
from stalewatch.commands.outputs import log
from stalewatch.engine.process_run import connected
from stalewatch.engine.result import why_nothing_succeeded
from stalewatch.exit_codes import DONE, MISSED, UNREACHABLE
from stalewatch.history.compression import MissingCodec
from stalewatch.metrics.nodes import Faults
from stalewatch.metrics.serving import serving
from stalewatch.reports import expect
from stalewatch.reports.progress import progress
from stalewatch.workloads.options import LoadOptions

EXITS = (
    "Exit codes: 0 done and expectations met, 1 an expectation missed, 2 usage, 3 no database reached, no rights or no "
    "operation succeeded, 130 Ctrl-C and 143 SIGTERM (after the table, within 2 minutes; a second "
    "one exits at once)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the databases and their options."""
    parser.epilog = EXITS
    databases = parser.add_subparsers(dest="database", required=True, metavar="DATABASE")
    for name, database in DATABASES.items():
        one = databases.add_parser(
            name, help=database.help, description=database.help, epilog=EXITS, allow_abbrev=False
        )
        add_options(one.add_argument_group("database"), database.flags())
        add_options(one.add_argument_group("load"), options_of(LoadOptions))
        outputs.add_arguments(one.add_argument_group("output"))


def run(arguments: argparse.Namespace) -> int:
    """Run the load and return the exit code."""
    return outputs.exit_code_of(arguments.prog, lambda: _bench(arguments), MissingCodec)


def _bench(arguments: argparse.Namespace) -> int:
    database = DATABASES[arguments.database]
    load = parse_options(LoadOptions, arguments)
    options: object = parse_options(database.options, arguments)
    expectations = outputs.require(arguments)
    files = outputs.Outputs(arguments, expectations)
    with files.claimed([arguments.history]):
        with connected(database, options, load, log, history=arguments.history, keep=arguments.keep) as run:
            run.perform(progress(run.run.collector.figures), serving(run, arguments.metrics_port, Faults(), log))
            totals = run.totals()
            result = run.result(totals, outputs.command(arguments))
        try:
            outputs.show(totals.findings, result)
        finally:  # even if the reader of the lines leaves early, as in `bench.py ... | head`
            files.write([result])
        missed = expect.missed(expectations, result)
        for line in missed:
            print(line)
    if run.received:
        return run.received[0]
    return files.exit_code(UNREACHABLE if why_nothing_succeeded(result) else MISSED if missed else DONE)
