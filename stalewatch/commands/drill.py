"""`stalewatch drill`: break a cluster under load, once or several times, and report what its users saw."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any

from stalewatch.clients.databases import BREAKABLE, DATABASES
from stalewatch.clients.errors import BadAddress
from stalewatch.clients.options import add_arguments as add_options
from stalewatch.clients.options import (
    argument,
    at_most,
    count,
    options_of,
    parse_options,
    positive,
    seconds,
    with_values,
)
from stalewatch.clusters.protocol import Reachable
from stalewatch.commands import outputs
from stalewatch.commands.outputs import log
from stalewatch.engine.database_run import check_fit
from stalewatch.exit_codes import DONE, MISSED, UNREACHABLE, USAGE
from stalewatch.history.compression import MissingCodec
from stalewatch.reports import expect
from stalewatch.reports.progress import progress
from stalewatch.workloads.options import LoadOptions

try:
    from stalewatch.drills.catalogue import FLAGS, BadDrill, ScheduledDrill, all_drills, apply_options, defaults_of
except ModuleNotFoundError as error:
    log(f"stalewatch: drills need {error.name}: pip install {error.name}")
    sys.exit(USAGE)

from stalewatch.drills.clusters import prepared_cluster
from stalewatch.drills.drill_run import DrillSettings, FinishedDrill, run_drill
from stalewatch.drills.repeats import Variation, show_comparison, variations

AFTER_S = 30.0
"""Default of --after: how long the load continues after the last fault."""

MAX_DELAY_S = 240.0
"""How long the load may wait for a node that is slow to serve again, if there is no --duration."""

RATE = "400"
"""Default of --rate: an unlimited load would leave servers on this machine no time to recover."""

_repeats = argument(at_most(1000, count, "they run one after another"))

EXITS = (
    "Exit codes: 0 done and expectations met, 1 an expectation missed, 2 usage, 3 a database or cluster that cannot be "
    "reached or broken, 130 Ctrl-C and 143 SIGTERM (faults undone, after the table, within 5 "
    "minutes; a second one exits at once)."
)


LIST: Mapping[str, Any] = {"action": "store_true", "help": "list the drills, what they teach and what to expect"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the databases and their options."""
    parser.epilog = EXITS
    parser.add_argument("--list", **LIST, default=False)
    parser.add_argument(
        "--drills", dest="own", type=Path, metavar="FILE", help="a TOML file with your own drills (see docs/drills.md)"
    )
    databases = parser.add_subparsers(dest="database", metavar="DATABASE")
    for name, database in ((name, DATABASES[name]) for name in BREAKABLE):
        one = databases.add_parser(name, help=database.help, description=database.help, epilog=EXITS)
        _add_drill(one.add_argument_group("drill"))
        add_options(one.add_argument_group("database"), database.flags())
        add_options(one.add_argument_group("load"), options_of(LoadOptions))
        outputs.add_arguments(one.add_argument_group("output"))


def _add_drill(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--fault", metavar="DRILL", help="the drill; --list shows which there are")
    group.add_argument("--list", **LIST, default=argparse.SUPPRESS)  # as given before the database's name
    for flag, details in FLAGS.items():
        group.add_argument(flag, **details)
    group.add_argument(
        "--after",
        type=argument(seconds),
        default=AFTER_S,
        metavar="S",
        help=f"seconds of load after the last fault, if there is no --duration (default {AFTER_S:g})",
    )
    group.add_argument(
        "--repeat", type=_repeats, default=1, metavar="N", help="run the drill N times, and show how the figures vary"
    )
    group.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="OPTION=A,B",
        help="run the drill for each value and compare: write-concern=1,majority; several options vary together",
    )


def run(arguments: argparse.Namespace) -> int:
    """List the drills or run one, and return the exit code."""
    return outputs.exit_code_of("stalewatch", lambda: _list_or_run(arguments), BadDrill, MissingCodec)


def _list_or_run(arguments: argparse.Namespace) -> int:
    if arguments.list or arguments.database is None:
        return _list(arguments)
    if arguments.fault is None:
        raise BadDrill(f"which drill? Give --fault NAME; stalewatch drill {arguments.database} --list shows them")
    return _run_drills(arguments, ScheduledDrill.from_arguments(arguments))


def _list(arguments: argparse.Namespace) -> int:
    for drill in all_drills(getattr(arguments, "drills", None) or arguments.own).values():
        if arguments.database not in {None, *drill.databases}:
            continue
        print(f"{drill.name} ({', '.join(drill.databases)})")
        for label, text in (("", drill.teaches), ("expect: ", drill.expect)):
            if text:
                print(f"    {label}{text}")
    if not arguments.list:
        log("stalewatch: which database? For example: stalewatch drill mongo --fault kill-primary")
    return DONE if arguments.list else USAGE


def _run_drills(arguments: argparse.Namespace, scheduled: ScheduledDrill) -> int:
    """Run every variation of a drill, and show and write the results."""
    expectations = outputs.require(arguments)
    files = outputs.Outputs(arguments, expectations)
    each = variations(arguments.vary, arguments.repeat)
    _set_defaults(arguments, scheduled)
    runs = [_varied(arguments, variation, number, len(each)) for number, variation in enumerate(each, start=1)]
    loads = [_checked(one) for one in runs]
    name, finished = scheduled.drill.name, list[FinishedDrill]()
    with files.claimed([one.history for one in runs]):
        try:
            with prepared_cluster(arguments, scheduled.drill, log) as cluster:
                for variation, one, load in zip(each, runs, loads, strict=True):
                    if len(each) > 1:
                        log(f"{name} {len(finished) + 1}/{len(each)}: {variation.label or 'repeat'}")
                    finished.append(_run_once(one, load, scheduled, cluster))
                    outputs.show(finished[-1].findings, finished[-1].result)
                    if finished[-1].received or finished[-1].failure:
                        break
        finally:  # whatever ends the rest, these results count
            if finished:
                files.write([one.result for one in finished])
        if len(finished) > 1:
            show_comparison(name, list(zip(each, (one.result for one in finished), strict=False)))
        return files.exit_code(_exit_code(finished, expectations))


def _checked(arguments: argparse.Namespace) -> LoadOptions:
    """Return the load of one run; raise `BadAddress` for any option that is invalid, before a cluster is started."""
    database, load = DATABASES[arguments.database], parse_options(LoadOptions, arguments)
    check_fit(database, parse_options(database.options, arguments), load)
    return load


def _run_once(
    arguments: argparse.Namespace, load: LoadOptions, scheduled: ScheduledDrill, cluster: Reachable | None
) -> FinishedDrill:
    database = DATABASES[arguments.database]
    options: object = parse_options(database.options, arguments)
    if cluster is not None:
        cluster.ensure(log)
        options = with_values(options, cluster.client_options())
    settings = DrillSettings(
        arguments.after_s, arguments.history, arguments.keep, arguments.metrics_port, log, progress
    )
    finished = run_drill(database, options, load, scheduled, cluster, settings)
    finished.result.update(outputs.command(arguments))
    return finished


def _exit_code(finished: Sequence[FinishedDrill], expectations: Sequence[expect.Expectation]) -> int:
    missed = [line for one in finished for line in expect.missed(expectations, one.result)]
    for line in missed:
        print(line)
    last = finished[-1]
    if last.received:
        return last.received[0]
    return UNREACHABLE if last.failure else MISSED if missed else DONE


def _set_defaults(arguments: argparse.Namespace, scheduled: ScheduledDrill) -> None:
    """Set what the user did not choose: the drill's own options, then rate, duration and workload."""
    if arguments.ops is not None:
        raise BadDrill("--ops: a drill lasts for a time, not for a number of operations; use --duration")
    apply_options(arguments, scheduled.drill)
    arguments.after_s = None
    if arguments.rate is None:
        arguments.rate = RATE
    if arguments.duration is None:
        arguments.duration, arguments.after_s = str(scheduled.end_s + MAX_DELAY_S + arguments.after), arguments.after
    elif positive(arguments.duration) <= scheduled.end_s:
        raise BadDrill(
            f"--duration {arguments.duration}: too short, since the last fault ends after {scheduled.end_s:g} s"
        )
    if arguments.workload is None:
        arguments.workload = defaults_of(arguments.database).workload


def _varied(arguments: argparse.Namespace, variation: Variation, number: int, total: int) -> argparse.Namespace:
    """Return the arguments of one run; each of several histories gets a number in its name."""
    varied = copy(arguments)
    for flag, value in variation.options.items():
        name = flag.replace("-", "_")
        if name not in _variable_options(arguments.database):
            raise BadAddress(f"--vary {flag}: not an option of {arguments.database} or of the load that can vary")
        setattr(varied, name, value)
    if total > 1 and varied.history is not None:
        varied.history = varied.history.with_name(f"{number}-{varied.history.name}")
    return varied


def _variable_options(database: str) -> set[str]:
    row = DATABASES[database]
    options = (*row.flags(), *options_of(LoadOptions))
    return {option.name for option in options if option.field not in row.addresses} - {"ops", "duration"}
