"""The strategies that a configuration can name, and what each makes of a panel and events."""

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.config_record import ConfigRecord, not_valid, parse_record
from backlane.cycle.strategy import (
    Features,
    Registry,
    StrategyInput,
    Targets,
    TargetStrategy,
)
from backlane.cycle.strategy_parameters import (
    EventConfig,
    MultifactorConfig,
    Sides,
    TrendConfig,
)
from backlane.cycle.trigger_rules import TRIGGER_RULES
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.panel.events import Events
from backlane.panel.panel import Panel
from backlane.signals.event_insider_shipping import (
    INSIDER_COLUMN,
    SHIPPING_COLUMN,
    event_insider_shipping,
)
from backlane.signals.factors import FACTORS
from backlane.signals.multifactor import factor_scores, long_short_flags
from backlane.signals.rebalance import rebalance_bars
from backlane.signals.signal import Signals
from backlane.signals.target_weights import long_short_weights, long_weights, only_at
from backlane.signals.trend_baseline import trend_baseline


def check_strategy(
    name: str,
    parameters: Mapping[str, Any],
    sources: tuple[str, ...],
    registry: Registry,
    root: str = "strategy",
) -> ConfigRecord:
    """Returns the parameters of a strategy, before any data is read.

    Raises InvalidRequestError, naming every field at fault below `root`, for a strategy that is not
    in the registry, parameters that it does not take, and sources of events that it lacks.
    """
    if name not in registry:
        close = get_close_matches(name, registry, n=1)
        hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(registry)}"
        raise not_valid((FieldViolation(f"{root}.name", f"{name[:80]!r} is no strategy; {hint}"),))
    strategy = registry[name]
    violations = [
        FieldViolation(f"data.events.{source}", f"is missing: {name} reads {source} events")
        for source in strategy.sources
        if source not in sources
    ]
    try:
        record = parse_record(strategy.parameters, parameters, f"{root}.parameters")
    except InvalidRequestError as error:
        raise not_valid((*error.violations, *violations)) from None
    if violations:
        raise not_valid(tuple(violations))
    return record


def _targets(panel: Panel, signals: Signals, weights: NDArray[np.float64]) -> Targets:
    """Makes targets of signals; an instrument without a bar is not decided about, and kept."""
    decided = np.where(np.isnan(panel.close), np.nan, weights)
    return Targets(signals.direction, signals.score, decided)


def _decide_trend(data: StrategyInput, parameters: TrendConfig) -> Targets:
    panel = data.panel
    signals = trend_baseline(panel, parameters.trend)
    weights = long_weights(signals, top_n=parameters.top_n, equal=parameters.equal_weight)
    return _targets(panel, signals, weights)


def _decide_events(data: StrategyInput, parameters: EventConfig) -> Targets:
    panel, events = data.panel, data.events
    insider, shipping = events["insider"], events["shipping"]
    for source, column in (("insider", INSIDER_COLUMN), ("shipping", SHIPPING_COLUMN)):
        if column not in events[source].values:
            message = f"has no column {column} of numbers"
            raise not_valid((FieldViolation(f"data.events.{source}", message),))
    signals = event_insider_shipping(panel, insider, shipping, parameters.for_signals())
    if parameters.sides is Sides.LONG_ONLY:
        return _targets(panel, signals, long_weights(signals))
    count = np.abs(signals.direction).sum(axis=1, keepdims=True)
    return _targets(panel, signals, signals.direction / np.maximum(count, 1))


def _factors(panel: Panel, _: Mapping[str, Events], parameters: MultifactorConfig) -> Features:
    return {each.name: FACTORS[each.name](panel) for each in parameters.bundle().factors}


def _decide_multifactor(data: StrategyInput, parameters: MultifactorConfig) -> Targets:
    panel, bundle = data.panel, parameters.bundle()
    scores = factor_scores(bundle, data.features, ~np.isnan(panel.close)).score
    direction = long_short_flags(scores, parameters.top_quantile, parameters.bottom_quantile)
    gross = np.full(len(panel), parameters.gross_exposure)
    net = np.full(len(panel), parameters.net_exposure)
    is_decided = rebalance_bars(panel.time_ns, parameters.rebalance, parameters.rebalance_rule)
    weights = only_at(long_short_weights(direction, gross, net), is_decided)
    return _targets(panel, Signals(direction, scores), weights)


BUILT_IN: Registry = MappingProxyType(
    {
        "trend_baseline": TargetStrategy(TrendConfig, _decide_trend),
        "event_insider_shipping": TargetStrategy(
            EventConfig, _decide_events, ("insider", "shipping")
        ),
        "multifactor_long_short": TargetStrategy(
            MultifactorConfig, _decide_multifactor, features=_factors
        ),
        "trigger_rules": TRIGGER_RULES,
    }
)
"""The strategies that come with Backlane, by their names."""
