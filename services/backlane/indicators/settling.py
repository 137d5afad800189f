"""How long a recursive mean remembers where it started."""

import math

NEGLIGIBLE_WEIGHT = 2.0**-24
"""Weight of forgotten history that no float32 feature can show: half a unit in its last place."""

START_ALLOWANCE = 64.0
"""How far the mean may start from where it belongs, in units of what the feature resolves.

No bound follows from the formulas: a start in a market many times as volatile as today's, or far
from today's price, is remembered longer. What is off by 64 times the width of its term at the start
is forgotten in time; it costs log(64) / log(2^24), a quarter, more bars.
"""


def bars_to_settle(alpha: float, gain: float = 1.0) -> int:
    """Returns how many bars after its start a recursive mean has forgotten it.

    After m more bars, the first value has the weight (1 - alpha)^m. A feature that moves by `gain`,
    at least 1, when the mean moves by its own size shows gain START_ALLOWANCE times that weight.
    This is the least m >= 1 that makes it <= NEGLIGIBLE_WEIGHT: with a gain of 1, some 10.4 periods
    for alpha = 2 / (period + 1), 20.8 for a Wilder mean, whose alpha is 1 / period.
    """
    if alpha >= 1.0:
        return 1
    weight = NEGLIGIBLE_WEIGHT / (max(gain, 1.0) * START_ALLOWANCE)
    return math.ceil(math.log(weight) / math.log1p(-alpha))


def span_alpha(period: int) -> float:
    """Returns the weight of the newest value in an exponential mean of `period` bars."""
    return 2.0 / (period + 1.0)
