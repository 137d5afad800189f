"""Turns triggers into proposals: rules, sizes, conviction (SPEC A6).

All proposals are entries. Sizes are shares of equity, stops and targets distances, fractions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backlane.errors import FieldViolation
from backlane.execution.target_orders import OrderSide
from backlane.risk.proposal import TradeProposal
from backlane.signals.price_regime import PriceRegime
from backlane.signals.ranges import (
    BPS,
    COUNT,
    MONEY,
    SHARE,
    Range,
    mapping_mistakes,
    order_mistake,
    range_mistakes,
    refuse,
)
from backlane.signals.triggers import ReversalQualifier, TriggerKind, TriggerSignal
from backlane.signals.universe import Tier

SIZE_MIN = 0.005
VOLATILITY_REFERENCE = 0.5
VOLATILITY_MIN = 0.1
CANARY_TAG = "canary"
DIP_TAG = "momentum_dip"


@dataclass(frozen=True, slots=True)
class TradeTemplate:
    """How a rule trades: stop and target, hours held at most, scale of size and of confidence."""

    stop_loss: float
    take_profit: float
    hold_hours_max: int
    size_scale: float = 1.0
    confidence_scale: float = 1.0
    raises_to_minimum: bool = True
    tags: tuple[str, ...] = ()


MOVE = TradeTemplate(0.06, 0.12, 48)
BOUNCE = TradeTemplate(0.10, 0.20, 24, size_scale=0.7)
SPIKE = TradeTemplate(0.08, 0.15, 72)
BREAKOUT = TradeTemplate(0.06, 0.20, 120, size_scale=1.2, raises_to_minimum=False)
REVERSAL = TradeTemplate(0.12, 0.25, 48, size_scale=0.8, confidence_scale=0.8)
MOMENTUM = TradeTemplate(0.08, 0.15, 72)
DIP = TradeTemplate(0.10, 0.18, 48, size_scale=0.85, confidence_scale=0.9, tags=(DIP_TAG,))
TEMPLATES = (MOVE, BOUNCE, SPIKE, BREAKOUT, REVERSAL, MOMENTUM, DIP)


def _default_sizes() -> dict[Tier, float]:
    return {Tier.CORE: 0.03, Tier.ROTATIONAL: 0.02, Tier.EVENT: 0.007}


def _default_boosts() -> dict[ReversalQualifier, float]:
    return {
        ReversalQualifier.CLOSE_ABOVE_VWAP: 0.04,
        ReversalQualifier.HIGHER_LOW: 0.04,
        ReversalQualifier.RSI_CROSS_50: 0.03,
        ReversalQualifier.BOUNCE: 0.04,
    }


@dataclass(frozen=True, slots=True)
class CanaryRules:
    """When a doubtful lone trigger may trade a small size: conviction in [low, high)."""

    is_enabled: bool = True
    conviction_low: float = 0.32
    conviction_high: float = 0.34
    size_scale: float = 0.25
    tiers: frozenset[Tier] = frozenset({Tier.CORE, Tier.ROTATIONAL})
    spread_bps_max: Mapping[Tier, float] = field(
        default_factory=lambda: {Tier.CORE: 20.0, Tier.ROTATIONAL: 35.0, Tier.EVENT: 60.0}
    )
    depth_min: Mapping[Tier, float] = field(
        default_factory=lambda: {Tier.CORE: 50e3, Tier.ROTATIONAL: 25e3, Tier.EVENT: 10e3}
    )

    def __post_init__(self) -> None:
        refuse("rule(s) of the canary", _canary_mistakes(self))


def _canary_mistakes(rules: CanaryRules) -> Iterator[FieldViolation]:
    names = ("conviction_low", "conviction_high", "size_scale")
    yield from range_mistakes(rules, dict.fromkeys(names, SHARE))
    yield from mapping_mistakes("spread_bps_max", rules.spread_bps_max, BPS)
    yield from mapping_mistakes("depth_min", rules.depth_min, MONEY)
    yield from missing_tiers("spread_bps_max", rules.spread_bps_max)
    yield from missing_tiers("depth_min", rules.depth_min)
    low, high = rules.conviction_low, rules.conviction_high
    yield from order_mistake("conviction_low", low, "conviction_high", high)


def missing_tiers(field_name: str, values: Mapping[Tier, object]) -> Iterator[FieldViolation]:
    """Yields a mistake for each tier that a mapping must name and does not."""
    for tier in Tier:
        if tier not in values:
            yield FieldViolation(f"{field_name}.{tier}", "is missing: give one for every tier")


@dataclass(frozen=True, slots=True)
class ProposalRules:
    """Parameters of the rules; `notional_min` is money, the other sizes are shares of equity.

    With the defaults no trigger that qualifies has a conviction below 0.346, so that neither
    `conviction_min` nor the canary acts; a lower `score_min` brings both to life (SPEC A6 [Q]).
    """

    score_min: float = 0.2
    base_sizes: Mapping[Tier, float] = field(default_factory=_default_sizes)
    dip_change: float = 0.03
    conviction_min: float = 0.30
    conviction_base: float = 0.0
    strength_weight: float = 0.5
    confidence_weight: float = 0.3
    boosts: Mapping[ReversalQualifier, float] = field(default_factory=_default_boosts)
    core_boost: float = 0.02
    confirmations_min: int = 3
    notional_min: float = 0.0
    canary: CanaryRules = field(default_factory=CanaryRules)

    def __post_init__(self) -> None:
        refuse("rule(s) of the proposals", _rule_mistakes(self))


_RANGES: Mapping[str, Range] = {
    "score_min": SHARE,
    "dip_change": SHARE,
    "conviction_min": SHARE,
    "conviction_base": Range(-1.0, 1.0),
    "strength_weight": SHARE,
    "confidence_weight": SHARE,
    "core_boost": Range(-1.0, 1.0),
    "confirmations_min": COUNT,
    "notional_min": MONEY,
}


def _rule_mistakes(rules: ProposalRules) -> Iterator[FieldViolation]:
    yield from range_mistakes(rules, _RANGES)
    yield from mapping_mistakes("base_sizes", rules.base_sizes, SHARE)
    yield from missing_tiers("base_sizes", rules.base_sizes)
    yield from mapping_mistakes("boosts", rules.boosts, Range(-1.0, 1.0))


@dataclass(frozen=True, slots=True)
class TradableInstrument:
    """What the rules must know of an instrument; `depth` is money resting near the price."""

    symbol: str
    tier: Tier
    spread_bps: float
    depth: float


@dataclass(frozen=True, slots=True)
class Conviction:
    """How sure the rules are, in [0, 1], and of what that is the sum; `boosts` by name."""

    value: float
    strength_part: float
    confidence_part: float
    boosts: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class ConvincedProposal:
    """A proposal, the conviction behind it and the threshold that it passed."""

    proposal: TradeProposal
    conviction: Conviction
    threshold: float
    is_canary: bool = False


def template_of(signal: TriggerSignal, regime: PriceRegime, dip: float) -> TradeTemplate | None:
    """Returns how to trade a trigger; None when its rule does not want to.

    A price move above 1.5 % is followed, one below -2.5 % bought for its bounce; a volume spike
    needs a move of more than 2 % either way; a reversal is not bought in a crash; momentum is
    followed up, and bought down from `dip` on.
    """
    change = signal.price_change
    if signal.kind is TriggerKind.BREAKOUT:
        return BREAKOUT
    if signal.kind is TriggerKind.REVERSAL:
        return None if regime is PriceRegime.CRASH else REVERSAL
    if change is None:
        return None
    if signal.kind is TriggerKind.PRICE_MOVE:
        return MOVE if change > 0.015 else BOUNCE if change < -0.025 else None
    if signal.kind is TriggerKind.VOLUME_SPIKE:
        return SPIKE if abs(change) > 0.02 else None
    return MOMENTUM if change > 0.0 else DIP if change <= -dip else None


def entry_size(
    template: TradeTemplate, signal: TriggerSignal, tier: Tier, rules: ProposalRules, equity: float
) -> float:
    """Returns the share of equity of an entry.

    base = size of the tier x scale; adjusted = max(0.5 %, min(base, 1 % / stop x 50 % /
    max(volatility, 10 %))), times the confidence; a smaller one is raised to the minimum notional
    where the template allows it. Base 3 %, stop 6 %, volatility 50 %: min(3 %, 16.7 %) = 3 %.
    """
    base = rules.base_sizes[tier] * template.size_scale
    volatility = VOLATILITY_REFERENCE if signal.volatility is None else signal.volatility
    steadied = 0.01 / template.stop_loss * VOLATILITY_REFERENCE / max(volatility, VOLATILITY_MIN)
    size = max(SIZE_MIN, min(base, steadied)) * signal.confidence * template.confidence_scale
    if template.raises_to_minimum and equity > 0.0:
        return max(size, rules.notional_min / equity)
    return size


def conviction_of(signal: TriggerSignal, tier: Tier, rules: ProposalRules) -> Conviction:
    """Returns base + 0.5 x strength + 0.3 x confidence + boosts, clamped to [0, 1].

    Each met qualifier of a reversal boosts, and so does the core tier.
    """
    strength = rules.strength_weight * signal.strength
    confidence = rules.confidence_weight * signal.confidence
    boosts: list[tuple[str, float]] = []
    if signal.qualifiers:
        boosts += (
            (str(qualifier), boost)
            for qualifier, boost in rules.boosts.items()
            if signal.qualifiers.get(qualifier, False)
        )
    if tier is Tier.CORE:
        boosts.append(("tier_bias_T1", rules.core_boost))
    value = rules.conviction_base + strength + confidence + sum(boost for _, boost in boosts)
    return Conviction(min(max(value, 0.0), 1.0), strength, confidence, tuple(boosts))


def propose(
    signals: Sequence[TriggerSignal],
    instruments: Mapping[str, TradableInstrument],
    regime: PriceRegime,
    rules: ProposalRules,
    equity: float,
) -> list[ConvincedProposal]:
    """Returns what the rules would trade, in the order of the triggers.

    A trigger qualifies with strength x confidence of at least `score_min` on a known instrument.
    """
    qualified = [
        signal
        for signal in signals
        if signal.symbol in instruments and signal.score >= rules.score_min
    ]
    made = (
        _proposal(signal, instruments[signal.symbol], regime, rules, equity, len(qualified) == 1)
        for signal in qualified
    )
    return [proposal for proposal in made if proposal is not None]


def _proposal(
    signal: TriggerSignal,
    instrument: TradableInstrument,
    regime: PriceRegime,
    rules: ProposalRules,
    equity: float,
    is_alone: bool,
) -> ConvincedProposal | None:
    template = template_of(signal, regime, rules.dip_change)
    if template is None:
        return None
    conviction = conviction_of(signal, instrument.tier, rules)
    proposal = TradeProposal(
        signal.symbol,
        OrderSide.BUY,
        entry_size(template, signal, instrument.tier, rules, equity),
        conviction.value,
        trigger=signal.kind,
        stop_loss=template.stop_loss,
        take_profit=template.take_profit,
        hold_hours_max=template.hold_hours_max,
        tags=template.tags,
    )
    canary = rules.canary
    if is_alone and _is_canary(conviction.value, instrument, canary):
        small = replace(
            proposal, size=proposal.size * canary.size_scale, tags=(*proposal.tags, CANARY_TAG)
        )
        return ConvincedProposal(small, conviction, canary.conviction_high, is_canary=True)
    if conviction.value < rules.conviction_min:
        return None
    if signal.kind is TriggerKind.REVERSAL:
        met = sum(signal.qualifiers.get(qualifier, False) for qualifier in rules.boosts)
        if met < rules.confirmations_min:
            return None
    return ConvincedProposal(proposal, conviction, rules.conviction_min)


def _is_canary(conviction: float, instrument: TradableInstrument, rules: CanaryRules) -> bool:
    return (
        rules.is_enabled
        and rules.conviction_low <= conviction < rules.conviction_high
        and instrument.tier in rules.tiers
        and instrument.spread_bps <= rules.spread_bps_max[instrument.tier]
        and instrument.depth >= rules.depth_min[instrument.tier]
    )
