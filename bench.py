"""`python bench.py DATABASE ...`: load a database from this one process and say what its sessions saw.

The load, the checks and the plain lines need the standard library and the database's driver alone; what needs more
(tables, progress bars, the page) uses it where it is installed, or says what to install.
"""

if __name__ == "__main__":  # first of all, so that sessions are greenlets wherever gevent is installed
    try:
        from gevent import monkey
    except ImportError:
        pass
    else:
        monkey.patch_all()

import argparse
import sys
from collections.abc import Sequence

import workloads.options
from clients.databases import DATABASES
from clients.errors import BadAddress, ClientError
from clients.options import add_arguments
from history.compression import MissingCodec
from replication.protocol import ClusterError
from reports import expect, page
from reports.stdout import leave_quietly
from runs import outputs
from runs.outputs import tell
from runs.single import LOAD_OPTIONS, opened

DONE, MISSED, USAGE, UNREACHABLE, INTERRUPTED = 0, 1, 2, 3, 130
EXITS = (
    "Exit codes: 0 done and expectations met, 1 an expectation missed, 2 usage, 3 no database reached or no rights, "
    "130 Ctrl-C (after the table)."
)


def parser() -> argparse.ArgumentParser:
    """Return the command line of the bench."""
    top = argparse.ArgumentParser(
        prog="bench.py", description="Load a database and say what its sessions saw.", epilog=EXITS, allow_abbrev=False
    )
    databases = top.add_subparsers(dest="database", required=True, metavar="DATABASE")
    for name, database in DATABASES.items():
        one = databases.add_parser(
            name, help=database.help, description=database.help, epilog=EXITS, allow_abbrev=False
        )
        add_arguments(one.add_argument_group("database"), database.options())
        add_arguments(one.add_argument_group("load"), LOAD_OPTIONS)
        outputs.add_arguments(one.add_argument_group("output"))
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and return its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        code = _bench(parsed)
        sys.stdout.flush()
    except (BadAddress, MissingCodec, page.MissingPackage) as error:
        tell(f"bench.py: {error}")
        return USAGE
    except (ClientError, ClusterError) as error:
        tell(f"bench.py: {error}")
        return UNREACHABLE
    except BrokenPipeError:
        return leave_quietly()
    except OSError as error:
        tell(f"bench.py: {error.filename or 'file'}: {error.strerror or error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _bench(arguments: argparse.Namespace) -> int:
    load = workloads.options.options_from(arguments)
    expectations = outputs.require(arguments)
    with opened(arguments, load) as one:
        one.perform()
        findings, result = one.result()
    outputs.deliver(arguments, findings, result)
    missed = expect.missed(expectations, result)
    for line in missed:
        print(line)
    return one.received[0] if one.received else MISSED if missed else DONE


if __name__ == "__main__":
    sys.exit(main())
