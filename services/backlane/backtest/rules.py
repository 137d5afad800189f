"""From a request and a bundle to the exact rules of one run."""

from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.request import BacktestRequest, SizingChoice
from backlane.backtest.switches import Excursions, FillTime, HoldingTime, Switches, TradeCommission
from backlane.cycle.state import new_rules
from backlane.errors import ModelNotTradableError
from backlane.inference.model_info import BundleDecisions, ModelHead, ModelInfo

Value = TypeVar("Value")

DEFAULT_CONFIDENCE_THRESHOLD = 0.5
DEFAULT_MIN_SEPARATION_HOURS = 4.0
DEFAULT_ROUND_TRIP_COST = 0.003
DEFAULT_MIN_EDGE_MULTIPLIER = 1.5


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """How outputs become decisions in this run, every default filled in.

    `edge` is the predicted return that a regression head must exceed, as a fraction.
    """

    confidence_threshold: float
    position_awareness: bool
    allow_short_from_flat: bool
    min_signal_separation_hours: float
    edge: float


def decision_rules(request: BacktestRequest, info: ModelInfo, switches: Switches) -> DecisionRules:
    """Returns the request's word, else the bundle's, else the default, field by field.

    A regression head knows no confidence threshold and may always be SHORT. Without short positions
    in the profile, none is allowed from FLAT. Raises ModelNotTradableError for other heads.
    """
    if not (info.head.is_tradable or switches.classes_as_decisions):
        message = (
            f"{info.name} has a {info.head.value} head: its outputs are no BUY, HOLD and SELL. "
            "Choose a model with a classification or regression head."
        )
        raise ModelNotTradableError(message, metadata={"model": info.name, "head": info.head.value})
    bundle = info.decisions if switches.decisions_from_bundle else BundleDecisions()
    own = request.decisions
    is_regression = info.head is ModelHead.REGRESSION
    threshold = _first(
        own.confidence_threshold, bundle.confidence_threshold, DEFAULT_CONFIDENCE_THRESHOLD
    )
    allow_short = _first(own.allow_short_from_flat, bundle.allow_short_from_flat, False)
    cost = _first(own.cost_model.round_trip_cost, bundle.round_trip_cost, DEFAULT_ROUND_TRIP_COST)
    multiple = _first(
        own.cost_model.min_edge_multiplier, bundle.min_edge_multiplier, DEFAULT_MIN_EDGE_MULTIPLIER
    )
    return DecisionRules(
        confidence_threshold=0.0 if is_regression else threshold,
        position_awareness=_first(own.position_awareness, bundle.position_awareness, True),
        allow_short_from_flat=switches.shorts and (is_regression or allow_short),
        min_signal_separation_hours=_first(
            own.filters.min_signal_separation,
            bundle.min_signal_separation_hours,
            DEFAULT_MIN_SEPARATION_HOURS,
        ),
        edge=cost * multiple,
    )


def _first(*values: Value | None) -> Value:
    return next(value for value in values if value is not None)


def rules_record(
    request: BacktestRequest, decisions: DecisionRules, switches: Switches
) -> NDArray[np.void]:
    """Returns the rules as the loop reads them: a RULES_DTYPE array of length 1."""
    rules = new_rules()
    for name, value in {**request.costs.model_dump(), **request.exits.model_dump()}.items():
        rules[name] = value or 0
    rules["units"] = request.sizing.units or 0.0
    rules["lot_size"] = request.lot_size
    rules["leverage"] = request.margin.leverage
    rules["liquidation"] = request.margin.liquidation
    rules["confidence_threshold"] = decisions.confidence_threshold
    rules["min_separation_hours"] = decisions.min_signal_separation_hours
    rules["commission_rate"] = request.commission_rate
    rules["slippage_rate"] = request.slippage_rate
    rules["position_awareness"] = decisions.position_awareness
    rules["allow_short_from_flat"] = decisions.allow_short_from_flat
    rules["shorts"] = switches.shorts
    rules["fill_this_close"] = switches.fill is FillTime.THIS_CLOSE
    rules["exit_leg_costs"] = switches.trade_commission is TradeCommission.EXIT_LEG
    rules["short_equity_with_commission"] = switches.short_equity_with_commission
    rules["holding_until_last_mark"] = switches.holding_time is HoldingTime.LAST_MARK
    rules["extreme_excursions"] = switches.excursions is Excursions.EXTREMES
    return rules


def effective_config(
    request: BacktestRequest, decisions: DecisionRules, switches: Switches
) -> dict[str, object]:
    """Returns everything that was chosen, every default filled in, as plain data for the result."""
    named = {name: getattr(value, "value", value) for name, value in asdict(switches).items()}
    return {
        "symbol": request.symbol,
        "timeframe": request.timeframe,
        "first_bar_ns": request.first_bar_ns(),
        "last_bar_ns": request.last_bar_ns(),
        "initial_cash": request.initial_cash,
        "commission_rate": request.commission_rate,
        "slippage_rate": request.slippage_rate,
        "sizing": _sizing(request.sizing),
        "lot_size": request.lot_size,
        "exits": request.exits.model_dump(),
        "costs": request.costs.model_dump(),
        "margin": request.margin.model_dump(),
        "profile": request.profile,
        "switches": named,
        "decisions": asdict(decisions),
    }


def _sizing(sizing: SizingChoice) -> dict[str, float]:
    if sizing.units is not None:
        return {"units": sizing.units}
    if sizing.target_volatility is not None:
        return {
            "target_volatility": sizing.target_volatility,
            "volatility_period": sizing.volatility_period,
        }
    return {"fraction": sizing.cash_fraction}
