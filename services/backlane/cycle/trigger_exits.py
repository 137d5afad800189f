"""When a trade that a trigger opened is left, at the close of a bar (SPEC A9).

Stop and target rest with the position where the book has brackets; `ExitRules.watches_levels` looks
at them by the close, for a book that has none.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation
from backlane.signals.ranges import Range, range_mistakes, refuse

HOUR_NS = 3_600_000_000_000
SEEN_BARS = 6
"""Bars that a review looks back over, its own included; their halves are compared."""


class TriggerExit(StrEnum):
    """Why a trade is left; the values are those of the reference."""

    STOP_LOSS = "stop_loss"
    TAKE_PROFIT = "take_profit"
    MOMENTUM_CHECK = "momentum_check_12h"
    NO_RECOVERY = "no_recovery_24h"
    VOLUME_DECLINE = "volume_decline_24h"
    WEAK_MOMENTUM = "weak_momentum_36h"
    STALLED = "stalled_36h"
    MAX_HOLD = "max_hold"


@dataclass(frozen=True, slots=True)
class ExitRules:
    """Three reviews after the entry, in hours; returns and changes are signed fractions.

    A review acts in the `review_hours` from its time on. A return is that since the entry,
    a change that over six bars. At the first a trade below both limits is left, at the second one
    below both, or below `decline_return` while volume and price fall, at the third one below both,
    or one that stands still: |return| and |change| below the stalled ones while volume falls.
    Volume falls when that of three bars is below `falling_volume` of that of the three before.
    `hold_hours_max` is for trades that say nothing of their own. `decides_at_entry` is for books
    that fill at the close of the decision.
    """

    watches_levels: bool = True
    decides_at_entry: bool = False
    review_hours: float = 1.0
    first_hours: float = 12.0
    first_return: float = -0.025
    first_change: float = -0.03
    second_hours: float = 24.0
    second_return: float = -0.03
    second_change: float = -0.01
    decline_return: float = -0.02
    third_hours: float = 36.0
    third_return: float = -0.02
    third_change: float = -0.015
    stalled_return: float = 0.015
    stalled_change: float = 0.005
    falling_volume: float = 0.7
    hold_hours_max: float = 120.0

    def __post_init__(self) -> None:
        refuse("rule(s) of the exits", _mistakes(self))


_HOURS = Range(0.0, 87_600.0)
_SIGNED = Range(-1.0, 1.0)
_RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("first_hours", "second_hours", "third_hours", "review_hours"), _HOURS),
    **dict.fromkeys(("first_return", "second_return", "third_return", "decline_return"), _SIGNED),
    **dict.fromkeys(("first_change", "second_change", "third_change"), _SIGNED),
    **dict.fromkeys(("stalled_return", "stalled_change", "falling_volume"), Range(0.0, 1.0)),
    "hold_hours_max": _HOURS,
}


def _mistakes(rules: ExitRules) -> Iterator[FieldViolation]:
    found = tuple(range_mistakes(rules, _RANGES))
    yield from found
    if not found and not rules.first_hours <= rules.second_hours <= rules.third_hours:
        yield FieldViolation("second_hours", "is not between first_hours and third_hours")


@dataclass(frozen=True, slots=True)
class OpenTrade:
    """A long trade as the exits see it; prices in money, None for a level that it has not.

    `hold_hours_max` is counted from `entry_ns`, when it was entered.
    """

    symbol: str
    entry_ns: int
    entry_price: float
    stop_price: float | None = None
    target_price: float | None = None
    hold_hours_max: float | None = None


def hours_held(trade: OpenTrade, now_ns: int) -> float:
    """Returns the hours since the entry."""
    return (now_ns - trade.entry_ns) / HOUR_NS


def at_review(trade: OpenTrade, now_ns: int, rules: ExitRules) -> bool:
    """Tells whether a review acts now, so that the last bars of the instrument matter."""
    hours, length = hours_held(trade, now_ns), rules.review_hours
    return (
        0.0 <= hours - rules.first_hours < length
        or 0.0 <= hours - rules.second_hours < length
        or 0.0 <= hours - rules.third_hours < length
    )


def exit_of(
    trade: OpenTrade,
    close: NDArray[np.float64],
    volume: NDArray[np.float64],
    now_ns: int,
    rules: ExitRules,
) -> TriggerExit | None:
    """Returns why a trade is left at the last of its instrument's closes; None to hold it.

    `close` and `volume` have shape (bars,), oldest first; with fewer than six of them the
    reviews do not act. In this order: stop, target, reviews, the longest time to hold.
    """
    price = float(close[-1])
    if rules.watches_levels:
        if trade.stop_price is not None and price <= trade.stop_price:
            return TriggerExit.STOP_LOSS
        if trade.target_price is not None and price >= trade.target_price:
            return TriggerExit.TAKE_PROFIT
    hours = hours_held(trade, now_ns)
    if len(close) >= SEEN_BARS:
        found = _at_review(trade, close[-SEEN_BARS:], volume[-SEEN_BARS:], hours, rules)
        if found is not None:
            return found
    longest = rules.hold_hours_max if trade.hold_hours_max is None else trade.hold_hours_max
    return TriggerExit.MAX_HOLD if hours >= longest else None


def _at_review(
    trade: OpenTrade,
    close: NDArray[np.float64],
    volume: NDArray[np.float64],
    hours: float,
    rules: ExitRules,
) -> TriggerExit | None:
    since = float(close[-1]) / trade.entry_price - 1.0
    change = float(close[-1] / close[0]) - 1.0
    half = SEEN_BARS // 2
    volume_falls = bool(volume[half:].sum() < rules.falling_volume * volume[:half].sum())
    is_first = 0.0 <= hours - rules.first_hours < rules.review_hours
    if is_first and since < rules.first_return and change < rules.first_change:
        return TriggerExit.MOMENTUM_CHECK
    if 0.0 <= hours - rules.second_hours < rules.review_hours:
        if since < rules.second_return and change < rules.second_change:
            return TriggerExit.NO_RECOVERY
        if since < rules.decline_return and volume_falls and change < 0.0:
            return TriggerExit.VOLUME_DECLINE
    if 0.0 <= hours - rules.third_hours < rules.review_hours:
        if since < rules.third_return and change < rules.third_change:
            return TriggerExit.WEAK_MOMENTUM
        is_still = abs(since) < rules.stalled_return and abs(change) < rules.stalled_change
        if is_still and volume_falls:
            return TriggerExit.STALLED
    return None
