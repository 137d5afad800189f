"""The funnel: bars -> features -> decisions -> orders -> fills, with a reason for every loss.

A run without trades must say why. Each stage tells how many entered, how many passed, and what
became of the others; nothing is lost without a name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from backlane.decisions.decision import DecisionReason
from backlane.execution.order import OrderOutcome

Reason = TypeVar("Reason", DecisionReason, OrderOutcome)

_QUANTITY_ZERO = OrderOutcome.DENIED_QUANTITY_ZERO.name
_TOO_DEAR = (
    "One lot costs more than an order may take: look at the scale of the prices (--price-scale at "
    "import), the lot_size, the sizing and the cash."
)
_UNKNOWN = (DecisionReason.NO_FEATURES, DecisionReason.FEATURE_NAN, DecisionReason.SCORE_NAN)
_FILTERED = (
    DecisionReason.MODEL_HOLD,
    DecisionReason.BELOW_CONFIDENCE,
    DecisionReason.MIN_SEPARATION,
    DecisionReason.ALREADY_LONG,
    DecisionReason.ALREADY_SHORT,
    DecisionReason.SHORT_NOT_ALLOWED,
)
_DENIED = tuple(outcome for outcome in OrderOutcome if outcome is not OrderOutcome.FILLED)


@dataclass(frozen=True, slots=True)
class FunnelStage:
    """One stage: `entered_count` = `passed_count` + the sum of `drops`, which name the losses."""

    name: str
    entered_count: int
    passed_count: int
    drops: Mapping[str, int]


def build_funnel(
    bar_count: int,
    simulated_count: int,
    reason_counts: Mapping[DecisionReason, int],
    outcome_counts: Mapping[OrderOutcome, int],
    fill_count: int,
) -> tuple[FunnelStage, ...]:
    """Returns the five stages. `fill_count` includes the forced close at the end of the data."""
    bars = _stage("bars", bar_count, {"WARM_UP": bar_count - simulated_count})
    features = _stage("features", bars.passed_count, _named(reason_counts, _UNKNOWN))
    decisions = _stage("decisions", features.passed_count, _named(reason_counts, _FILTERED))
    orders = _stage("orders", decisions.passed_count, _named(outcome_counts, _DENIED))
    return bars, features, decisions, orders, FunnelStage("fills", fill_count, fill_count, {})


def _named(counts: Mapping[Reason, int], wanted: tuple[Reason, ...]) -> dict[str, int]:
    return {item.name: counts.get(item, 0) for item in wanted}


def _stage(name: str, entered: int, drops: Mapping[str, int]) -> FunnelStage:
    kept = {reason: count for reason, count in drops.items() if count}
    return FunnelStage(name, entered, entered - sum(kept.values()), kept)


def explain_no_trades(funnel: tuple[FunnelStage, ...]) -> str:
    """Returns one sentence that says where everything was lost, or "" when there were fills."""
    if funnel[-1].passed_count:
        return ""
    for stage in funnel:
        if stage.passed_count == 0:
            reasons = sorted(stage.drops.items(), key=lambda item: -item[1])
            named = ", ".join(f"{count:,} {reason}" for reason, count in reasons)
            sentence = f"No trades: none of {stage.entered_count:,} passed {stage.name} ({named})."
            return f"{sentence} {_TOO_DEAR}" if _QUANTITY_ZERO in stage.drops else sentence
    return "No trades."
