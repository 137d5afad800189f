"""Holds, in equal shares, what closes in the upper half of its own recent range."""

import numpy as np
from pydantic import Field

from backlane.cycle.config_record import ConfigRecord
from backlane.cycle.strategy import StrategyInput, Targets, TargetStrategy


class ChannelConfig(ConfigRecord):
    """Over how many bars, the one decided about being the last, the range is taken."""

    bars: int = Field(20, ge=2, le=1000)


def decide(data: StrategyInput, parameters: ChannelConfig) -> Targets:
    """Returns targets for every bar; a row looks at its own bar and those before it alone."""
    close = data.panel.close
    middle = np.full(close.shape, np.nan)
    for row in range(parameters.bars - 1, len(close)):
        window = close[row - parameters.bars + 1 : row + 1]
        middle[row] = (np.fmax.reduce(window) + np.fmin.reduce(window)) / 2
    is_upper = close > middle
    weights = is_upper / np.maximum(is_upper.sum(axis=1, keepdims=True), 1)
    weights[np.isnan(close) | np.isnan(middle)] = np.nan  # no bar, or no range yet: no decision
    return Targets(is_upper.astype(np.int8), close / middle - 1, weights)


CHANNEL = TargetStrategy(ChannelConfig, decide)
