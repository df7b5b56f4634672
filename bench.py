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
import json
import secrets
import signal
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import workloads.options
from checkers.findings import Findings
from checkers.judge import Judge
from clients.databases import DATABASES
from clients.errors import BadAddress, ClientError
from clients.options import add_arguments, shown
from clients.protocol import Client
from history.clock import Clock, RealClock
from history.compression import MissingCodec
from history.operation import FORMAT, FORMAT_VERSION, Header
from history.writer import HistoryWriter
from load.bench_metrics import serving
from replication.local.addresses import addresses
from replication.protocol import ClusterError
from reports import expect, page
from reports.lines import plain_lines
from reports.progress import progress
from reports.result import run_result
from reports.stdout import leave_quietly
from reports.table import COLUMNS, rows, show
from workloads import kinds
from workloads.options import LoadOptions
from workloads.progress import Progress
from workloads.pulse import Pulse, Steady
from workloads.recorder import Recorder
from workloads.runner import Run
from workloads.statistics import Statistics
from workloads.tally import Tally

LOAD_OPTIONS = (*workloads.options.OPTIONS, *workloads.options.WORKLOAD_OPTIONS)

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
        _add_outputs(one.add_argument_group("output"))
    return top


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    group.add_argument("--report", type=Path, metavar="FILE", help="write the result as a page with charts")
    group.add_argument("--history", type=Path, metavar="FILE", help="write every operation (.jsonl[.gz|.zst])")
    group.add_argument("--keep", action="store_true", help="leave the run's keys in the database")
    group.add_argument(
        "--metrics-port",
        type=workloads.options.port,
        metavar="PORT",
        help="serve the run to Prometheus there, on 127.0.0.1",
    )
    group.add_argument(
        "--expect",
        metavar="LIST",
        help="e.g. read_your_writes=0,stale_reads<0.05; exit 1 where missed",
    )


def _expectations(text: str | None) -> list[expect.Expectation]:
    try:
        return [] if text is None else expect.parse(text)
    except ValueError as error:
        raise BadAddress(f"--expect: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench and return its exit code."""
    parsed = parser().parse_args(arguments)
    try:
        code = _bench(parsed)
        sys.stdout.flush()
    except (BadAddress, MissingCodec, page.MissingPackage) as error:
        _tell(f"bench.py: {error}")
        return USAGE
    except (ClientError, ClusterError) as error:
        _tell(f"bench.py: {error}")
        return UNREACHABLE
    except BrokenPipeError:
        return leave_quietly()
    except OSError as error:
        _tell(f"bench.py: {error.filename or 'file'}: {error.strerror or error}")
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _bench(arguments: argparse.Namespace) -> int:
    load = workloads.options.options_from(arguments)
    expectations = _expectations(arguments.expect)
    if arguments.report:
        page.require()
    for path in (arguments.json, arguments.report, arguments.history):
        _require_writable(path)
    client = _client(arguments, load)
    client.prepare()
    try:
        run, recorder = _start(arguments, load, client)
        tally = Tally(recorder)
        with _signals(run) as received, serving(run.name, arguments, recorder, tally, load.users, _tell):
            _perform(run, recorder, keep=arguments.keep)
        findings, statistics = tally.take()
        result = _result(arguments, load, client, findings, statistics, run)
    finally:
        client.close()
    _deliver(arguments, findings, result)
    missed = expect.missed(expectations, result)
    for line in missed:
        print(line)
    return received[0] if received else MISSED if missed else DONE


def _client(arguments: argparse.Namespace, load: LoadOptions) -> Client:
    database = DATABASES[arguments.database]
    if database.lacks_address(arguments):
        vars(arguments).update(addresses(arguments.database, _tell))
    if database.addresses:  # what is missing there may take a while to set up
        _tell(f"preparing {arguments.database}")
    return database.open(arguments, load.users, load.seed, database.clock())


def _require_writable(path: Path | None) -> None:
    """Raise OSError now, not after the run, where a file cannot be written; leaves no trace."""
    if path is None or (path.exists() and not path.is_file() and not path.is_dir()):
        return  # a pipe or a device would notice
    new = not path.exists()
    path.open("ab").close()
    if new:
        path.unlink()


def _start(arguments: argparse.Namespace, load: LoadOptions, client: Client) -> tuple[Run, Recorder]:
    name = _run_name(arguments.database, load, _options(arguments, load))
    header = Header(
        format=FORMAT,
        version=FORMAT_VERSION,
        run=name,
        database=arguments.database,
        clock_error_ns=0,
        closes=True,
        options=_options(arguments, load),
    )
    history = HistoryWriter(arguments.history, header) if arguments.history else None
    recorder = Recorder(client.clock, Judge(), history, _pulse(client.clock))
    return Run(client, recorder, load, name), recorder


def _pulse(clock: Clock) -> Pulse | Steady:
    if not isinstance(clock, RealClock):
        return Steady()  # simulated time stands still with the process
    pulse = Pulse(clock)
    pulse.start()
    return pulse


def _run_name(database: str, load: LoadOptions, options: dict[str, Any]) -> str:
    """Return a name that no other run has; a simulated run is repeatable, so its seed and options name it."""
    if database == "memory":
        return f"seed{load.seed}-{zlib.crc32(repr(sorted(options.items())).encode()):08x}"
    return f"{time.strftime('%Y%m%d%H%M%S')}{secrets.token_hex(2)}"


def _options(arguments: argparse.Namespace, load: LoadOptions) -> dict[str, Any]:
    options = (*DATABASES[arguments.database].options(), *LOAD_OPTIONS)
    return {**shown(options, arguments), "seed": load.seed, "ops": load.operations}


@contextmanager
def _signals(run: Run) -> Iterator[list[int]]:
    """End the run in order at Ctrl-C or a termination; the second one ends it at once.

    That one may strike in any greenlet, gevent's own too. From there `SystemExit` reaches the main one in silence.
    """
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(128 + number)
        if len(received) > 1:
            raise SystemExit(received[0])
        run.interrupt()
        _tell("stopping; once more to leave at once")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _perform(run: Run, recorder: Recorder, *, keep: bool) -> None:
    """Run the load and delete its keys, whatever happened; only the second Ctrl-C leaves them behind."""
    _tell(f"creating {len(run.keys)} keys")
    run.preload()
    try:
        with progress() as advance:

            def report(state: Progress) -> None:
                advance(state.phase, state.done, state.total, state.unit)

            run.load(report)
            if not run.interrupted:
                run.final_reads(report)
    except SystemExit:
        if not keep:
            _left_behind(run, "leaving at once")
        keep = True
        raise
    finally:
        run.workload.stop()
        recorder.finish()
        if not keep:
            _clean(run)


def _clean(run: Run) -> None:
    try:
        run.clean()
    except ClientError as error:
        _left_behind(run, str(error))


def _left_behind(run: Run, reason: str) -> None:
    _tell(f"the run's keys {run.keys[0]} ... {run.keys[-1]} are left behind: {reason}")


def _result(
    arguments: argparse.Namespace,
    load: LoadOptions,
    client: Client,
    findings: Findings,
    statistics: Statistics,
    run: Run,
) -> dict[str, Any]:
    names = kinds.names(load.workload)
    about = {
        "database": arguments.database,
        "run": run.name,
        "options": {**_options(arguments, load), "driver": client.settings()},
        "duration_s": run.duration_s,
        "interrupted": run.interrupted,
        "final_reads_s": run.final_reads_s,
        **statistics.figures(),
        **run.workload.result(),
        "workloads": sorted(names),
        "lost_writes_exact": kinds.exact(names),
    }
    return run_result(findings, about, statistics.latencies())


def _deliver(arguments: argparse.Namespace, findings: Findings, result: dict[str, Any]) -> None:
    try:
        for line in plain_lines(result):
            print(line)
        show(f"{result['database']} {result['run']}", COLUMNS, rows(findings.verdicts))
        sys.stdout.flush()
    finally:  # the files are written also where nobody reads the lines to their end, as in `bench.py ... | head`
        if arguments.json:
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
        if arguments.report:
            page.write(arguments.report, [result])
    if arguments.report:
        print(f"report: {arguments.report}")


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
