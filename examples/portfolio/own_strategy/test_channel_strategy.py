"""Four bars, worked out by hand."""

import numpy as np
from channel_strategy import ChannelConfig, decide

from backlane.cycle.strategy import StrategyInput
from backlane.panel.panel import Panel

DAY_NS = 86_400_000_000_000


def test_what_closes_in_the_upper_half_of_two_bars_is_held():
    close = np.array([[10.0, 20.0], [12.0, 18.0], [11.0, 19.0], [14.0, np.nan]])
    time_ns = np.arange(4) * DAY_NS
    panel = Panel(("A", "B"), time_ns, time_ns, close, close, close, close, None)
    targets = decide(StrategyInput(panel, {}, {}), ChannelConfig(bars=2))
    nan = np.nan
    # Middles of two bars: A 11, 11.5, 12.5; B 19, 18.5, and none without a bar.
    expected = [[nan, nan], [1.0, 0.0], [0.0, 1.0], [1.0, nan]]
    np.testing.assert_array_equal(targets.weights, expected)
