"""Runs a portfolio: what its configuration says, on a panel and events that are already read."""

from collections.abc import Iterator, Mapping
from typing import Any

from backlane.backtest.meta_model import trusted_strategy
from backlane.backtest.model_strategy import (
    ModelConfig,
    ModelRegistry,
    Predictors,
    parameters_for,
)
from backlane.backtest.portfolio_config import (
    PortfolioConfig,
    SharedStrategyConfig,
    StrategyConfig,
)
from backlane.backtest.portfolio_cycle import RunPlan, run_plan
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.request import ModelChoice
from backlane.cycle.config_record import not_valid, parse_record
from backlane.cycle.risk_config import RiskConfig, risk_plan
from backlane.cycle.strategies import BUILT_IN, check_strategy
from backlane.cycle.strategy import Registry, TargetStrategy
from backlane.cycle.strategy_stages import PlannedStrategy
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.panel.events import Events
from backlane.panel.panel import Panel


def parse_portfolio_config(content: object, registry: Registry = BUILT_IN) -> PortfolioConfig:
    """Builds a configuration from plain data, and checks strategies and limits with it.

    Raises InvalidRequestError with one violation for each mistake, wherever it is.
    """
    violations = (
        *_strategy_mistakes(content, registry),
        *_risk_mistakes(content),
        *_dead_keys(content, registry),
    )
    try:
        config = parse_record(PortfolioConfig, content)
    except InvalidRequestError as error:
        raise not_valid((*error.violations, *violations)) from None
    if violations:
        raise not_valid(violations)
    return config


def _strategy_mistakes(content: object, registry: Registry) -> Iterator[FieldViolation]:
    """Yields what is wrong with the strategies, where their sections can be read at all."""
    if not isinstance(content, Mapping):
        return
    several = content.get("strategies") or ()
    if (content.get("strategy") is None) == (not several):
        said = "is missing: name one here, or several under strategies"
        both = "stands beside strategies: name one here, or several there"
        yield FieldViolation("strategy", both if several else said)
    known = []
    for root, section in _strategy_sections(content):
        name, parameters = section.get("name"), section.get("parameters", {})
        if not (isinstance(name, str) and name and isinstance(parameters, dict)):
            continue
        events = _section(content, "data").get("events", {})
        sources = tuple(events) if isinstance(events, dict) else ()
        try:
            check_strategy(name, parameters, sources, registry, root)
        except InvalidRequestError as error:
            yield from error.violations
        if name in registry:
            known.append(isinstance(registry[name], TargetStrategy))
    if any(known) and not all(known):
        said = "some decide targets and some propose trades: run them one by one"
        yield FieldViolation("strategies", said)


def _strategy_sections(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    single, several = content.get("strategy"), content.get("strategies")
    if isinstance(single, dict):
        yield "strategy", single
    for place, section in enumerate(several if isinstance(several, list | tuple) else ()):
        if isinstance(section, dict):
            yield f"strategies.{place}", section


def _risk_mistakes(content: object) -> tuple[FieldViolation, ...]:
    """Returns what is wrong with the limits, where their section can be read at all."""
    section = _section(content, "risk")
    limits = {name: section.get(name, {}) for name in ("trades", "orders")}
    try:
        risk_plan(parse_record(RiskConfig, limits))
    except InvalidRequestError as error:
        # What does not fit the record itself is said when the whole configuration is read.
        return tuple(each for each in error.violations if each.field.startswith("risk."))
    return ()


def _dead_keys(content: object, registry: Registry) -> Iterator[FieldViolation]:
    """Yields keys that nothing would read: limits of the other kind of strategy, or of no market.

    What is no strategy of the registry is said elsewhere.
    """
    if not isinstance(content, Mapping):
        return
    named = [(root, each, each.get("name")) for root, each in _strategy_sections(content)]
    kinds = {
        isinstance(registry[name], TargetStrategy)
        for _, _, name in named
        if isinstance(name, str) and name in registry
    }
    if len(kinds) != 1:
        return
    decides_targets = kinds.pop()
    risk = _section(content, "risk")
    dead, instead = ("trades", "stops") if decides_targets else ("stops", "trades")
    if risk.get(dead):
        what = "decides targets" if decides_targets else "proposes trades"
        yield FieldViolation(f"risk.{dead}", f"is not read by what {what}: see risk.{instead}")
    for root, section, _ in named if decides_targets else ():
        for key in ("trades_per_cycle_max", "at_risk_max"):
            if section.get(key) is not None:
                yield FieldViolation(f"{root}.{key}", "is not read by what decides targets")
    if _section(risk, "stops").get("realized_volatility_max") and not risk.get("leader"):
        said = "is missing: risk.stops.realized_volatility_max asks for its volatility"
        yield FieldViolation("risk.leader", said)


def _section(content: object, name: str) -> Mapping[str, Any]:
    section = content.get(name) if isinstance(content, Mapping) else None
    return section if isinstance(section, dict) else {}


def plan_run(
    config: PortfolioConfig, sources: tuple[str, ...], registry: Registry = BUILT_IN
) -> RunPlan:
    """Returns the plan of a configuration; `sources` are those of the events that are there.

    Raises InvalidRequestError as `run_portfolio`.
    """
    chosen: tuple[StrategyConfig, ...] = config.strategies
    if config.strategy is not None:
        chosen = (config.strategy,)
    names = [each.name for each in chosen]
    planned = []
    for place, each in enumerate(chosen):
        root = "strategy" if config.strategy is not None else f"strategies.{place}"
        parameters = check_strategy(each.name, each.parameters, sources, registry, root)
        parameters = parameters_for(parameters, config.fill)
        strategy = registry[each.name]
        if config.meta_model is not None:
            strategy = trusted_strategy(strategy, config.meta_model, _models_of(registry))
        is_again = names.count(each.name) > 1
        label = f"{each.name}_{place + 1}" if is_again else each.name
        planned.append(_planned(label, each, PlannedStrategy(label, strategy, parameters)))
    return RunPlan(config, tuple(planned), config.universe, risk_plan(config.risk))


def chosen_models(plan: RunPlan) -> dict[str, ModelChoice]:
    """Returns the bundles that a plan asks, by the fields that name them."""
    found = {}
    for place, each in enumerate(plan.strategies):
        root = "strategy" if plan.config.strategy is not None else f"strategies.{place}"
        if isinstance(each.parameters, ModelConfig):
            found[f"{root}.parameters.model"] = each.parameters.model
    if plan.config.meta_model is not None:
        found["meta_model.model"] = plan.config.meta_model.model
    return found


def _models_of(registry: Registry) -> Predictors:
    if isinstance(registry, ModelRegistry):
        return registry.predictors
    raise not_valid((FieldViolation("meta_model", "no models can be asked here: use --local"),))


def _planned(label: str, config: StrategyConfig, alone: PlannedStrategy) -> PlannedStrategy:
    if not isinstance(config, SharedStrategyConfig):
        return alone
    return PlannedStrategy(
        label,
        alone.strategy,
        alone.parameters,
        config.weight,
        config.trades_per_cycle_max,
        config.at_risk_max,
    )


def run_portfolio(
    config: PortfolioConfig,
    panel: Panel,
    events: Mapping[str, Events],
    registry: Registry = BUILT_IN,
) -> PortfolioRun:
    """Returns what the strategies of the configuration gave, from the first bar to the last.

    In mode stress the panel is made worse first. `events` are those of `config.data.events`, by
    source; `registry` holds the strategies that can be named. Raises InvalidRequestError for a
    strategy that is not known, parameters that it does not take, or events that it lacks, and
    CycleFailedError for more failed cycles than allowed.
    """
    return run_plan(plan_run(config, tuple(events), registry), config.fed(panel), events)
