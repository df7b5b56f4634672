"""Which files of this project one write and one stale read of `bench.py memory` enter, in order.

    python -m benchmarks.way_of_an_operation

From the workload's choice, through the client and the recorder, to the judge and the statistics, as in a plain run.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from stalewatch.checkers.judge import Judge
from stalewatch.engine.database_run import DatabaseRun
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions

ROOT = Path(__file__).parents[1]
LOAD = LoadOptions(users=1, keys=5, seed=3)
MOST_STEPS = 1000


def entered(function: Callable[[], object]) -> list[str]:
    """Run a function and return the files of this project that it enters, in the order of their first call."""
    files: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: Any) -> None:  # noqa: ANN401 # whatever the interpreter passes
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and path != Path(__file__):
            files.setdefault(path.resolve().relative_to(ROOT).as_posix())

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return list(files)


def way() -> list[str]:
    """Return the files that one write and one stale read enter."""
    client = MemoryClient(MemoryOptions(lag_s=5.0, read_from="secondary"), SimulatedClock())
    client.prepare()
    recorder = Recorder(client.clock, Judge())
    run = DatabaseRun(client, recorder, LOAD, "r")
    run.create_keys()
    client.clock.expect(1)
    client.clock.join("s0")
    session = run.session("s0")
    write = read = None
    for _ in range(MOST_STEPS):
        before = (recorder.statistics.outcomes["write"]["ok"], _stale(recorder))
        files = entered(lambda: (session.step(), recorder.settle()))
        wrote = recorder.statistics.outcomes["write"]["ok"] > before[0]
        write = write or (files if wrote else None)
        read = read or (files if _stale(recorder) > before[1] else None)
        if write and read:
            return list(dict.fromkeys([*write, *read]))
    raise AssertionError("no write or no stale read came about")


def _stale(recorder: Recorder) -> int:
    return recorder.judge.verdicts()["stale_reads"].violated


def main() -> None:
    """Print the files."""
    files = way()
    for file in files:
        print(file)
    print(f"{len(files)} files")


if __name__ == "__main__":
    main()
