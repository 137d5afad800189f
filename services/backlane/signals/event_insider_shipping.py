"""event_insider_shipping: trades of insiders and congestion of shipping, as disclosed (SPEC B3)."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals.event_windows import DAY_NS, EventWindows, event_windows
from backlane.signals.signal import Direction, Signals

INSIDER_COLUMN = "net_shares"
SHIPPING_COLUMN = "congestion_score"
CONGESTION_DAYS = 7
NEUTRAL_CONGESTION = 50.0
"""Congestion, in [0, 100], where nothing was reported."""
DECISIVE_SUM = 0.5
SCORE_DIVISOR = 2.0


class LegRule(StrEnum):
    """When the two legs make a direction."""

    BOTH = "both"  # both legs point the same way
    WEIGHTED = "weighted"  # the weighted sum exceeds 0.5; with weights of 1 one leg is enough


@dataclass(frozen=True, slots=True)
class EventParameters:
    """Parameters of event_insider_shipping: shares, congestion in [0, 100], weights of the legs."""

    insider_days: int = 20
    insider_buy_threshold: float = 1000.0
    insider_sell_threshold: float = -1000.0
    congestion_low_threshold: float = 30.0
    congestion_high_threshold: float = 70.0
    insider_weight: float = 1.0
    shipping_weight: float = 1.0
    rule: LegRule = LegRule.BOTH

    def __post_init__(self) -> None:
        if self.insider_days < 1:
            raise ValueError(f"insider_days {self.insider_days}: at least 1")
        if self.insider_sell_threshold > self.insider_buy_threshold:
            raise ValueError("the insider sell threshold lies above the buy threshold")
        if self.congestion_low_threshold > self.congestion_high_threshold:
            raise ValueError("the low congestion threshold lies above the high one")


def insider_windows(panel: Panel, insider: Events, days: int) -> EventWindows:
    """Returns the disclosed trades of insiders of the last `days`: how many, and net shares."""
    length_ns = days * DAY_NS
    return event_windows(insider, INSIDER_COLUMN, panel.time_ns, panel.known_ns, length_ns)


def shipping_mean(
    panel: Panel, shipping: Events, column: str = SHIPPING_COLUMN, days: int = CONGESTION_DAYS
) -> NDArray[np.float64]:
    """Returns the mean of a column of the disclosed reports of the last `days`, NaN without any."""
    windows = event_windows(shipping, column, panel.time_ns, panel.known_ns, days * DAY_NS)
    return windows.mean()


def event_insider_shipping(
    panel: Panel, insider: Events, shipping: Events, parameters: EventParameters
) -> Signals:
    """Returns the signals of the panel from what was disclosed of both sources.

    The events have the symbols of the panel. See `combine_legs` for the rule.
    """
    for source in (insider, shipping):
        if source.symbols != panel.symbols:
            raise ValueError("the events are not those of the panel's instruments")
    net_shares = insider_windows(panel, insider, parameters.insider_days).total
    congestion = shipping_mean(panel, shipping)
    made = combine_legs(net_shares, congestion, parameters)
    has_bar = np.isfinite(panel.close)
    direction = np.where(has_bar, made.direction, np.int8(Direction.FLAT))
    return Signals(direction, np.where(has_bar, made.score, np.nan))


def combine_legs(
    net_shares: NDArray[np.float64], congestion: NDArray[np.float64], parameters: EventParameters
) -> Signals:
    """Returns signals from shares bought net and mean congestion, NaN of which counts as 50.

    The insider leg is 1 above its buy threshold and -1 below its sell threshold; the shipping leg
    is 1 below the low threshold and -1 above the high one; otherwise they are 0. With s the sum of
    the weighted legs, WEIGHTED gives LONG for s > 0.5 and SHORT for s < -0.5; BOTH gives a
    direction only where the legs are equal. The score is clip(|s| / 2, 0, 1), that of FLAT 0. Legs
    1 and 0 with weights 1: LONG with 0.5 by WEIGHTED, FLAT by BOTH.
    """
    insider = _sign(
        net_shares > parameters.insider_buy_threshold,
        net_shares < parameters.insider_sell_threshold,
    )
    filled = np.where(np.isnan(congestion), NEUTRAL_CONGESTION, congestion)
    shipping = _sign(
        filled < parameters.congestion_low_threshold,
        filled > parameters.congestion_high_threshold,
    )
    total = parameters.insider_weight * insider + parameters.shipping_weight * shipping
    if parameters.rule is LegRule.WEIGHTED:
        direction = _sign(total > DECISIVE_SUM, total < -DECISIVE_SUM)
    else:
        direction = np.where(insider == shipping, insider, np.int8(Direction.FLAT))
    score = np.clip(np.abs(total) / SCORE_DIVISOR, 0.0, 1.0)
    return Signals(direction, np.where(direction == Direction.FLAT, 0.0, score))


def _sign(is_up: NDArray[np.bool_], is_down: NDArray[np.bool_]) -> NDArray[np.int8]:
    return is_up.astype(np.int8) - is_down.astype(np.int8)
