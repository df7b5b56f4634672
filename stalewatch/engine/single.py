"""One run in one process, from its options to its result: client, recorder and sessions, and the end in order."""

import argparse
import secrets
import signal
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from stalewatch.checkers.judge import Judge
from stalewatch.checkers.verdict import Findings
from stalewatch.clients.databases import DATABASES
from stalewatch.clients.errors import ClientError
from stalewatch.clients.options import shown
from stalewatch.clients.protocol import Client
from stalewatch.clusters.local.addresses import addresses
from stalewatch.commands.outputs import tell
from stalewatch.engine.garbage import collect_seldom
from stalewatch.engine.progress import Progress
from stalewatch.engine.runner import Run
from stalewatch.history.clock import Clock, RealClock
from stalewatch.history.operation import FORMAT, FORMAT_VERSION, Header
from stalewatch.history.writer import HistoryWriter
from stalewatch.metrics.bench_metrics import serving
from stalewatch.metrics.faults import Faults
from stalewatch.recording.pulse import Pulse, Steady
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.tally import Tally
from stalewatch.reports.progress import progress
from stalewatch.reports.result import run_result
from stalewatch.workloads import kinds
from stalewatch.workloads import options as workloads_options
from stalewatch.workloads.options import LoadOptions

LOAD_OPTIONS = (*workloads_options.OPTIONS, *workloads_options.WORKLOAD_OPTIONS)


@dataclass
class SingleRun:
    """A run whose client is connected; `perform` it, then ask for its result."""

    arguments: argparse.Namespace
    load: LoadOptions
    client: Client
    recorder: Recorder
    run: Run
    tally: Tally
    faults: Faults = field(default_factory=Faults)
    """Where to tell whoever watches the metrics of faults."""
    received: list[int] = field(default_factory=list)
    """What a Ctrl-C or a termination makes of the exit code, in the order in which they came."""

    def perform(self, beside: AbstractContextManager[object] | None = None) -> None:
        """Run the load, with `beside` around it, make the final reads, and delete the keys.

        They are deleted whatever happened; only the second Ctrl-C leaves them behind.
        """
        run, arguments = self.run, self.arguments
        served = (run.name, arguments, self.recorder, self.tally, self.load.users, tell, self.faults)
        with self._signals(), serving(*served):
            tell(f"creating {len(run.keys)} keys")
            run.preload()
            keep = bool(arguments.keep)
            try:
                self._work(beside or nullcontext())
            except SystemExit:
                if not keep:
                    self._left_behind("leaving at once")
                keep = True
                raise
            finally:
                run.workload.stop()
                self.recorder.finish()
                if not keep:
                    self._clean()

    def _work(self, beside: AbstractContextManager[object]) -> None:
        with progress() as advance:

            def report(state: Progress) -> None:
                advance(state.phase, state.done, state.total, state.unit)

            collect_seldom()
            with beside:
                self.run.load(report)
            if not self.run.interrupted:
                self.run.final_reads(report)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """End the run in order at Ctrl-C or a termination; the second one ends it at once.

        That one may strike in any greenlet, gevent's own too. From there `SystemExit` reaches the main one in silence.
        """

        def stop(number: int, _frame: object) -> None:
            self.received.append(128 + number)
            if len(self.received) > 1:
                raise SystemExit(self.received[0])
            self.run.interrupt()
            tell("stopping; once more to leave at once")

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _clean(self) -> None:
        try:
            self.run.clean()
        except ClientError as error:
            self._left_behind(str(error))

    def _left_behind(self, reason: str) -> None:
        keys = self.run.keys
        tell(f"the run's keys {keys[0]} ... {keys[-1]} are left behind: {reason}")

    def result(self, beyond: Mapping[str, Any] | None = None) -> tuple[Findings, dict[str, Any]]:
        """Return what was found, and the JSON result of the run with what is known `beyond` that."""
        findings, statistics = self.tally.take()
        run, names = self.run, kinds.names(self.load.workload)
        about = {
            "database": self.client.database,
            "run": run.name,
            "options": {**_options(self.arguments, self.load), "driver": self.client.settings()},
            "duration_s": run.duration_s,
            "interrupted": run.interrupted,
            "final_reads_s": run.final_reads_s,
            **statistics.figures(),
            **run.workload.result(),
            "workloads": sorted(names),
            "lost_writes_exact": kinds.exact(names),
            **(beyond or {}),
        }
        return findings, run_result(findings, about, statistics.latencies())


@contextmanager
def opened(arguments: argparse.Namespace, load: LoadOptions) -> Iterator[SingleRun]:
    """Connect to the database that the arguments name, and drop the connections after the block.

    Where no address is given, the local cluster is started. Raises a `ClientError` or a `ClusterError`.
    """
    client = _client(arguments, load)
    client.prepare()
    try:
        yield _begun(arguments, load, client)
    finally:
        client.close()


def _client(arguments: argparse.Namespace, load: LoadOptions) -> Client:
    database = DATABASES[arguments.database]
    if database.lacks_address(arguments):
        vars(arguments).update(addresses(arguments.database, tell))
    if database.addresses:  # what is missing there may take a while to set up
        tell(f"preparing {arguments.database}")
    return database.open(arguments, load.users, load.seed, database.clock())


def _begun(arguments: argparse.Namespace, load: LoadOptions, client: Client) -> SingleRun:
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
    return SingleRun(arguments, load, client, recorder, Run(client, recorder, load, name), Tally(recorder))


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
