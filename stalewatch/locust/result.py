"""What a run under Locust came to: its JSON result, the lines and files, and what lost workers left behind."""

import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import gevent

from stalewatch.checkers.guarantee import JudgeContext
from stalewatch.checkers.judge import Judge
from stalewatch.clients.options import parse_options, public_command, public_values
from stalewatch.engine.database_run import added_up
from stalewatch.engine.result import run_result, why_nothing_succeeded
from stalewatch.exit_codes import DONE, MISSED, UNREACHABLE
from stalewatch.history.operation import Operation
from stalewatch.history.reader import BadHistory, History
from stalewatch.locust import options
from stalewatch.locust.master_run import BackgroundResult, MasterRun, RunOutcome, WorkerRecord
from stalewatch.locust.messages import HistoryFile
from stalewatch.recording.attempts import AttemptLog
from stalewatch.recording.statistics import Statistics
from stalewatch.recording.totals import Totals
from stalewatch.reports import ci, expect, page
from stalewatch.reports.files import write, write_json
from stalewatch.reports.lines import answer_lines, figure_lines
from stalewatch.reports.table import show_guarantees
from stalewatch.workloads import workload_names
from stalewatch.workloads.options import LoadOptions

log = logging.getLogger("stalewatch")

SLICE = 2000
"""How many operations are judged before other greenlets run, which takes about 10 ms."""

NO_FINAL_READS = "final reads are missing, so lost writes were not looked for, or not on all keys"


def outcome(run: MasterRun, background: BackgroundResult) -> RunOutcome:
    """Return what the totals of all workers come to, with the result of the background task."""
    totals, workers = run.totals, list(run.workers)
    totals.findings.complete = run.complete
    settings = {database: found for worker in workers for database, found in worker.settings.items()}
    databases = sorted(settings) or list(run.databases)
    result = run_result(
        totals,
        database=",".join(databases),
        run=run.name,
        options=_options(run.options, databases) | {"users": run.users, "driver": _by_database(settings)},
        duration_s=run.duration_s,
        workload_results=_workload_results(run.options, [worker.extra_results for worker in workers]),
        ended_early=run.cut_short,
        extra={
            **background.result,
            "command": public_command(["locust", *sys.argv[1:]], options.all_options(options.DATABASES)),
            "workers": [worker_row(worker) for worker in workers],
        },
    )
    missed = expect.missed(options.expectations(run.options), result)
    failed = max((background.exit_code, *(worker.exit_code for worker in workers)))
    if run.databases and why_nothing_succeeded(result):
        failed = failed or UNREACHABLE
    return RunOutcome(result, totals, missed, failed or (MISSED if missed else DONE))


def _workload_results(namespace: Namespace, reported: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the workloads' results beyond the guarantees, and their names: the options' if no worker reported any."""
    return {"workloads": sorted(workload_names(parse_options(LoadOptions, namespace).workload)), **added_up(reported)}


def _options(namespace: Namespace, databases: Collection[str]) -> dict[str, Any]:
    """Return the options in force; if there are several databases, by database: flags may mean different things."""
    each = {
        database: public_values(parse_options(options.DATABASES[database].options, namespace)) for database in databases
    }
    return options.public_load(parse_options(LoadOptions, namespace)) | _by_database(each)


def _by_database(values: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the values of the only database, or all of them by database."""
    return next(iter(values.values())) if len(values) == 1 else dict(values)


def print_outcome(outcome: RunOutcome) -> None:
    """Print the lines and the table that the bench prints, and lines about workers."""
    result = outcome.result
    for line in (*figure_lines(result), *worker_lines(result["workers"])):
        print(line)
    show_guarantees(f"{result['database']} {result['run']}", outcome.totals.findings.verdicts)
    for line in (*answer_lines(result), *outcome.missed):
        print(line, flush=True)


def write_files(result: dict[str, Any], namespace: Namespace) -> list[str]:
    """Write the files that the options ask for; return a line for each one that cannot be written."""
    for_ci = {"results": [result], "expectations": options.expectations(namespace)}
    writers: dict[str, Callable[[Path], object]] = {
        "--report-json": partial(write_json, [result]),
        "--report": lambda path: page.write(path, [result]),
        **{flag: partial(writer, **for_ci) for flag, writer in ci.WRITERS.items()},
    }
    return [failure for file in options.files(namespace) if (failure := write(file, writers[file.flag]))]


@contextmanager
def lines_to_stderr(namespace: Namespace) -> Iterator[None]:
    """Print on standard error during the block if a file goes to standard output, which then holds nothing else."""
    with redirect_stdout(sys.stderr) if options.stdout_taken(namespace) else nullcontext():
        yield


def worker_row(worker: WorkerRecord) -> dict[str, Any]:
    """Return a worker's row in the JSON result."""
    return {
        "worker": worker.worker,
        "id": worker.client_id,
        "host": worker.host,
        "state": worker.state,
        "operations": worker.operations,
        "clock_error_ns": worker.clock_error_ns,
        "stalls": [{"start": stall.start, "end": stall.end} for stall in worker.stalls],
        "stood_still_s": worker.stalled_ns / 1e9,
        "histories": [file.path for file in worker.histories],
        "trouble": worker.failure,
        "unchecked": unchecked(worker),
    }


def unchecked(worker: WorkerRecord) -> str | None:
    """Return what could not be checked of a worker; None if everything was."""
    if worker.complete:
        return None
    return next(text for applies, text in _reasons(worker) if applies)


def _reasons(worker: WorkerRecord) -> Iterator[tuple[bool, str]]:
    """Yield the reasons why something is missing, and whether each applies."""
    refused = f"at least one of its reports was refused, and what it contained is not counted: {worker.refusal}"
    yield worker.refusal is not None, refused
    yield worker.gap, "at least one of its reports never arrived, and what it contained is not counted"
    yield worker.done, f"its run did not end cleanly, see its log; {NO_FINAL_READS}"
    yield not worker.lost, f"its run had not ended when the verdict was made; {NO_FINAL_READS}"
    salvaged = "counted to the end of its history file, which lacks at most its last second"
    yield worker.salvaged, f"{salvaged}; {NO_FINAL_READS}"
    yield not worker.reported, f"it never reported, and what it did, if anything, is not counted; {NO_FINAL_READS}"
    silent = f"its last report came {worker.silent_s:.1f} s before the verdict"
    yield True, f"{silent}, and what it did after its last report is not counted; {NO_FINAL_READS}"


def worker_lines(workers: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Yield lines about the workers that stalled, failed, or could not be checked completely."""
    for row in workers:
        name = f"worker {row['worker']} ({row['id']})"
        if row["stood_still_s"]:
            yield f"{name} stalled for {row['stood_still_s']:.1f} s: latencies of operations in flight are left out"
        if row["trouble"]:
            yield f"{name}: {row['trouble']}"
        if row["unchecked"]:
            yield f"{name} is {row['state']}: {row['unchecked']}"


def salvage(worker: WorkerRecord, run: str, folder: Path | None) -> Totals:
    """Return what a lost worker did after its last report, if all of its history files can be read on this machine.

    A worker writes its operations to the file in the order in which they are judged, and before it reports them. So the
    file starts with everything that was reported, and continues with what was done until the worker died, except for
    the last second, which was not written yet. Judging the file from the start and dropping the findings about the
    reported operations adds exactly the rest. A worker that died before its first report may have left files in
    `folder`. Only files in there are read, whatever paths a worker reports: it could name any file of this machine.
    """
    totals = Totals()
    if folder is None:
        return totals
    left = folder.glob(f"{run}-w{worker.worker}-*")
    files = worker.histories or [HistoryFile(str(path), 0, 0, finished=False) for path in left]
    found = {_found(file, folder, run, worker.worker) for file in files}
    if not found or None in found or len(found) < len(files):
        return totals
    try:
        for file in files:
            totals.merge(_unreported(file))
    except BadHistory as error:
        log.warning("cannot use the history of worker %d: %s", worker.worker, error)
        return Totals()
    worker.operations += totals.operations
    worker.salvaged = True
    return totals


def _found(file: HistoryFile, folder: Path, run: str, worker: int) -> Path | None:
    """Return where a history of the worker is, if that is in the folder itself; it may be on another machine."""
    try:
        path = Path(file.path).resolve(strict=True)
        if path.parent != folder.resolve() or not path.is_file():
            return None
        header = History([path]).headers[0]
    except (BadHistory, OSError, RuntimeError, ValueError):  # links in a circle are a RuntimeError, a NUL a ValueError
        return None
    return path if header.run == run and header.worker == worker else None


def _unreported(file: HistoryFile) -> Totals:
    """Return the totals of the operations in the file that were not reported."""
    history = History([Path(file.path)])
    judge = Judge(JudgeContext(tuple(history.sources), history.horizon_ns))
    statistics, attempts = Statistics(), AttemptLog()
    statistics.counting_from_ns = file.counting_from_ns
    operations = _in_slices(history)
    for operation, source in islice(operations, file.reported):
        judge.observe(operation, source)
    judge.drain()
    for operation, source in operations:
        violations = judge.observe(operation, source)
        attempts.on_operation(operation, violations)
        statistics.on_operation(operation, violations)
    if not file.finished:
        attempts.on_end(judge.finish())
    return Totals(judge.findings(), statistics, attempts)


def _in_slices(history: History) -> Iterator[tuple[Operation, int]]:
    for count, pair in enumerate(history.operations()):
        yield pair
        if count % SLICE == 0:
            gevent.sleep(0)
