"""`stalewatch clean DATABASE`: find what killed runs left in a database, and remove it with `--yes`."""

import argparse
import pkgutil
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import add_arguments as add_options
from stalewatch.clients.options import parse_options
from stalewatch.clients.protocol import Leftover, Leftovers
from stalewatch.clusters.protocol import ClusterError
from stalewatch.commands.outputs import log
from stalewatch.engine.database_run import with_local_cluster
from stalewatch.exit_codes import DONE, UNREACHABLE, USAGE

EPILOG = (
    "Without --yes, nothing is changed. What a run that is still under way uses is listed too: end such runs first, or "
    "name the one to clean up after. Keys of users with blocks of their own (Watched) are known to their application "
    "alone and are not found: a run deletes them by the user's remove method, and one that is killed leaves them. Exit "
    "codes: 0 done, 2 usage, 3 no database reached or no rights."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the databases and their options."""
    parser.epilog = EPILOG
    databases = parser.add_subparsers(dest="database", required=True, metavar="DATABASE")
    for name, database in DATABASES.items():
        if database.leftovers is not None:
            one = databases.add_parser(name, help=database.help, epilog=EPILOG, allow_abbrev=False)
            one.add_argument("--run", metavar="NAME", help="only what this run left (default: all runs)")
            one.add_argument("--yes", action="store_true", help="remove what was found")
            add_options(one.add_argument_group("database"), database.flags())


def run(arguments: argparse.Namespace) -> int:
    """List what was found, remove it if so chosen, and return the exit code."""
    try:
        return _clean(arguments)
    except BadAddress as error:
        log(f"stalewatch: {error}")
        return USAGE
    except (ClientError, ClusterError) as error:
        log(f"stalewatch: {error}")
        return UNREACHABLE


def _clean(arguments: argparse.Namespace) -> int:
    database = DATABASES[arguments.database]
    given: object = parse_options(database.options, arguments)
    options = with_local_cluster(database, given, log)
    leftovers: Leftovers = pkgutil.resolve_name(str(database.leftovers))(options)
    with closing(leftovers):
        found = [one for one in leftovers.find() if arguments.run in (None, one.run)]
        _list(found)
        if not found:
            print(f"nothing of {f'run {arguments.run}' if arguments.run else 'any run'} was found")
        elif arguments.yes:
            leftovers.remove(found)
            print("removed")
        else:
            print("nothing was changed; to remove all of this, give --yes")
    return DONE


def _list(found: Sequence[Leftover]) -> None:
    for (name, place), number in sorted(Counter((one.run or "", one.place) for one in found).items()):
        first = next(one.key for one in found if (one.run or "", one.place) == (name, place))
        print(f"{f'run {name}' if name else 'set-up of runs'}: {number} in {place}, such as {first}")
