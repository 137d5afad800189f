"""Runs a portfolio: what its configuration says, on a panel and events that are already read."""

from collections.abc import Mapping
from typing import Any

from backlane.backtest.portfolio_config import PortfolioConfig, not_valid, parse_record
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_simulator import simulate_portfolio
from backlane.backtest.portfolio_strategies import check_strategy, decide_targets
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.panel.events import Events
from backlane.panel.panel import Panel


def parse_portfolio_config(content: object) -> PortfolioConfig:
    """Builds a configuration from plain data, and checks the strategy's parameters with it.

    Raises InvalidRequestError with one violation for each mistake, wherever it is.
    """
    violations = _strategy_mistakes(content)
    try:
        config = parse_record(PortfolioConfig, content)
    except InvalidRequestError as error:
        raise not_valid((*error.violations, *violations)) from None
    if violations:
        raise not_valid(violations)
    return config


def _strategy_mistakes(content: object) -> tuple[FieldViolation, ...]:
    """Returns what is wrong with the strategy, where its section can be read at all."""
    strategy, data = _section(content, "strategy"), _section(content, "data")
    name, parameters = strategy.get("name"), strategy.get("parameters", {})
    if not (isinstance(name, str) and name and isinstance(parameters, dict)):
        return ()
    events = data.get("events", {})
    sources = tuple(events) if isinstance(events, dict) else ()
    try:
        check_strategy(name, parameters, sources)
    except InvalidRequestError as error:
        return error.violations
    return ()


def _section(content: object, name: str) -> Mapping[str, Any]:
    section = content.get(name) if isinstance(content, dict) else None
    return section if isinstance(section, dict) else {}


def run_portfolio(
    config: PortfolioConfig, panel: Panel, events: Mapping[str, Events]
) -> PortfolioRun:
    """Returns what the strategy of the configuration gave, from the first bar to the last.

    `events` are those of `config.data.events`, by source. Raises InvalidRequestError for a
    strategy that is not known, parameters that it does not take, or events that it lacks.
    """
    return simulate_portfolio(
        panel,
        decide_targets(config.strategy, panel, events),
        initial_cash=config.initial_cash,
        costs=config.costs.linear,
        fill=config.fill,
        compounding=config.compounding,
    )
