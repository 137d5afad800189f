"""Rules, sizes and conviction by hand (SPEC A6), and the aggregation of strategies."""

from dataclasses import fields, replace

import pytest

from backlane.cycle.proposals import (
    BREAKOUT,
    CANARY_TAG,
    MOVE,
    CanaryRules,
    ProposalRules,
    TradableInstrument,
    conviction_of,
    entry_size,
    propose,
)
from backlane.cycle.proposals_aggregation import (
    ProposalRefusal,
    StrategyProposals,
    aggregate_proposals,
)
from backlane.errors import InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.risk.proposal import TradeProposal
from backlane.signals.price_regime import PriceRegime
from backlane.signals.triggers import ReversalQualifier, TriggerKind, TriggerSignal
from backlane.signals.universe import Tier

INSTRUMENTS = {"A": TradableInstrument("A", Tier.ROTATIONAL, 10.0, 200e3)}
RULES = ProposalRules(notional_min=10.0)


def _signal(kind, change=0.03, strength=0.8, confidence=0.5, volatility=0.5, qualifiers=()):
    met = dict.fromkeys(qualifiers, True)
    return TriggerSignal("A", kind, strength, confidence, 100.0, change, volatility, qualifiers=met)


def _made(signal, regime=PriceRegime.CHOP, rules=RULES, equity=100_000.0):
    return propose([signal], INSTRUMENTS, regime, rules, equity)


@pytest.mark.parametrize(
    ("kind", "change", "stop"),
    [
        (TriggerKind.PRICE_MOVE, 0.016, 0.06),
        (TriggerKind.PRICE_MOVE, 0.015, None),
        (TriggerKind.PRICE_MOVE, -0.025, None),
        (TriggerKind.PRICE_MOVE, -0.026, 0.10),  # reachable only with the sign (SPEC Q2)
        (TriggerKind.VOLUME_SPIKE, -0.021, 0.08),
        (TriggerKind.VOLUME_SPIKE, 0.02, None),
        (TriggerKind.BREAKOUT, None, 0.06),
        (TriggerKind.MOMENTUM, 0.001, 0.08),
        (TriggerKind.MOMENTUM, -0.03, 0.10),
        (TriggerKind.MOMENTUM, -0.029, None),
        (TriggerKind.MOMENTUM, None, None),
    ],
)
def test_each_rule_at_its_edge(kind, change, stop):
    made = _made(_signal(kind, change))
    assert [one.proposal.stop_loss for one in made] == ([] if stop is None else [stop])


def test_a_size_shrinks_with_volatility_and_confidence():
    wild = _signal(TriggerKind.PRICE_MOVE, volatility=1.0, confidence=0.5)
    # 2 % of the tier, or 1 % / 6 % x 50 % / 100 % = 8.3 %: 2 %, times 0.5.
    assert entry_size(MOVE, wild, Tier.ROTATIONAL, RULES, 100_000.0) == pytest.approx(0.01)
    # 0.7 % x 1.2 of the third tier, times 0.5; breakouts are not raised to the minimum.
    assert entry_size(BREAKOUT, wild, Tier.EVENT, RULES, 100.0) == pytest.approx(0.0042)
    assert entry_size(MOVE, wild, Tier.EVENT, RULES, 100.0) == pytest.approx(0.1)  # 10 of 100


def test_conviction_adds_what_confirms():
    signal = _signal(TriggerKind.REVERSAL, qualifiers=(ReversalQualifier.BOUNCE,))
    conviction = conviction_of(signal, Tier.CORE, RULES)
    assert conviction.value == pytest.approx(0.5 * 0.8 + 0.3 * 0.5 + 0.04 + 0.02)


def test_a_reversal_needs_three_confirmations_and_no_crash():
    three = tuple(RULES.boosts)[:3]
    assert _made(_signal(TriggerKind.REVERSAL, qualifiers=three))
    assert not _made(_signal(TriggerKind.REVERSAL, qualifiers=three[:2]))
    assert not _made(_signal(TriggerKind.REVERSAL, qualifiers=three), PriceRegime.CRASH)


def test_a_canary_flies_alone_and_small():
    rules = replace(RULES, score_min=0.1)
    doubtful = _signal(TriggerKind.MOMENTUM, strength=0.4, confidence=0.4)  # conviction 0.32
    (canary,) = _made(doubtful, rules=rules)
    assert canary.is_canary
    assert canary.proposal.tags == (CANARY_TAG,)
    assert canary.proposal.size == pytest.approx(0.02 * 0.4 * 0.25)
    both = propose([doubtful, doubtful], INSTRUMENTS, PriceRegime.CHOP, rules, 0.0)
    assert [one.is_canary for one in both] == [False, False]


def test_unknown_instruments_and_weak_triggers_are_left_out():
    stranger = replace(_signal(TriggerKind.BREAKOUT), symbol="B")
    weak = _signal(TriggerKind.BREAKOUT, strength=0.19, confidence=1.0)
    assert propose([stranger, weak], INSTRUMENTS, PriceRegime.CHOP, RULES, 0.0) == []


def test_aggregation_says_what_it_left_out():
    def proposal(symbol, confidence, size=0.01):
        return TradeProposal(symbol, OrderSide.BUY, size, confidence)

    one = StrategyProposals("one", (proposal("A", 0.5), proposal("B", 0.5), proposal("C", 0.9)), 2)
    two = StrategyProposals("two", (proposal("A", 0.6), proposal("D", 2.0), proposal("E", 0.1, 0)))
    result = aggregate_proposals([one, two])
    assert [(kept.symbol, kept.strategy) for kept in result.proposals] == [
        ("A", "two"),
        ("B", "one"),
    ]
    assert [(out.strategy, out.proposal.symbol, out.reason) for out in result.refused] == [
        ("one", "C", ProposalRefusal.OVER_TRADES_PER_CYCLE),
        ("one", "A", ProposalRefusal.LESS_CONFIDENT),
        ("two", "D", ProposalRefusal.CONFIDENCE_OUT_OF_RANGE),
        ("two", "E", ProposalRefusal.SIZE_NOT_POSITIVE),
    ]


BOOSTED = tuple(ReversalQualifier)[:3]
SEEN = (
    _signal(TriggerKind.PRICE_MOVE),
    _signal(TriggerKind.MOMENTUM, change=-0.04),
    _signal(TriggerKind.REVERSAL, qualifiers=BOOSTED),
    _signal(TriggerKind.BREAKOUT, strength=0.41, confidence=0.5),
)
LONE = _signal(TriggerKind.MOMENTUM, strength=0.36, confidence=0.5)  # conviction 0.18 + 0.15
CORE = {"A": TradableInstrument("A", Tier.CORE, 10.0, 200e3)}


def _everything(rules):
    known = (INSTRUMENTS, CORE)
    made = [propose(SEEN, each, PriceRegime.CHOP, rules, 1000.0) for each in known]
    return made + [propose([LONE], each, PriceRegime.CHOP, rules, 1000.0) for each in known]


BASE = ProposalRules(score_min=0.1)
"""Lower than the default, so that conviction and the canary can act (SPEC A6 [Q])."""
OTHER = {
    "score_min": 0.3,
    "base_sizes": dict.fromkeys(Tier, 0.01),
    "dip_change": 0.05,
    "conviction_min": 0.5,
    "conviction_base": 0.1,
    "strength_weight": 0.6,
    "confidence_weight": 0.4,
    "boosts": {},
    "core_boost": 0.1,
    "confirmations_min": 4,
    "notional_min": 50.0,
    "canary": CanaryRules(is_enabled=False),
}
OTHER_CANARY = {
    "is_enabled": False,
    "conviction_low": 0.335,
    "conviction_high": 0.325,
    "size_scale": 0.5,
    "tiers": frozenset({Tier.CORE}),
    "spread_bps_max": dict.fromkeys(Tier, 5.0),
    "depth_min": dict.fromkeys(Tier, 1e6),
}


@pytest.mark.parametrize("name", [item.name for item in fields(ProposalRules)])
def test_every_rule_of_the_proposals_is_live(name):
    assert _everything(replace(BASE, **{name: OTHER[name]})) != _everything(BASE)


@pytest.mark.parametrize("name", [item.name for item in fields(CanaryRules)])
def test_every_rule_of_the_canary_is_live(name):
    changed = replace(BASE, canary=replace(CanaryRules(), **{name: OTHER_CANARY[name]}))
    assert _everything(changed) != _everything(BASE)


def test_every_mistake_in_the_rules_is_listed():
    with pytest.raises(InvalidRequestError) as caught:
        ProposalRules(score_min=2.0, confirmations_min=1.5, base_sizes={Tier.CORE: -0.1})
    assert [violation.field for violation in caught.value.violations] == [
        "score_min",
        "confirmations_min",
        "base_sizes.1",
        "base_sizes.2",
        "base_sizes.3",
    ]
    with pytest.raises(InvalidRequestError, match="conviction_high"):
        CanaryRules(conviction_low=0.5, conviction_high=0.4)
