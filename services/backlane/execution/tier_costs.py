"""What a trade costs by the tier of its instrument: commission, spread, slippage (SPEC A8).

A tier chooses the parameters of the one cost model (`cost_model`): the formulas are there. Entry
and exit are charged by their own liquidity (SPEC C1 "fees"), and the slippage that `TierSlippage`
computes is in the price of the fill.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from backlane.execution.cost_components import fill_costs
from backlane.execution.cost_model import (
    BPS,
    CommissionModel,
    CostModel,
    SpreadModel,
    logarithmic_impact,
)
from backlane.execution.target_orders import OrderSide
from backlane.signals.universe import Tier

IMPACT_NOTIONAL = 10_000.0
"""Money; smaller orders move no price."""
IMPACT_PER_DECADE = 0.2


class Liquidity(StrEnum):
    """Whether a fill waited in the book or took from it."""

    MAKER = "maker"
    TAKER = "taker"


class OrderStyle(StrEnum):
    """How an order is placed."""

    MARKET = "market"
    LIMIT_AGGRESSIVE = "limit_aggressive"
    LIMIT_POST_ONLY = "limit_post_only"


@dataclass(frozen=True, slots=True)
class TradeCost:
    """What one trade costs, in money; `slippage_bps` is that of its price."""

    commission: float
    slippage: float
    slippage_bps: float

    @property
    def total(self) -> float:
        """Commission and slippage together, money."""
        return self.commission + self.slippage


@dataclass(frozen=True, slots=True)
class RoundTripPnl:
    """The outcome of an entry and its exit; `net_return` is on what the entry cost."""

    net_pnl: float
    net_return: float
    commission: float


def _default_spreads() -> dict[Tier, float]:
    return {Tier.CORE: 10.0, Tier.ROTATIONAL: 20.0, Tier.EVENT: 40.0}


def _default_shares() -> dict[OrderStyle, float]:
    return {
        OrderStyle.MARKET: 0.5,
        OrderStyle.LIMIT_AGGRESSIVE: 0.25,
        OrderStyle.LIMIT_POST_ONLY: 0.1,
    }


def _default_probabilities() -> dict[OrderStyle, dict[Tier, float]]:
    tiers = (Tier.CORE, Tier.ROTATIONAL, Tier.EVENT)
    rows = {
        OrderStyle.MARKET: (0.98, 0.98, 0.98),
        OrderStyle.LIMIT_AGGRESSIVE: (0.95, 0.90, 0.80),
        OrderStyle.LIMIT_POST_ONLY: (0.85, 0.75, 0.60),
    }
    return {style: dict(zip(tiers, row, strict=True)) for style, row in rows.items()}


@dataclass(frozen=True, slots=True)
class TierCosts:
    """Commission rates by liquidity, spreads by tier, and the share of the spread that is paid."""

    maker_rate: float = 0.004
    taker_rate: float = 0.006
    spread_bps: Mapping[Tier, float] = field(default_factory=_default_spreads)
    spread_shares: Mapping[OrderStyle, float] = field(default_factory=_default_shares)
    fill_probabilities: Mapping[OrderStyle, Mapping[Tier, float]] = field(
        default_factory=_default_probabilities
    )

    def commission_rate(self, liquidity: Liquidity) -> float:
        """Returns what is charged, as a fraction of the notional."""
        return self.maker_rate if liquidity is Liquidity.MAKER else self.taker_rate

    def model(
        self,
        liquidity: Liquidity,
        tier: Tier,
        style: OrderStyle,
        spread_bps: float | None = None,
    ) -> CostModel:
        """Returns the model of costs; without a spread that of the tier counts."""
        spread = self.spread_bps[tier] if spread_bps is None else spread_bps
        return CostModel(
            CommissionModel(self.commission_rate(liquidity) / BPS),
            SpreadModel(fallback_bps=spread, share=self.spread_shares[style]),
        )

    def trade_cost(
        self,
        notional: float,
        liquidity: Liquidity,
        tier: Tier,
        style: OrderStyle,
        spread_bps: float | None = None,
    ) -> TradeCost:
        """Returns the cost of trading `notional`, money; without a spread that of the tier counts.

        1,000 taken from the book at a spread of 20 bps: 6.00 commission and 10 bps, 1.00, slippage.
        """
        model = self.model(liquidity, tier, style, spread_bps)
        costs = fill_costs(model, np.array([notional]), np.zeros(1))
        slippage_bps = model.spread.fallback_bps * model.spread.share
        return TradeCost(float(costs.commission[0]), float(costs.half_spread[0]), slippage_bps)

    def round_trip(
        self,
        entry_price: float,
        exit_price: float,
        quantity: float,
        entry: Liquidity,
        exit_: Liquidity,
    ) -> RoundTripPnl:
        """Returns the profit of a long trade after the commissions of both of its sides."""
        paid, received = entry_price * quantity, exit_price * quantity
        entry_commission, exit_commission = (
            self.trade_cost(notional, liquidity, Tier.CORE, OrderStyle.MARKET, 0.0).commission
            for notional, liquidity in ((paid, entry), (received, exit_))
        )
        commission = entry_commission + exit_commission
        net = received - paid - commission
        return RoundTripPnl(net, net / (paid + entry_commission), commission)

    def fill_probability(self, style: OrderStyle, tier: Tier) -> float:
        """Returns how likely an order of that style fills, in [0, 1]."""
        return self.fill_probabilities[style][tier]

    def break_even_move(self, liquidity: Liquidity, tier: Tier, *, is_round_trip: bool) -> float:
        """Returns the price move, a fraction, that pays for one side or both.

        A side costs its commission and, as in the reference for every liquidity, the share of the
        spread that a post-only order pays.
        """
        one_side = self.trade_cost(1.0, liquidity, tier, OrderStyle.LIMIT_POST_ONLY).total
        return 2.0 * one_side if is_round_trip else one_side

    def size_for_minimum(self, wanted: float, minimum: float, liquidity: Liquidity) -> float:
        """Returns `wanted`, or the notional of which `minimum` is left after commission, money."""
        kept = 1.0 - self.commission_rate(liquidity)
        return wanted if wanted * kept >= minimum else minimum / kept


def _default_slippage() -> dict[Tier, float]:
    return {Tier.CORE: 10.0, Tier.ROTATIONAL: 25.0, Tier.EVENT: 50.0}


@dataclass(frozen=True, slots=True)
class TierSlippage:
    """By how much a fill is worse than the mid price: a tier's base, more for size and turmoil."""

    base_bps: Mapping[Tier, float] = field(default_factory=_default_slippage)
    impact_max: float = 1.2
    turmoil_max: float = 1.5
    calm_volatility: float = 0.05

    def slippage_bps(self, tier: Tier, notional: float | None, volatility: float | None) -> float:
        """Returns base x impact x turmoil, in bps.

        impact = min(1 + 0.2 log10(notional / 10,000), 1.2) above 10,000, else 1; turmoil =
        min(volatility / 0.05, 1.5) above 5 %, else 1. What is not known is 1.
        """
        impact = turmoil = 1.0
        if notional is not None:
            impact = logarithmic_impact(
                notional, IMPACT_NOTIONAL, IMPACT_PER_DECADE, self.impact_max
            )
        if volatility is not None and volatility > self.calm_volatility:
            turmoil = min(volatility / self.calm_volatility, self.turmoil_max)
        return self.base_bps[tier] * impact * turmoil

    def fill_price(
        self,
        mid_price: float,
        side: OrderSide,
        tier: Tier,
        *,
        notional: float | None = None,
        volatility: float | None = None,
    ) -> float:
        """Returns the price of a fill: above the mid price for a BUY, below it for a SELL."""
        worse = self.slippage_bps(tier, notional, volatility) * BPS
        return mid_price * (1.0 + worse if side is OrderSide.BUY else 1.0 - worse)
