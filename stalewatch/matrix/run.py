"""The runs of a matrix: one cell after another on one cluster, within a budget, kept in a file as they finish."""

import json
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import BadAddress, ClientError
from stalewatch.clients.options import with_values
from stalewatch.clusters.protocol import ClusterError, Reachable
from stalewatch.drills.catalogue import ScheduledDrill, bundled_drills
from stalewatch.drills.drill_run import DrillSettings, run_drill
from stalewatch.engine.process_run import Log, ProcessRun, connected
from stalewatch.matrix.cells import CALM, WORKLOADS, Cell
from stalewatch.matrix.evidence import MeasuredCell
from stalewatch.workloads.options import LoadOptions

RATE = 400.0
"""Operations per second under provocation, as in drills."""

MAX_DELAY_S = 900.0
"""How long a load may wait for a node that is slow to serve again; it goes on until the fault is over."""

GRACE_S = 15.0
"""How long after the budget a cell may go on before it is interrupted; healing and cleaning up take longer."""

MOST_FAILURES = 3
"""After so many failed cells in a row there is no point in going on."""


FORESEEN = (ClientError, ClusterError, BadAddress)
"""Exceptions that say what to do; any other is a bug, and is shown with its traceback."""


class CellsFailed(Exception):
    """One cell after another failed, the last one because of this exception's cause."""


class Interrupted(Exception):
    """A signal ended the matrix; `code` is the exit code that it asks for."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Setup(NamedTuple):
    """What all cells have in common: options with an address, the load, and the cluster that faults break, if any."""

    database: str
    options: Any
    load: LoadOptions
    cluster: Reachable | None
    scope: str
    """What tells this matrix from others of the database: other servers than a local cluster, and a choice of cells."""


def run_cell(setup: Setup, cell: Cell, seconds_left: float | None, log: Log) -> MeasuredCell | None:
    """Run one cell; return None if the time was over before it was done.

    Raises `Interrupted`, a `ClientError` or a `ClusterError`.
    """
    begun = time.monotonic()
    if setup.cluster is not None:
        setup.cluster.ensure(log)
    late = threading.Event()

    def limit(process: ProcessRun) -> None:
        if seconds_left is not None:
            spent = time.monotonic() - begun
            timers.append(threading.Timer(max(0.0, seconds_left + GRACE_S - spent), _interrupt, (process, late)))
            timers[-1].daemon = True
            timers[-1].start()

    timers: list[threading.Timer] = []
    try:
        result, received = _result(setup, cell, limit, log)
    finally:
        for timer in timers:
            timer.cancel()
    if received:
        raise Interrupted(received[0])
    return None if late.is_set() else MeasuredCell(cell, result, time.monotonic() - begun)


def _interrupt(process: ProcessRun, late: threading.Event) -> None:
    late.set()
    process.load.interrupt()


def _result(
    setup: Setup, cell: Cell, limit: Callable[[ProcessRun], None], log: Log
) -> tuple[Mapping[str, Any], list[int]]:
    database, provocation = DATABASES[setup.database], cell.provocation
    options, load = cell_options(setup, cell), cell_load(setup, cell)
    if provocation.drill is None:
        with connected(database, options, load, log) as process:
            limit(process)
            process.perform(nullcontext(lambda _progress: None))
            return process.result(process.totals()), process.received
    scheduled = ScheduledDrill(bundled_drills()[provocation.drill], provocation.at_s, provocation.lasts_s)
    settings = DrillSettings(
        provocation.after_s,
        None,
        keep=False,
        metrics_port=None,
        log=log,
        progress=_no_progress,
        started=limit,
        awaits_agreement=False,
    )
    finished = run_drill(database, options, load, scheduled, setup.cluster, settings)
    return finished.result, finished.received


def _no_progress(_figures: object) -> Any:  # noqa: ANN401 # a context manager
    return nullcontext(lambda _progress: None)


def cell_options(setup: Setup, cell: Cell) -> Any:  # noqa: ANN401 # the database's own class
    """Return the database's options at a cell's levels."""
    own = {one.name for one in DATABASES[setup.database].flags()}
    chosen = {**cell.levels, **cell.provocation.options}
    return with_values(setup.options, {name: text for name, text in chosen.items() if name in own})


def cell_load(setup: Setup, cell: Cell) -> LoadOptions:
    """Return the load of a cell: at a fixed rate, but as fast as possible where nothing is broken."""
    provocation, rate = cell.provocation, setup.load.rate
    calm = provocation.name == CALM and bool(DATABASES[setup.database].addresses)
    return replace(
        setup.load,
        operations=None,
        duration_s=provocation.load_s + (MAX_DELAY_S if provocation.drill else 0),
        rate=rate if calm or rate else RATE,
        workload=WORKLOADS[setup.database],
        resolve=cell.levels.get("resolve", setup.load.resolve),
    )


class Times:
    """Estimates of how long cells take: from the same provocation's cells so far, else a first guess."""

    def __init__(self, measured: Iterable[MeasuredCell]) -> None:
        self._seconds: dict[str, list[float]] = {}
        for one in measured:
            self.add(one)

    def add(self, one: MeasuredCell) -> None:
        """Learn from a finished cell."""
        self._seconds.setdefault(one.cell.provocation.name, []).append(one.seconds)

    def of(self, cell: Cell) -> float:
        """Return the estimate of a cell, in seconds; the simulator's own time costs next to nothing."""
        known = self._seconds.get(cell.provocation.name)
        if known:
            return mean(known)
        simulated = not DATABASES[cell.database].addresses
        return cell.provocation.other_s + (0 if simulated else cell.provocation.load_s)


class Matrix:
    """The cells to measure, in order, and what was measured so far."""

    def __init__(self, cells: Sequence[Cell], measured: Sequence[MeasuredCell], budget_s: float | None) -> None:
        self.cells = cells
        self.measured = list(measured)
        self.failed: dict[str, str] = {}
        """Why cells could not be measured, by their names."""
        self._times = Times(measured)
        self._begun = time.monotonic()
        self._budget_s = budget_s

    @property
    def seconds_left(self) -> float | None:
        """The rest of the budget; None without one."""
        return None if self._budget_s is None else self._budget_s - (time.monotonic() - self._begun)

    @property
    def pending(self) -> list[Cell]:
        """The cells that were neither measured nor failed."""
        done = {one.cell.name for one in self.measured} | self.failed.keys()
        return [cell for cell in self.cells if cell.name not in done]

    def estimate_s(self, cells: Iterable[Cell]) -> float:
        """Return how long these cells are expected to take."""
        return sum(map(self._times.of, cells))

    def run(self, setup: Setup, keep: Callable[[MeasuredCell], None], log: Log) -> None:
        """Measure cells until all are measured or the budget is used; `keep` is called with each.

        A cell that fails is recorded with the reason, and the others go on. Raises `Interrupted`, or `CellsFailed` if
        one cell after another fails.
        """
        failures = 0
        while cell := self._next():
            self._announce(cell, log)
            details: list[str] = []
            try:
                done = run_cell(setup, cell, self.seconds_left, details.append)
            except Interrupted:
                raise
            except Exception as error:  # whatever it is, the cells so far count, and others may succeed
                reason = str(error) if isinstance(error, FORESEEN) else f"{type(error).__name__}: {error}"
                log("\n".join(f"    {line}" for line in (*details[-5:], *_trace(error), f"failed: {reason}")))
                self.failed[cell.name] = reason
                failures += 1
                if failures >= MOST_FAILURES:
                    raise CellsFailed(reason) from error
                continue
            if done is None:
                log("    the time is over; this cell does not count")
                return
            failures = 0
            self.measured.append(done)
            self._times.add(done)
            keep(done)

    def _next(self) -> Cell | None:
        """Return the first pending cell that is expected to end within the budget."""
        left = self.seconds_left
        return next((cell for cell in self.pending if left is None or self._times.of(cell) <= left), None)

    def _announce(self, cell: Cell, log: Log) -> None:
        rest = self.estimate_s(self.pending)
        left = rest if self.seconds_left is None else min(rest, self.seconds_left)
        number = len(self.measured) + len(self.failed) + 1
        log(f"[{number}/{len(self.cells)}] {cell.provocation.name}: {cell.label}; about {clock_time(left)} left")


def _trace(error: Exception) -> list[str]:
    """Return the traceback of an exception that nobody foresaw."""
    return [] if isinstance(error, FORESEEN) else "".join(traceback.format_exception(error)).splitlines()


def clock_time(seconds: float) -> str:
    """Return a time as 1:05 or 2:00:10."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class StateFile:
    """The cells measured so far, one a line, beside the JSON: what an interrupted command goes on from."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        self._settings = json.loads(json.dumps(settings))

    def load(self, cells: Sequence[Cell]) -> list[MeasuredCell]:
        """Return the cells of an interrupted command; raise `BadAddress` if its settings were others.

        A line that was cut by the interruption is ignored.
        """
        if not self._path.exists():
            return []
        by_name = {cell.name: cell for cell in cells}
        header, *lines = list(_whole_lines(self._path)) or [{}]
        if header.get("settings") != self._settings:
            raise BadAddress(
                f"{self._path} was left by an interrupted matrix with other settings: give the same ones to go on, "
                "delete the file to start again, or name another --json"
            )
        return [
            MeasuredCell(by_name[one["cell"]], one["result"], one["seconds"]) for one in lines if one["cell"] in by_name
        ]

    @contextmanager
    def keeping(self, measured: Sequence[MeasuredCell]) -> Iterator[Callable[[MeasuredCell], None]]:
        """Yield what adds a cell; the file holds those measured before too, and goes once the block has ended well."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", encoding="utf-8") as file:

            def write(line: Mapping[str, Any]) -> None:
                file.write(json.dumps(line) + "\n")
                file.flush()

            def keep(one: MeasuredCell) -> None:
                write({"cell": one.cell.name, "seconds": one.seconds, "result": one.result})

            write({"settings": self._settings})
            for one in measured:
                keep(one)
            yield keep
        self._path.unlink(missing_ok=True)


def _whole_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return
