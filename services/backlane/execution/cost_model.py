"""What a fill costs: one model for both sides, in commission, spread and impact (SPEC B5).

A model is a few records of parameters; the formulas are kernels on single numbers, so that the
compiled book, reports and pre-trade estimates use the same ones. Money is in the currency of the
prices, `*_bps` are basis points of the notional. A component is charged once, on top of the price.
"""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backlane.jit import Record, inner_kernel, kernel

BPS = 1e-4
BUCKETS_MAX = 16
"""Liquidity buckets of a spread model, at most."""

COSTS_DTYPE = np.dtype(
    (
        np.record,
        [
            ("linear_rate", "<f8"),  # a fraction of the notional, NaN where costs are not linear
            ("commission_bps", "<f8"),
            ("commission_fixed", "<f8"),
            ("commission_per_unit", "<f8"),
            ("commission_minimum", "<f8"),
            ("spread_fallback_bps", "<f8"),
            ("spread_share", "<f8"),
            ("spread_passive_share", "<f8"),
            ("bucket_count", "<i8"),
            ("bucket_volume", "<f8", (BUCKETS_MAX,)),
            ("bucket_bps", "<f8", (BUCKETS_MAX,)),
            ("impact_k", "<f8"),
            ("impact_min_bps", "<f8"),
            ("impact_max_bps", "<f8"),
            ("impact_participation_max", "<f8"),
            ("impact_fallback_bps", "<f8"),
        ],
    )
)


@dataclass(frozen=True, slots=True)
class CommissionModel:
    """Commission of a fill: `bps` of its notional + `fixed` + `per_unit` of its quantity.

    It is never less than `minimum`; all are money but the first.
    """

    bps: float = 0.0
    fixed: float = 0.0
    per_unit: float = 0.0
    minimum: float = 0.0


@dataclass(frozen=True, slots=True)
class SpreadModel:
    """The quoted spread by liquidity: (least average volume in money, bps), growing.

    An instrument below the first bucket, or without a volume, has `fallback_bps`. `share` of the
    quoted spread is paid: half of it by who takes from the book; `passive_share` by who waits in it
    at a limit. More than BUCKETS_MAX buckets, or volumes that do not grow, raise ValueError.
    """

    buckets: tuple[tuple[float, float], ...] = ()
    fallback_bps: float = 0.0
    share: float = 0.5
    passive_share: float = 0.0

    def __post_init__(self) -> None:
        """Checks the buckets."""
        volumes = [volume for volume, _ in self.buckets]
        if len(volumes) > BUCKETS_MAX:
            raise ValueError(f"{len(volumes)} buckets are more than {BUCKETS_MAX}")
        if any(after <= before for before, after in itertools.pairwise(volumes)):
            raise ValueError(f"the volumes of buckets must grow: {volumes}")


@dataclass(frozen=True, slots=True)
class ImpactModel:
    """Square-root impact: k * volatility * sqrt(participation), in bps within [min, max].

    `volatility` is that of a bar, a fraction; participation is notional / average volume, at most
    `participation_max`. Without either, or without a notional, it is `fallback_bps`.
    """

    k: float = 0.0
    min_bps: float = 0.0
    max_bps: float = math.inf
    participation_max: float = 1.0
    fallback_bps: float = 0.0


@dataclass(frozen=True, slots=True)
class CostModel:
    """All that fills cost; the default is nothing."""

    commission: CommissionModel = field(default_factory=CommissionModel)
    spread: SpreadModel = field(default_factory=SpreadModel)
    impact: ImpactModel = field(default_factory=ImpactModel)

    @classmethod
    def linear(
        cls, commission_bps: float = 0.0, half_spread_bps: float = 0.0, impact_bps: float = 0.0
    ) -> "CostModel":
        """Returns costs in basis points of the notional alone (SPEC B9)."""
        return cls(
            CommissionModel(commission_bps),
            SpreadModel(fallback_bps=2.0 * half_spread_bps),
            ImpactModel(fallback_bps=impact_bps),
        )

    @property
    def is_linear(self) -> bool:
        """Whether a fill costs a fraction of its notional, whatever its size and instrument."""
        one = self.commission
        return (
            (one.fixed, one.per_unit, one.minimum) == (0.0, 0.0, 0.0)
            and not self.spread.buckets
            and self.impact.k == 0.0
        )

    @property
    def linear_rate(self) -> float:
        """All components of linear costs as a fraction of the notional; NaN where they are not."""
        if not self.is_linear:
            return math.nan
        half_spread_bps = self.spread.fallback_bps * self.spread.share
        return (self.commission.bps + half_spread_bps + self.impact.fallback_bps) / 1e4

    def record(self) -> NDArray[np.void]:
        """Returns the same for the kernels, COSTS_DTYPE of shape (1,)."""
        costs = np.zeros(1, COSTS_DTYPE)
        costs["linear_rate"] = self.linear_rate
        for name in ("bps", "fixed", "per_unit", "minimum"):
            costs[f"commission_{name}"] = getattr(self.commission, name)
        for name in ("fallback_bps", "share", "passive_share"):
            costs[f"spread_{name}"] = getattr(self.spread, name)
        costs["bucket_count"] = len(self.spread.buckets)
        for at, (volume, bps) in enumerate(self.spread.buckets):
            costs["bucket_volume"][0, at], costs["bucket_bps"][0, at] = volume, bps
        for name in ("k", "min_bps", "max_bps", "participation_max", "fallback_bps"):
            costs[f"impact_{name}"] = getattr(self.impact, name)
        return costs


@inner_kernel
def commission_of(notional: float, units: float, costs: Record) -> float:
    """Returns the commission, money, of a notional and units >= 0.

    10,000 for 50 units at 1 bp + 2 + 0.01 a unit: 1 + 2 + 0.5 = 3.5.
    """
    rate: float = costs.commission_bps * BPS
    charged = notional * rate + costs.commission_fixed + units * costs.commission_per_unit
    paid: float = max(charged, costs.commission_minimum)
    return paid


@inner_kernel
def quoted_spread_bps(average_volume: float, costs: Record) -> float:
    """Returns the quoted spread: that of the highest bucket that the average volume reaches.

    `average_volume` is money, NaN where it is not known. With buckets (1e6, 5), (1e7, 3): 2e6 has
    5 bps, 1e7 has 3, and 5e5 the fallback.
    """
    bps: float = costs.spread_fallback_bps
    for bucket in range(costs.bucket_count):
        if average_volume >= costs.bucket_volume[bucket]:
            bps = costs.bucket_bps[bucket]
    return bps


@inner_kernel
def spread_cost_of(notional: float, quoted_bps: float, is_passive: bool, costs: Record) -> float:
    """Returns what a fill pays of the spread, money: notional * bps * share.

    10,000 at 5 bps with a share of a half: 2.5.
    """
    share = costs.spread_passive_share if is_passive else costs.spread_share
    paid: float = notional * quoted_bps * BPS * share
    return paid


@inner_kernel
def impact_bps_of(
    notional: float, average_volume: float, volatility: float, costs: Record
) -> float:
    """Returns the impact in bps; see ImpactModel.

    1e4 in a market of 1e6 a bar with volatility 0.02 and k 0.8: 0.8 * 0.02 * sqrt(0.01) = 16 bps.
    """
    fallback: float = costs.impact_fallback_bps
    if costs.impact_k == 0.0 or not average_volume > 0.0 or not notional > 0.0:
        return fallback
    if not math.isfinite(volatility):
        return fallback
    participation = min(notional / average_volume, costs.impact_participation_max)
    bps = costs.impact_k * volatility * math.sqrt(participation) / BPS
    bounded: float = min(max(bps, costs.impact_min_bps), costs.impact_max_bps)
    return bounded


@inner_kernel
def impact_cost_of(
    notional: float, average_volume: float, volatility: float, is_passive: bool, costs: Record
) -> float:
    """Returns what the impact costs, money: notional * bps; who waits at a limit makes none."""
    if is_passive:
        return 0.0
    return notional * (impact_bps_of(notional, average_volume, volatility, costs) * BPS)


@inner_kernel
def fill_cost(
    notional: float,
    units: float,
    average_volume: float,
    volatility: float,
    is_passive: bool,
    costs: Record,
) -> tuple[float, float, float, float]:
    """Returns what a fill costs in money: (all, commission, spread, impact).

    Linear costs are the notional times one rate, as SPEC B9 sums them.
    """
    commission = commission_of(notional, units, costs)
    spread = spread_cost_of(notional, quoted_spread_bps(average_volume, costs), is_passive, costs)
    impact = impact_cost_of(notional, average_volume, volatility, is_passive, costs)
    total = commission + spread + impact
    if not is_passive and costs.linear_rate == costs.linear_rate:  # not NaN
        total = notional * costs.linear_rate
    return total, commission, spread, impact


@kernel
def logarithmic_impact(
    notional: float, least_notional: float, per_decade: float, impact_max: float
) -> float:
    """Returns by how much size multiplies a slippage: 1 + per_decade * log10(notional / least).

    It is 1 up to `least_notional` and at most `impact_max` (SPEC A8). Half a decade more at 0.2 a
    decade: 1.1.
    """
    if not notional > least_notional:
        return 1.0
    return min(1.0 + per_decade * math.log10(notional / least_notional), impact_max)
