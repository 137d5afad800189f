"""Turning points, known in hindsight: for labels, not for inputs of a model."""

import numpy as np

from backlane.indicators.averages import column
from backlane.indicators.parameters import ZigzagParameters
from backlane.indicators.windows import Values
from backlane.jit import compiled
from backlane.market.bars import BarSeries


def zigzag(bars: BarSeries, parameters: ZigzagParameters) -> tuple[Values]:
    """Returns the price at turning points that lie `threshold` apart or more, elsewhere NaN.

    Looks ahead: the last extreme moves on as long as the price runs, so that a value at a bar says
    that later prices turned.
    """
    return (_zigzag(column(bars, parameters.source), parameters.threshold),)


@compiled
def _zigzag(values: Values, threshold: float) -> Values:
    count = len(values)
    points = np.full(count, np.nan)
    if count == 0:
        return points
    last = 0
    points[0] = values[0]
    heading = 0
    for bar in range(1, count):
        change = (values[bar] - values[last]) / values[last]
        if (heading > 0 and change > 0.0) or (heading < 0 and change < 0.0):
            points[last] = np.nan
        elif abs(change) >= threshold:
            heading = 1 if change > 0.0 else -1
        else:
            continue
        last = bar
        points[bar] = values[bar]
    return points
