"""The rules of the reference, case by case, and its registry (SPEC A6).

A proposal whose side is neither BUY nor SELL cannot be written here, and a strategy that raises has
no proposals: the cycle records its failure (SPEC C1 "errors").
"""

import pytest

from backlane.cycle.proposals import ProposalRules, TradableInstrument, propose
from backlane.cycle.proposals_aggregation import StrategyProposals, aggregate_proposals
from backlane.execution.target_orders import OrderSide
from backlane.risk.proposal import TradeProposal
from backlane.signals.triggers import ReversalQualifier, TriggerKind, TriggerSignal
from backlane.signals.universe import Tier
from tests.golden.cycle.t247 import RELATIVE, cases, needs_vectors, read, regime_of

pytestmark = needs_vectors


def _fraction(percent):
    return None if percent is None else percent / 100


def _signals(case):
    """The triggers of a case; kinds that do not exist cannot be written here."""
    return [
        TriggerSignal(
            row["symbol"],
            TriggerKind(row["trigger_type"]),
            row["strength"],
            row["confidence"],
            row["current_price"],
            _fraction(row["price_change_pct"]),
            _fraction(row["volatility"]),
            row.get("volume_ratio"),
            {ReversalQualifier(key): met for key, met in row.get("qualifiers", {}).items()},
        )
        for row in case["triggers"]
        if row["trigger_type"] in set(TriggerKind)
    ]


def _rules(document, overrides):
    strategy = document["policy_strategy"]
    weights = strategy["conviction_weights"]
    assert set(overrides) <= {"triggers.min_score"}
    sizes = strategy["base_position_pct"]
    boosts = weights["quality_boosts"]
    defaults = ProposalRules()
    return ProposalRules(
        score_min=overrides.get("triggers.min_score", defaults.score_min),
        base_sizes={tier: sizes[f"tier{tier.value}"] for tier in Tier},
        dip_change=strategy["momentum_downside_reversal_pct"] / 100,
        conviction_min=strategy["min_conviction_to_propose"],
        conviction_base=weights["base"],
        strength_weight=weights["trigger_strength"],
        confidence_weight=weights["trigger_confidence"],
        boosts={
            ReversalQualifier(name): boosts[name]
            for name in strategy["reversal_confirmation"]["qualifiers"]
        },
        core_boost=boosts["tier_bias_T1"],
        confirmations_min=strategy["reversal_confirmation"]["min_required"],
        notional_min=document["min_notional_usd"],
    )


@pytest.mark.parametrize("case", cases("rules.json"))
def test_the_rules_propose_what_the_reference_proposed(case):
    document = read("rules.json")
    instruments = {
        row["symbol"]: TradableInstrument(
            row["symbol"], Tier(row["tier"]), row["spread_bps"], row["depth_usd"]
        )
        for row in document["assets"]
    }
    rules = _rules(document, case.get("overrides", {}))
    made = propose(_signals(case), instruments, regime_of(case["regime"]), rules, case["nav"])
    assert [one.proposal.symbol for one in made] == [row["symbol"] for row in case["proposals"]]
    for one, row in zip(made, case["proposals"], strict=True):
        ours, parts = one.proposal, row["conviction_breakdown"]
        assert ours.side == row["side"]
        assert ours.size * 100 == pytest.approx(row["size_pct"], rel=RELATIVE)
        assert ours.confidence == pytest.approx(row["confidence"], rel=RELATIVE)
        assert ours.stop_loss * 100 == pytest.approx(row["stop_loss_pct"], rel=RELATIVE)
        assert ours.take_profit * 100 == pytest.approx(row["take_profit_pct"], rel=RELATIVE)
        assert ours.hold_hours_max == row["max_hold_hours"]
        assert list(ours.tags) == row["tags"]
        assert one.is_canary == row["metadata"].get("canary", False)
        assert one.threshold == row["metadata"]["conviction_threshold"]
        said = one.conviction
        assert said.strength_part == pytest.approx(parts["strength_component"], rel=RELATIVE)
        assert said.confidence_part == pytest.approx(parts["confidence_component"], rel=RELATIVE)
        assert [list(boost) for boost in said.boosts] == parts["boosts"]


@pytest.mark.parametrize("case", cases("rules.json", "registry"))
def test_strategies_are_aggregated_as_recorded(case):
    strategies = []
    for row in case["strategies"]:
        budget = row["risk_budgets"]
        proposals = [] if row["proposals"] == "raise" or not row["enabled"] else row["proposals"]
        strategies.append(
            StrategyProposals(
                row["name"],
                tuple(
                    TradeProposal(
                        one["symbol"],
                        OrderSide(one["side"]),
                        one["size_pct"] / 100,
                        one["confidence"],
                    )
                    for one in proposals
                    if one["side"] in set(OrderSide)
                ),
                budget.get("max_trades_per_cycle"),
                _fraction(budget.get("max_at_risk_pct")),
            )
        )
    ours = aggregate_proposals(strategies).proposals
    assert [(one.symbol, one.side, one.size, one.confidence, one.strategy) for one in ours] == [
        (row["symbol"], row["side"], row["size_pct"] / 100, row["confidence"], row["source"])
        for row in case["aggregated"]
    ]
    for one, row in zip(ours, case["aggregated"], strict=True):
        assert list(one.tags) == row["tags"]
        assert one.strategy_at_risk_max == _fraction(row["max_at_risk_pct"])
