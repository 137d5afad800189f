"""What share of the cash an entry may take, for every bar: known at the bar's close."""

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.request import SizingChoice
from backlane.market.bars import BarSeries
from backlane.risk.volatility import realized_volatility


def cash_fractions(sizing: SizingChoice, base: BarSeries) -> NDArray[np.float64]:
    """Returns float64 in [0, 1] of shape (bars,); 0 where the volatility is not known yet."""
    if sizing.target_volatility is None:
        return np.full(len(base), sizing.cash_fraction)
    volatility = realized_volatility(base.close, base.open_time_ns, sizing.volatility_period)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.minimum(sizing.target_volatility / volatility, 1.0)
    return np.where(np.isnan(share), 0.0, share)
