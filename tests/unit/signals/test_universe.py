"""Who may be traded, and in which regime, with numbers at the edges of the rules."""

import dataclasses

import numpy as np
import pytest

from backlane.errors import InvalidRequestError
from backlane.signals.price_regime import PriceRegime, classify_regime, price_regime
from backlane.signals.universe import (
    EligibilityNote,
    Ineligibility,
    Quote,
    Tier,
    TierLimits,
    UniverseRules,
    build_universe,
)

GOOD = Quote(10.0, 20e6, 200e3)
RULES = UniverseRules(forced=frozenset({"F"}), excluded=frozenset({"X"}))


def _judged(symbol, quote, tier=Tier.ROTATIONAL, regime=PriceRegime.BULL):
    quotes = {} if quote is None else {symbol: quote}
    universe = build_universe({symbol: tier}, quotes, regime, RULES)
    member = universe.member(symbol)
    return universe.ineligible[symbol] if member is None else member.note


@pytest.mark.parametrize(
    ("symbol", "quote", "verdict"),
    [
        ("A", GOOD, None),
        ("X", GOOD, Ineligibility.EXCLUDED),
        ("A", None, Ineligibility.NO_QUOTE),
        ("F", None, Ineligibility.NO_QUOTE),  # nothing is invented (SPEC A3 [Q])
        ("F", Quote(500.0, 0.0, 0.0), EligibilityNote.FORCED),
        ("A", Quote(30.0, 7.6e6, 200e3), EligibilityNote.VOLUME_BAND),  # 95 % of 8e6
        ("A", Quote(30.1, 7.6e6, 200e3), Ineligibility.VOLUME_TOO_LOW),
        ("A", Quote(30.0, 7.5e6, 200e3), Ineligibility.VOLUME_TOO_LOW),
        ("A", Quote(35.1, 20e6, 200e3), Ineligibility.SPREAD_TOO_WIDE),
        ("A", Quote(10.0, 20e6, 24_999.0), Ineligibility.DEPTH_TOO_LOW),
    ],
)
def test_eligibility_at_its_edges(symbol, quote, verdict):
    assert _judged(symbol, quote) == verdict


def test_a_multiplier_of_zero_drops_every_tier():
    for tier in Tier:
        assert _judged("F", GOOD, tier, PriceRegime.CRASH) is Ineligibility.REGIME


def test_members_come_core_first_with_the_allocation_of_the_regime():
    tiers = {"A": Tier.ROTATIONAL, "B": Tier.CORE}
    universe = build_universe(tiers, {"A": GOOD, "B": GOOD}, PriceRegime.BEAR, RULES)
    said = [(member.symbol, member.allocation_max) for member in universe.members]
    assert said == [("B", 0.40), ("A", pytest.approx(0.10))]  # 20 % x 0.5


@pytest.mark.parametrize(
    ("trend", "volatility", "regime", "confidence"),
    [
        (-0.10, 1.0, PriceRegime.BEAR, 0.75),  # neither is passed; 0.5 + 0.05 / 0.2
        (-0.11, 0.2, PriceRegime.CRASH, 0.7),
        (-0.16, 1.3, PriceRegime.CRASH, 0.9),
        (0.10, 0.59, PriceRegime.BULL, 0.5),
        (0.10, 0.60, PriceRegime.CHOP, 0.6),
        (0.50, 0.20, PriceRegime.BULL, 0.9),
        (-0.05, 0.2, PriceRegime.BEAR, 0.5),
        (0.0, 0.2, PriceRegime.CHOP, 0.8),
    ],
)
def test_regimes_at_their_edges(trend, volatility, regime, confidence):
    assert classify_regime(trend, volatility) == (regime, pytest.approx(confidence))


def test_a_regime_is_read_from_seven_days():
    close = np.full(300, 50.0)
    close[-168:] = 100.0
    close[-1] = 112.0
    reading = price_regime(close)
    assert reading.trend == pytest.approx(0.12)
    # One return of 0.12 among 167: sample deviation 0.12 / sqrt(167).
    assert reading.volatility == pytest.approx(0.12 / np.sqrt(167) * np.sqrt(8760))
    assert price_regime(close[:167]).confidence == 0.5


QUOTES = {
    "A": (Tier.CORE, GOOD),
    "B": (Tier.ROTATIONAL, Quote(30.0, 7.7e6, 30e3)),  # passes by the band of volume alone
    "C": (Tier.EVENT, Quote(79.0, 9e6, 10e3)),
    "D": (Tier.CORE, Quote(15.0, 9.8e6, 200e3)),  # too little volume for the core, tight
}


def _everything(rules):
    tiers = {symbol: tier for symbol, (tier, _) in QUOTES.items()}
    quotes = {symbol: quote for symbol, (_, quote) in QUOTES.items()}
    return [build_universe(tiers, quotes, regime, rules) for regime in PriceRegime]


def _tiers(**changes):
    limits = UniverseRules().tiers
    return {tier: dataclasses.replace(each, **changes) for tier, each in limits.items()}


_MULTIPLIERS = UniverseRules().regime_multipliers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("volume_min", 10e6),
        ("spread_bps_max", 50.0),
        ("regime_multipliers", {**_MULTIPLIERS, PriceRegime.BULL: dict.fromkeys(Tier, 0.5)}),
        ("regime_multipliers", {**_MULTIPLIERS, PriceRegime.CRASH: dict.fromkeys(Tier, 0.1)}),
        ("forced", frozenset({"D"})),
        ("excluded", frozenset({"A"})),
        ("volume_band_tier", Tier.CORE),
        ("volume_band_multiple", 0.99),
        ("volume_band_spread_bps", 29.0),
        ("tiers", _tiers(volume_min=12e6)),
        ("tiers", _tiers(spread_bps_max=12.0)),
        ("tiers", _tiers(depth_min=50e3)),
        ("tiers", _tiers(allocation_max=0.01)),
        ("tiers", _tiers(allocation_min=0.01)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_rule_of_the_universe_is_live(name, value):
    changed = UniverseRules(**{name: value})
    assert _everything(changed) != _everything(UniverseRules())


def test_every_mistake_in_the_rules_is_listed():
    limits = {**UniverseRules().tiers, Tier.EVENT: TierLimits(-1.0, 80.0, 10e3, 0.05)}
    with pytest.raises(InvalidRequestError) as caught:
        UniverseRules(volume_min=-1.0, volume_band_multiple=float("nan"), tiers=limits)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["volume_min", "volume_band_multiple", "tiers.3.volume_min"]
