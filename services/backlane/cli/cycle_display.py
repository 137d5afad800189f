"""What one cycle decided, for people and for programs."""

from typing import Any

from backlane.backtest.cycle_outcome import CycleOutcome, OrderReading
from backlane.cli.outcome import iso_time
from backlane.cli.output import print_json, print_table, say

_DIRECTIONS = {-1: "SHORT", 0: "FLAT", 1: "LONG"}


def has_failed(outcome: CycleOutcome) -> bool:
    """Says whether a stage failed."""
    return any(stage.error for stage in outcome.stages)


def print_outcome(outcome: CycleOutcome) -> None:
    """Writes the orders, what was refused and why, and how things stand."""
    bar = "no bar" if outcome.bar_time_ns is None else f"the bar of {iso_time(outcome.bar_time_ns)}"
    say(f"as of {iso_time(outcome.as_of_ns)}, on {bar}; equity {outcome.equity:,.2f}")
    if outcome.orders:
        print_table(
            ("order", "symbol", "quantity", "last close"),
            [
                (_side(each), each.symbol, f"{abs(each.quantity):,.6g}", _number(each.price))
                for each in outcome.orders
            ],
            right=("quantity", "last close"),
        )
    else:
        why = f": {outcome.no_trade}" if outcome.no_trade else ""
        say(f"no orders{why}" + (f" ({outcome.detail})" if outcome.detail else ""))
    refused = [each for each in outcome.proposals if each.reasons]
    if refused:
        print_table(
            ("refused or cut", "asked", "approved", "because"),
            [
                (
                    each.symbol,
                    f"{each.quantity:,.6g}",
                    f"{each.approved_quantity:,.6g}",
                    ", ".join((*each.reasons, *filter(None, (each.explanation,)))),
                )
                for each in refused
            ],
            right=("asked", "approved"),
        )
    for stage in outcome.stages:
        if stage.error:
            say(f"stage {stage.name} failed: {stage.error}")


def print_outcome_json(outcome: CycleOutcome) -> None:
    """Writes the same, and all of it, as one JSON document."""
    print_json(outcome_document(outcome))


def outcome_document(outcome: CycleOutcome) -> dict[str, Any]:
    """Returns what `--json` says of a cycle."""
    bar_ns = outcome.bar_time_ns
    return {
        "as_of": iso_time(outcome.as_of_ns),
        "bar_time": None if bar_ns is None else iso_time(bar_ns),
        "equity": outcome.equity,
        "cash": outcome.cash,
        "no_trade": outcome.no_trade or None,
        "detail": outcome.detail,
        "orders": [
            {
                "symbol": each.symbol,
                "side": _side(each),
                "quantity": abs(each.quantity),
                "price": each.price,
            }
            for each in outcome.orders
        ],
        "proposals": [
            {
                "symbol": each.symbol,
                "quantity": each.quantity,
                "is_approved": each.is_approved,
                "approved_quantity": each.approved_quantity,
                "reasons": list(each.reasons),
                "explanation": each.explanation,
            }
            for each in outcome.proposals
        ],
        "targets": [
            {"symbol": each.symbol, "weight": each.weight, "quantity": each.quantity}
            for each in outcome.targets
        ],
        "signals": [
            {
                "symbol": each.symbol,
                "direction": _DIRECTIONS[each.direction],
                "score": each.score,
            }
            for each in outcome.signals
        ],
        "stages": [
            {"name": each.name, "duration_s": each.duration_s, "error": each.error}
            for each in outcome.stages
        ],
    }


def _side(order: OrderReading) -> str:
    return "BUY" if order.is_buy else "SELL"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.6g}"
