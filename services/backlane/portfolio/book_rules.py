"""How orders of a book fill and what fills cost: told once, as flat records."""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backlane.execution.cost_model import CostModel

NEVER = 2**62
"""The bar of an order that does not expire."""

BOOK_RULES_DTYPE = np.dtype(
    (
        np.record,
        [
            ("cost_rate", "<f8"),  # linear costs, a fraction of the notional; NaN for others
            ("fills_this_close", "<i8"),  # 1: at the close of the decision; 0: at the next open
            ("expires_bars", "<i8"),  # bars at which an order may fill
            ("participation_max", "<f8"),  # share of the volume that fills, infinite for no limit
            ("of_average_volume", "<i8"),  # 1: of the average volume; 0: of the bar's own
            ("notes_liquidity", "<i8"),  # 1: something looks at average volume or volatility
            ("min_fill_quantity", "<f8"),
            ("unknown_volume_fraction", "<f8"),
            ("lot_size", "<f8"),  # units; 0 for none
            ("sized_at_open", "<i8"),  # 1: what adds to a position is sized at the price it fills
            ("leverage", "<f8"),  # gross exposure at most, in equities; infinite for no check
            ("borrow_rate", "<f8"),  # a year, on the value of shorts
            ("financing_rate", "<f8"),  # a year, on cash below 0
            ("stop_loss", "<f8"),  # fractions of prices; 0 for none
            ("take_profit", "<f8"),
            ("trailing_stop", "<f8"),
        ],
    )
)


@dataclass(frozen=True, slots=True)
class Bracket:
    """Exits that rest with a position, as fractions of its entry price; 0 for none.

    `trailing_stop` is a fraction of the best price since the entry.
    """

    stop_loss: float = 0.0
    take_profit: float = 0.0
    trailing_stop: float = 0.0


@dataclass(frozen=True, slots=True)
class VolumeRules:
    """How much of the volume of an instrument the orders of a bar may take together.

    `participation_max` is a share of the bar's volume in units or, with `of_average`, of the
    average volume in money. Less than `min_quantity` units are no fill. Where the volume is not
    known, `unknown_fraction` of an order fills.
    """

    participation_max: float = math.inf
    of_average: bool = False
    min_quantity: float = 0.0
    unknown_fraction: float = 1.0


@dataclass(frozen=True, slots=True)
class BookRules:
    """The rules of a book; the defaults are those of SPEC B9 without costs.

    `expires_bars` is at how many bars an order may fill before it expires, 0 for no end.
    `lot_size` is in units, 0 for none. With `sized_at_open` a market order that adds to a position
    is for the money that it was decided for: its units follow from the open that fills it, and not
    from the close of the decision. `leverage` bounds the sum of |positions| by that many times
    the equity after costs, infinite for no check. Rates are fractions a year of 365 days.
    `liquidity_window` is the number of bars of the average volume and of the volatility that costs
    and volume rules look at. `takes_requests` is for books whose orders have limits, stops or
    brackets of their own.
    """

    costs: CostModel = field(default_factory=CostModel)
    fills_this_close: bool = False
    expires_bars: int = 1
    volume: VolumeRules = field(default_factory=VolumeRules)
    lot_size: float = 0.0
    sized_at_open: bool = False
    leverage: float = math.inf
    borrow_rate: float = 0.0
    financing_rate: float = 0.0
    bracket: Bracket = field(default_factory=Bracket)
    liquidity_window: int = 20
    takes_requests: bool = False
    has_sessions: bool = False
    has_delistings: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether every order is filled whole at one price and one rate, or expires at once.

        Such a book runs on the short path (`book_steps`), every other on `book_full_steps`.
        """
        return self.costs.is_linear and self == BookRules(
            costs=self.costs,
            fills_this_close=self.fills_this_close,
            liquidity_window=self.liquidity_window,
        )

    def record(self) -> NDArray[np.void]:
        """Returns the same for the kernels, BOOK_RULES_DTYPE of shape (1,)."""
        rules = np.zeros(1, BOOK_RULES_DTYPE)
        rules["cost_rate"] = self.costs.linear_rate
        rules["fills_this_close"] = self.fills_this_close
        rules["expires_bars"] = self.expires_bars or NEVER
        rules["participation_max"] = self.volume.participation_max
        rules["of_average_volume"] = self.volume.of_average
        rules["notes_liquidity"] = self.volume.of_average or not self.costs.is_linear
        rules["min_fill_quantity"] = self.volume.min_quantity
        rules["unknown_volume_fraction"] = self.volume.unknown_fraction
        rules["sized_at_open"] = self.sized_at_open
        for name in ("lot_size", "leverage", "borrow_rate", "financing_rate"):
            rules[name] = getattr(self, name)
        for name in ("stop_loss", "take_profit", "trailing_stop"):
            rules[name] = getattr(self.bracket, name)
        return rules
