"""The strategies that a configuration can name, and what each makes of a panel and events."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.portfolio_config import (
    ConfigRecord,
    StrategyConfig,
    not_valid,
    parse_record,
)
from backlane.backtest.portfolio_parameters import (
    EventConfig,
    MultifactorConfig,
    Sides,
    TrendConfig,
)
from backlane.backtest.portfolio_result import Targets
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


@dataclass(frozen=True, slots=True)
class StrategyEntry:
    """A strategy: its parameters, the sources of events that it needs, and what decides."""

    parameters: type[ConfigRecord]
    sources: tuple[str, ...]
    decide: Callable[[Panel, Mapping[str, Events], Any], Targets]


def decide_targets(strategy: StrategyConfig, panel: Panel, events: Mapping[str, Events]) -> Targets:
    """Returns what the named strategy decides at every bar.

    Raises InvalidRequestError, naming the field, for a strategy that is not known, parameters that
    it does not take, and sources of events that it needs and are not there.
    """
    parameters = check_strategy(strategy.name, strategy.parameters, tuple(events))
    return STRATEGIES[strategy.name].decide(panel, events, parameters)


def check_strategy(
    name: str, parameters: Mapping[str, Any], sources: tuple[str, ...]
) -> ConfigRecord:
    """Returns the parameters of a strategy; raises as `decide_targets` does, before any data."""
    if name not in STRATEGIES:
        close = get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"they are {', '.join(STRATEGIES)}"
        raise not_valid((FieldViolation("strategy.name", f"{name[:80]!r} is no strategy; {hint}"),))
    entry = STRATEGIES[name]
    violations = [
        FieldViolation(f"data.events.{source}", f"is missing: {name} reads {source} events")
        for source in entry.sources
        if source not in sources
    ]
    try:
        record = parse_record(entry.parameters, parameters, "strategy.parameters")
    except InvalidRequestError as error:
        raise not_valid((*error.violations, *violations)) from None
    if violations:
        raise not_valid(tuple(violations))
    return record


def _targets(panel: Panel, signals: Signals, weights: NDArray[np.float64]) -> Targets:
    """Makes targets of signals; an instrument without a bar is not decided about, and kept."""
    decided = np.where(np.isnan(panel.close), np.nan, weights)
    return Targets(signals.direction, signals.score, decided)


def _decide_trend(panel: Panel, _: Mapping[str, Events], parameters: TrendConfig) -> Targets:
    signals = trend_baseline(panel, parameters.trend)
    weights = long_weights(signals, top_n=parameters.top_n, equal=parameters.equal_weight)
    return _targets(panel, signals, weights)


def _decide_events(panel: Panel, events: Mapping[str, Events], parameters: EventConfig) -> Targets:
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


def _decide_multifactor(
    panel: Panel, _: Mapping[str, Events], parameters: MultifactorConfig
) -> Targets:
    bundle = parameters.bundle()
    factors = {each.name: FACTORS[each.name](panel) for each in bundle.factors}
    scores = factor_scores(bundle, factors, ~np.isnan(panel.close)).score
    direction = long_short_flags(scores, parameters.top_quantile, parameters.bottom_quantile)
    gross = np.full(len(panel), parameters.gross_exposure)
    net = np.full(len(panel), parameters.net_exposure)
    is_decided = rebalance_bars(panel.time_ns, parameters.rebalance, parameters.rebalance_rule)
    weights = only_at(long_short_weights(direction, gross, net), is_decided)
    return _targets(panel, Signals(direction, scores), weights)


STRATEGIES: Mapping[str, StrategyEntry] = MappingProxyType(
    {
        "trend_baseline": StrategyEntry(TrendConfig, (), _decide_trend),
        "event_insider_shipping": StrategyEntry(
            EventConfig, ("insider", "shipping"), _decide_events
        ),
        "multifactor_long_short": StrategyEntry(MultifactorConfig, (), _decide_multifactor),
    }
)
"""Every strategy by its name."""
