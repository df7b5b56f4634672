"""`stalewatch drill`: arguments, what they do, exit codes."""

import argparse
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import add_arguments as add_options
from stalewatch.clients.options import count, options_of, parse_options, positive, seconds, with_values
from stalewatch.clusters.protocol import ClusterError
from stalewatch.commands import outputs
from stalewatch.commands.outputs import tell
from stalewatch.drills import broken
from stalewatch.drills.chosen import FLAGS, Chosen, choose, drills
from stalewatch.drills.drill_run import Drilled, DrillSettings, drilled
from stalewatch.drills.plan import BadDrill, Drill
from stalewatch.drills.side_by_side import show
from stalewatch.drills.variations import Variation, variations
from stalewatch.exit_codes import DONE, MISSED, UNREACHABLE, USAGE
from stalewatch.history.compression import MissingCodec
from stalewatch.reports import expect, page
from stalewatch.reports.progress import progress
from stalewatch.workloads.options import LoadOptions

AFTER_S = 30.0
"""How long the load goes on, where nobody says so, after the last fault is over."""

LATE_S = 240.0
"""How long the load waits, where nobody says how long it lasts, for a node that takes its time to serve again."""

RATE = "400"
"""Operations a second where nobody says so: as many as come would leave servers on this machine no time to recover."""

WORKLOADS = {"mongo": "register,ledger,sequence", "memory": "register,ledger,sequence", "cassandra": "register,ledger"}
"""What the sessions do where nobody says so, by database: a ledger knows exactly what is lost, a sequence which ids."""

EXITS = (
    "Exit codes: 0 done and expectations met, 1 an expectation missed, 2 usage, 3 a database or cluster that cannot be "
    "reached or broken, 130 Ctrl-C (faults undone, after the table)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add databases and options to the parser of ``stalewatch drill``."""
    parser.epilog = EXITS
    parser.add_argument("--list", action="store_true", help="say which drills there are, and what they teach")
    parser.add_argument(
        "--drills", dest="own", type=Path, metavar="FILE", help="your own drills, a TOML file (see docs/drills.md)"
    )
    databases = parser.add_subparsers(dest="database", metavar="DATABASE")
    for name, database in DATABASES.items():
        one = databases.add_parser(name, help=database.help, description=database.help, epilog=EXITS)
        _add_drill(one.add_argument_group("drill"))
        add_options(one.add_argument_group("database"), database.flags())
        add_options(one.add_argument_group("load"), options_of(LoadOptions))
        outputs.add_arguments(one.add_argument_group("output"))


def _add_drill(group: Any) -> None:  # noqa: ANN401 # argparse's group is private
    group.add_argument("--fault", metavar="DRILL", required=True, help="which drill: one of `stalewatch drill --list`")
    for flag, options in FLAGS.items():
        group.add_argument(flag, **options)
    group.add_argument(
        "--after",
        type=seconds,
        default=AFTER_S,
        metavar="S",
        help=f"seconds of load after the last fault is over (default {AFTER_S:g}), where no --duration says otherwise",
    )
    group.add_argument(
        "--repeat", type=count, default=1, metavar="N", help="do it so many times, and show how figures vary"
    )
    group.add_argument(
        "--vary",
        action="append",
        default=[],
        metavar="OPTION=A,B",
        help="do it for each value, side by side: write-concern=1,majority; several options go together",
    )


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, and return the exit code."""
    try:
        if arguments.list or arguments.database is None:
            return _list(arguments)
        return _drill(arguments, Chosen.of(arguments))
    except (BadDrill, BadAddress, MissingCodec, page.PageUnavailable) as error:
        tell(f"stalewatch: {error}")
        return USAGE
    except (ClientError, ClusterError) as error:
        tell(f"stalewatch: {error}")
        return UNREACHABLE
    except BrokenPipeError:
        raise
    except OSError as error:
        tell(f"stalewatch: {error.filename or 'file'}: {error.strerror or error}")
        return USAGE


def _list(arguments: argparse.Namespace) -> int:
    _tell_of(drills(arguments.own))
    if not arguments.list:
        tell("stalewatch: which database? stalewatch drill mongo --fault kill-primary")
    return DONE if arguments.list else USAGE


def _tell_of(drills: dict[str, Drill]) -> None:
    for drill in drills.values():
        print(f"{drill.name} ({', '.join(drill.databases)})")
        for what, text in (("", drill.teaches), ("expect: ", drill.expect)):
            if text:
                print(f"    {what}{text}")


def _drill(arguments: argparse.Namespace, chosen: Chosen) -> int:
    expectations = outputs.require(arguments)
    each = variations(arguments.vary, arguments.repeat)
    _choose(arguments, chosen)
    runs = [_varied(arguments, variation, number, len(each)) for number, variation in enumerate(each, start=1)]
    loads = [parse_options(LoadOptions, mine) for mine in runs]
    done: list[Drilled] = []
    try:
        with broken.at_hand(arguments, chosen.drill, tell) as found:
            for variation, mine, load in zip(each, runs, loads, strict=True):
                if len(each) > 1:
                    tell(f"{chosen.drill.name} {len(done) + 1}/{len(each)}: {variation.words or 'again'}")
                options: object = parse_options(DATABASES[mine.database].options, mine)
                if found is not None:
                    found.ensure(tell)
                    options = with_values(options, found.client_options())
                settings = DrillSettings(mine.after_s, mine.history, mine.keep, mine.metrics_port, tell, progress)
                done.append(drilled(DATABASES[mine.database], options, load, chosen, found, settings))
                outputs.show(done[-1].findings, done[-1].result)
                if done[-1].received or done[-1].trouble:
                    break
    finally:  # what was done stands, whatever ended the rest
        if done:
            outputs.write(arguments, [one.result for one in done])
    if len(done) > 1:
        show(chosen.drill.name, list(zip(each, (one.result for one in done), strict=False)))
    return _exit_code(done, expectations)


def _exit_code(done: Sequence[Drilled], expectations: Sequence[expect.Expectation]) -> int:
    missed = [line for one in done for line in expect.missed(expectations, one.result)]
    for line in missed:
        print(line)
    last = done[-1]
    if last.received:
        return last.received[0]
    return UNREACHABLE if last.trouble else MISSED if missed else DONE


def _choose(arguments: argparse.Namespace, chosen: Chosen) -> None:
    """Choose what nobody chose: as the drill says, else how long and with which workload."""
    if arguments.ops is not None:
        raise BadDrill("--ops: a drill lasts for a time, not for a number of operations; give --duration")
    choose(arguments, chosen.drill)
    arguments.after_s = None
    if arguments.rate is None:
        arguments.rate = RATE
    if arguments.duration is None:
        arguments.duration, arguments.after_s = str(chosen.over_s + LATE_S + arguments.after), arguments.after
    elif positive(arguments.duration) <= chosen.over_s:
        raise BadDrill(f"--duration {arguments.duration}: the last fault is over at {chosen.over_s:g} s; give more")
    if arguments.workload is None:
        arguments.workload = WORKLOADS.get(arguments.database)


def _varying(database: str) -> set[str]:
    row = DATABASES[database]
    options = (*row.flags(), *options_of(LoadOptions))
    return {option.name for option in options if option.field not in row.addresses} - {"ops", "duration"}


def _varied(arguments: argparse.Namespace, variation: Variation, number: int, of: int) -> argparse.Namespace:
    """Return the arguments of one run; several histories are told apart by a number in their names."""
    mine = copy(arguments)
    for flag, value in variation.options.items():
        name = flag.replace("-", "_")
        if name not in _varying(arguments.database):
            raise BadAddress(f"--vary {flag}: no option of {arguments.database} or of the load that can vary")
        setattr(mine, name, value)
    if of > 1 and mine.history is not None:
        mine.history = mine.history.with_name(f"{number}-{mine.history.name}")
    return mine
