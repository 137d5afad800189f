"""A proposal to trade, and the canonical name of what it is for."""

from dataclasses import dataclass
from functools import lru_cache

from backlane.execution.target_orders import OrderSide
from backlane.signals.triggers import TriggerKind

QUOTE_CURRENCY = "USD"
ALIASES = {"XBT": "BTC", "WBTC": "BTC"}
SYMBOLS_REMEMBERED_MAX = 10_000
"""Names whose canonical form is remembered: every cycle asks for all of them."""


@lru_cache(maxsize=SYMBOLS_REMEMBERED_MAX)
def canonical_symbol(symbol: str) -> str:
    """Returns BASE-QUOTE in capitals with aliases resolved: `xbt` and `XBT-USD` are `BTC-USD`.

    A bare base is quoted in US dollars, whatever the base (SPEC C1 "symbols": the reference made
    `BTC-BTC` of `BTC`).
    """
    base, _, quote = symbol.strip().upper().partition("-")
    return f"{ALIASES.get(base, base)}-{quote or QUOTE_CURRENCY}"


@dataclass(frozen=True, slots=True)
class TradeProposal:
    """What a strategy would like to trade, before risk has looked at it.

    `size` is a share of equity, positive for both sides; `confidence` lies in [0, 1]. Stop and
    target are distances from the entry, fractions. `strategy_at_risk_max` is the share of equity
    that the strategy may propose in one cycle. A SELL is an exit: it can only reduce a position.
    """

    symbol: str
    side: OrderSide
    size: float
    confidence: float
    strategy: str = ""
    strategy_at_risk_max: float | None = None
    trigger: TriggerKind | None = None
    stop_loss: float | None = None
    take_profit: float | None = None
    hold_hours_max: int | None = None
    tags: tuple[str, ...] = ()

    @property
    def is_exit(self) -> bool:
        """Whether it can only reduce what is held."""
        return self.side is OrderSide.SELL
