"""How long the phases of a run took, told by a clock that the test moves."""

import numpy as np

from backlane.backtest.engine import run_backtest
from backlane.backtest.observer import PHASES, PhaseTimer
from backlane.clock import ManualClock
from tests.builders import LinearPredictor, make_model, random_bars
from tests.unit.audit.runs import ask


class Recorder:
    def __init__(self) -> None:
        self.told: list[object] = []

    def entered(self, phase: str, total_units: int) -> None:
        self.told.append((phase, total_units))

    def advanced(self, completed_units: int) -> None:
        self.told.append(completed_units)

    def simulated(self, bar_index: int, time_ns: int, equity: float, trades: np.ndarray) -> None:
        self.told.append((bar_index, time_ns, equity, len(trades)))


def test_a_phase_lasts_until_the_next_begins():
    clock = ManualClock()
    timer = PhaseTimer(clock)
    clock.advance(100.0)  # before the first phase: nobody's
    timer.entered("load", 0)
    clock.advance(0.25)
    timer.entered("features", 5)
    clock.advance(2.0)
    assert dict(timer.timings) == {"load": 0.25}  # features is under way
    timer.stop()
    clock.advance(50.0)
    timer.entered("result", 5)
    clock.advance(0.5)
    timer.stop()
    timer.stop()
    assert list(timer.timings.items()) == [("load", 0.25), ("features", 2.0), ("result", 0.5)]


def test_a_phase_that_is_entered_again_goes_on_counting():
    clock = ManualClock()
    timer = PhaseTimer(clock)
    for seconds in (1.0, 2.0):
        timer.entered("features", 5)
        clock.advance(seconds)
        timer.entered("inference", 5)
        clock.advance(10.0 * seconds)
    timer.stop()
    assert dict(timer.timings) == {"features": 3.0, "inference": 30.0}


def test_everything_is_passed_on():
    recorder = Recorder()
    timer = PhaseTimer(ManualClock(), recorder)
    timer.entered("simulation", 7)
    timer.advanced(3)
    timer.simulated(2, 10, 99.0, np.zeros(4))
    assert recorder.told == [("simulation", 7), 3, (2, 10, 99.0, 4)]


def test_the_timings_of_a_run_are_in_no_digest():
    timer = PhaseTimer(ManualClock())
    bars = {"1h": random_bars(8, 500)}
    run = run_backtest(
        ask(), LinearPredictor(make_model(), 22), bars, dataset_digests={}, observer=timer
    )
    timer.stop()
    assert tuple(timer.timings) == PHASES[1:-1]  # load and result are the caller's
    timed = run.timed(timer.timings).timed({"result": 0.5})
    assert tuple(timed.timings) == PHASES[1:]
    assert timed.provenance == run.provenance
    assert dict(run.timings) == {}
