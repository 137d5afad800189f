"""How long a recursive mean remembers where it started."""

import math

NEGLIGIBLE_WEIGHT = 2.0**-24
"""Weight of forgotten history that no float32 feature can show: half a unit in its last place."""


def bars_to_settle(alpha: float) -> int:
    """Returns how many bars after its start a recursive mean has forgotten it.

    After m more bars, the first value has the weight (1 - alpha)^m. This is the least m >= 1 that
    makes it <= NEGLIGIBLE_WEIGHT: some 8.3 periods for alpha = 2 / (period + 1), 16.6 for a Wilder
    mean, whose alpha is 1 / period.
    """
    if alpha >= 1.0:
        return 1
    return math.ceil(math.log(NEGLIGIBLE_WEIGHT) / math.log1p(-alpha))


def span_alpha(period: int) -> float:
    """Returns the weight of the newest value in an exponential mean of `period` bars."""
    return 2.0 / (period + 1.0)
