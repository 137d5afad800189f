"""Which instruments may be traded now: tiers, liquidity, overrides, regime multipliers (SPEC A3).

Corrections of the reference (SPEC A3 [Q], C1 "live data in backtest"): an instrument without a
quote is ineligible, whatever its tier, and never gets invented liquidity; a regime multiplier of 0
drops an instrument of any tier.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from backlane.errors import FieldViolation
from backlane.signals.price_regime import PriceRegime
from backlane.signals.ranges import (
    BPS,
    MONEY,
    Range,
    order_mistake,
    range_mistakes,
    refuse,
)


class Tier(IntEnum):
    """How liquid an instrument is held to be; one type for universe, sizing and costs."""

    CORE = 1
    ROTATIONAL = 2
    EVENT = 3


class EligibilityNote(StrEnum):
    """Why an instrument is eligible although a limit would not have it."""

    FORCED = "force_eligible_core_asset"
    VOLUME_BAND = "override_volume"


class Ineligibility(StrEnum):
    """Why an instrument may not be traded."""

    EXCLUDED = "excluded"
    NO_QUOTE = "no_quote"
    VOLUME_TOO_LOW = "volume_too_low"
    SPREAD_TOO_WIDE = "spread_too_wide"
    DEPTH_TOO_LOW = "depth_too_low"
    REGIME = "regime_multiplier_zero"


@dataclass(frozen=True, slots=True)
class Quote:
    """The liquidity of an instrument: its spread, and money traded in 24 h and resting near by."""

    spread_bps: float
    volume_24h: float
    depth: float


@dataclass(frozen=True, slots=True)
class TierLimits:
    """What an instrument of a tier must have, in money, and the share of equity it may take."""

    volume_min: float
    spread_bps_max: float
    depth_min: float
    allocation_max: float
    allocation_min: float = 0.0


def _default_tiers() -> dict[Tier, TierLimits]:
    return {
        Tier.CORE: TierLimits(10e6, 20.0, 100e3, 0.40),
        Tier.ROTATIONAL: TierLimits(5e6, 35.0, 25e3, 0.20),
        Tier.EVENT: TierLimits(0.0, 80.0, 10e3, 0.05),
    }


def _default_multipliers() -> dict[PriceRegime, dict[Tier, float]]:
    by_regime = {
        PriceRegime.BULL: (1.0, 1.2),
        PriceRegime.CHOP: (1.0, 0.8),
        PriceRegime.BEAR: (1.0, 0.5),
        PriceRegime.CRASH: (0.0, 0.0),
    }
    return {
        regime: {Tier.CORE: core, Tier.ROTATIONAL: other, Tier.EVENT: other}
        for regime, (core, other) in by_regime.items()
    }


@dataclass(frozen=True, slots=True)
class UniverseRules:
    """Limits of the universe; the stricter of the global and the tier's counts.

    An instrument of `volume_band_tier` whose volume is at least `volume_band_multiple` of what it
    must be passes when its spread is at most `volume_band_spread_bps`.
    """

    volume_min: float = 8e6
    spread_bps_max: float = 80.0
    tiers: Mapping[Tier, TierLimits] = field(default_factory=_default_tiers)
    regime_multipliers: Mapping[PriceRegime, Mapping[Tier, float]] = field(
        default_factory=_default_multipliers
    )
    forced: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    volume_band_tier: Tier = Tier.ROTATIONAL
    volume_band_multiple: float = 0.95
    volume_band_spread_bps: float = 30.0

    def __post_init__(self) -> None:
        refuse("rule(s) of the universe", _mistakes(self))


_MULTIPLE = Range(0.0, 10.0)
_RANGES: Mapping[str, Range] = {
    "volume_min": MONEY,
    "spread_bps_max": BPS,
    "volume_band_multiple": _MULTIPLE,
    "volume_band_spread_bps": BPS,
}
_TIER_RANGES: Mapping[str, Range] = {
    "volume_min": MONEY,
    "spread_bps_max": BPS,
    "depth_min": MONEY,
    "allocation_max": _MULTIPLE,
    "allocation_min": _MULTIPLE,
}


def _mistakes(rules: UniverseRules) -> Iterator[FieldViolation]:
    yield from range_mistakes(rules, _RANGES)
    for tier in Tier:
        if tier not in rules.tiers:
            yield FieldViolation(f"tiers.{tier}", "is missing: give one for every tier")
            continue
        limits = rules.tiers[tier]
        low, high = limits.allocation_min, limits.allocation_max
        wrong = [*range_mistakes(limits, _TIER_RANGES)]
        wrong = wrong or order_mistake("allocation_min", low, "allocation_max", high)
        for mistake in wrong:
            yield FieldViolation(f"tiers.{tier}.{mistake.field}", mistake.description)
    for regime in PriceRegime:
        multipliers = rules.regime_multipliers.get(regime, {})
        for tier in Tier:
            name = f"regime_multipliers.{regime}.{tier}"
            if tier not in multipliers:
                yield FieldViolation(name, "is missing: give one for every regime and tier")
            else:
                yield from _MULTIPLE.mistakes(name, multipliers[tier])


@dataclass(frozen=True, slots=True)
class UniverseMember:
    """An instrument that may be traded; allocations are shares of equity after the regime's."""

    symbol: str
    tier: Tier
    allocation_min: float
    allocation_max: float
    quote: Quote
    note: EligibilityNote | None


@dataclass(frozen=True, slots=True)
class Universe:
    """The members, core first, in the order given within a tier; and why others are not in it."""

    regime: PriceRegime
    members: tuple[UniverseMember, ...]
    ineligible: Mapping[str, Ineligibility]

    def member(self, symbol: str) -> UniverseMember | None:
        """Returns the member of that symbol; None when it is not in the universe."""
        return next((member for member in self.members if member.symbol == symbol), None)


def volume_floor(tier: Tier, spread_bps: float, rules: UniverseRules) -> tuple[float, float]:
    """Returns the volume of 24 h that passes by itself, and that which passes with a note, money.

    The second is lower for a tight spread of the band's tier, and the first for all others.
    """
    needed = max(rules.volume_min, rules.tiers[tier].volume_min)
    is_tight = spread_bps <= rules.volume_band_spread_bps
    has_band = tier is rules.volume_band_tier and is_tight
    return needed, min(needed, needed * rules.volume_band_multiple) if has_band else needed


def _volume_note(
    tier: Tier, quote: Quote, rules: UniverseRules
) -> EligibilityNote | Ineligibility | None:
    needed, with_note = volume_floor(tier, quote.spread_bps, rules)
    if quote.volume_24h >= needed:
        return None
    if quote.volume_24h >= with_note:
        return EligibilityNote.VOLUME_BAND
    return Ineligibility.VOLUME_TOO_LOW


def _judge(
    symbol: str, tier: Tier, quote: Quote | None, multiplier: float, rules: UniverseRules
) -> EligibilityNote | Ineligibility | None:
    if symbol in rules.excluded:
        return Ineligibility.EXCLUDED
    if quote is None:
        return Ineligibility.NO_QUOTE
    if multiplier <= 0.0:
        return Ineligibility.REGIME
    if symbol in rules.forced:
        return EligibilityNote.FORCED
    note = _volume_note(tier, quote, rules)
    if isinstance(note, Ineligibility):
        return note
    if quote.spread_bps > min(rules.spread_bps_max, rules.tiers[tier].spread_bps_max):
        return Ineligibility.SPREAD_TOO_WIDE
    if quote.depth < rules.tiers[tier].depth_min:
        return Ineligibility.DEPTH_TOO_LOW
    return note


def build_universe(
    tiers: Mapping[str, Tier],
    quotes: Mapping[str, Quote],
    regime: PriceRegime,
    rules: UniverseRules,
) -> Universe:
    """Returns who may be traded in a regime, out of the tiers of all instruments and their quotes.

    Checked in this order: excluded, no quote, multiplier of the regime, forced, volume, spread,
    depth. A member's allocations are those of its tier times the multiplier.
    """
    members = []
    ineligible: dict[str, Ineligibility] = {}
    for symbol in sorted(tiers, key=lambda symbol: tiers[symbol]):
        tier, quote = tiers[symbol], quotes.get(symbol)
        multiplier = rules.regime_multipliers[regime][tier]
        verdict = _judge(symbol, tier, quote, multiplier, rules)
        if isinstance(verdict, Ineligibility) or quote is None:
            ineligible[symbol] = (
                verdict if isinstance(verdict, Ineligibility) else (Ineligibility.NO_QUOTE)
            )
            continue
        limits = rules.tiers[tier]
        low, high = limits.allocation_min * multiplier, limits.allocation_max * multiplier
        members.append(UniverseMember(symbol, tier, low, high, quote, verdict))
    return Universe(regime, tuple(members), ineligible)
