"""No false positives in ten million operations on a linearizable store with timeouts and refusals."""

import pytest

from stalewatch.checkers.judge import Judge
from stalewatch.recording.recorder import Recorder
from stalewatch.simulator.client import MemoryClient
from stalewatch.simulator.options import MemoryOptions
from stalewatch.simulator.simulated_time import SimulatedClock
from stalewatch.workloads.options import LoadOptions
from tests.engine.running import threaded

RUNS, OPERATIONS = 20, 500_000


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(RUNS))
def test_a_linearizable_store_has_no_violation_in_ten_million_operations(seed: int) -> None:
    options = MemoryOptions(topology="linearizable", seed=seed, timeouts=0.01, refusals=0.01)
    client = MemoryClient(options, SimulatedClock())
    client.prepare()
    recorder = Recorder(client.clock, Judge())
    run = threaded(client, recorder, LoadOptions(operations=OPERATIONS, seed=seed), f"soak{seed}")
    run.run.create_keys()
    run.perform(lambda _progress: None)
    run.final_reads(lambda _progress: None)
    recorder.finish()
    found = {name: verdict.violated for name, verdict in recorder.judge.verdicts().items() if verdict.violated}
    assert found == {}
    assert recorder.judge.verdicts()["stale_reads"].checked > OPERATIONS / 3
