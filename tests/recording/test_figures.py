"""What a live view shows of a run: every count once, whoever drains them, and outages to the moment."""

from stalewatch.checkers.judge import Judge
from stalewatch.clients.protocol import Answer
from stalewatch.history.clock import RealClock
from stalewatch.recording.recorder import Recorder
from stalewatch.recording.totals import Collector


def test_figures_count_drained_and_new_operations_once() -> None:
    recorder = Recorder(RealClock(), Judge())
    collector = Collector(recorder)
    for number in range(1, 4):
        recorder.end_write(recorder.begin_write("a", "k"), Answer("ok"))
        recorder.end_read("a", "k", recorder.clock.now(), Answer("ok", version=0))
        recorder.end_read("a", "k", recorder.clock.now(), Answer("unknown", error="timeout"))
        recorder.settle()
        figures = collector.figures()
        assert figures.outcomes == {"read": (number, number), "write": (number, 0)}
        assert figures.violated["stale_reads"] == (number, number)
        if number == 2:
            collector.collect()
        assert collector.figures().outcomes == figures.outcomes
        assert collector.figures().violated == figures.violated


def test_the_newest_success_is_known_before_it_is_judged() -> None:
    recorder = Recorder(RealClock(), Judge())
    write = recorder.begin_write("a", "k")
    recorder.end_write(write, Answer("ok"))
    assert recorder.judged == 0
    figures = Collector(recorder).figures()
    assert figures.last_ok == {"write": write.end}
    fault = recorder.begin_fault("kill", "n1")
    assert Collector(recorder).figures().faults == [fault]
    recorder.end_fault(fault)
    assert Collector(recorder).figures().faults == []
