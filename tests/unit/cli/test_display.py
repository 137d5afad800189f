"""How a run under way is shown."""

import pytest

from backlane.cli.display import LINE_INTERVAL_S, BarDisplay, LineDisplay
from backlane.cli.status import Pace, RunStatus, describe, duration, plural
from backlane.clock import ManualClock

JUNE_NS = 1_685_577_600 * 10**9  # 2023-06-01T00:00:00Z


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def test_the_pace_is_bars_over_seconds(clock: ManualClock):
    pace = Pace(clock.monotonic_s)
    pace.observe(RunStatus("simulation", 0, 1000))
    clock.advance(2.0)
    status = RunStatus("simulation", 500, 1000)
    pace.observe(status)
    assert pace.bars_per_s == 250.0  # 500 bars / 2 s
    assert pace.left_s(status) == 2.0  # 500 bars left / 250 bars per s


def test_the_pace_starts_anew_with_a_phase_and_with_an_attempt(clock: ManualClock):
    pace = Pace(clock.monotonic_s)
    for status in (RunStatus("a", 0, 10), RunStatus("a", 9, 10), RunStatus("b", 0, 10)):
        pace.observe(status)
        clock.advance(1.0)
    assert pace.bars_per_s is None
    pace.observe(RunStatus("b", 5, 10))
    assert pace.bars_per_s == 5.0
    pace.observe(RunStatus("b", 1, 10))  # another worker begins again
    assert pace.bars_per_s is None


def test_readings_at_the_same_instant_say_nothing_about_the_pace(clock: ManualClock):
    pace = Pace(clock.monotonic_s)
    pace.observe(RunStatus("a", 0, 10))
    pace.observe(RunStatus("a", 10, 10))
    assert pace.bars_per_s is None


def test_a_reading_is_one_line_with_everything_that_is_known(clock: ManualClock):
    pace = Pace(clock.monotonic_s)
    pace.observe(RunStatus("simulation", 0, 4000))
    clock.advance(1.0)
    status = RunStatus("simulation", 1000, 4000, JUNE_NS, 101_234.5, 1)
    pace.observe(status)
    assert describe(status, pace) == (
        "simulation  1,000/4,000 bars  1,000 bars/s  2023-06-01 00:00  "
        "equity 101,234.50  1 trade  ETA 0:03"
    )


def test_lines_come_with_each_phase_and_otherwise_once_a_second(clock: ManualClock, capsys):
    display = LineDisplay(clock.monotonic_s)
    for completed in range(0, 100, 10):
        display.show(RunStatus("simulation", completed, 100))
        clock.advance(LINE_INTERVAL_S / 5)
    display.show(RunStatus("metrics", 0, 1))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [
        ["simulation", "0/100 bars"],
        ["simulation", "50/100 bars"],
        ["metrics", "0/1 bars"],
    ]


def test_the_end_of_a_phase_is_shown_once(clock: ManualClock, capsys):
    display = LineDisplay(clock.monotonic_s)
    for completed in (0, 100, 100, 100):
        display.show(RunStatus("simulation", completed, 100))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_bar_can_be_drawn_anywhere(capsys):
    with BarDisplay() as display:
        display.show(RunStatus("", 0, 0))
        display.note("operations/[1] runs")
        display.show(RunStatus("simulation", 10, 20, JUNE_NS, 1.0, 2))
    assert "operations/[1] runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_durations_read_as_a_clock_does(seconds: float, text: str):
    assert duration(seconds) == text


def test_counts_agree_with_their_noun():
    assert (plural(0, "trade"), plural(1, "trade"), plural(1234, "trade")) == (
        "0 trades",
        "1 trade",
        "1,234 trades",
    )
