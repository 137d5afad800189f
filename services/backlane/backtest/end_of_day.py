"""The orders to send after the last bar: what a backtest that ends there leaves open."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_config import PortfolioConfig
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import run_portfolio
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry
from backlane.errors import DataRangeEmptyError
from backlane.execution.target_orders import BookOrderOutcome
from backlane.market.spacing import stamp_text
from backlane.panel.events import Events
from backlane.panel.panel import Panel


def run_until(
    config: PortfolioConfig,
    panel: Panel,
    events: Mapping[str, Events],
    as_of_ns: int | None = None,
    registry: Registry = BUILT_IN,
) -> PortfolioRun:
    """Returns the run over what was known at a time, or over everything.

    Raises DataRangeEmptyError when no bar was known then, and what `run_portfolio` raises.
    """
    if as_of_ns is not None:
        panel = panel.until(as_of_ns)
        events = {source: each.until(as_of_ns) for source, each in events.items()}
    if len(panel) == 0:
        said = "at all" if as_of_ns is None else f"at {stamp_text(as_of_ns)}"
        raise DataRangeEmptyError(f"No bar was known {said}: choose a later time.")
    return run_portfolio(config, panel, events, registry)


def orders_to_send(run: PortfolioRun) -> NDArray[np.bool_]:
    """Says which orders of a run (orders,) are still to be sent, or to be left where they rest.

    They are those that were open at its end. With `this_close` the orders of the last bar are
    filled at its close in the run: they are the ones to send for it.
    """
    outcomes = run.orders["outcome"]
    is_open = outcomes == BookOrderOutcome.END_OF_DATA
    if run.rules.fills_this_close:
        is_open |= run.orders["time_index"] == len(run.panel) - 1
    return np.asarray(is_open)
