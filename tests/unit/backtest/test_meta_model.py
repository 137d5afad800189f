"""The section `meta_model` of a portfolio, with a real bundle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.meta_model import META_FEATURE
from backlane.backtest.model_strategy import ModelRegistry
from backlane.backtest.portfolio_cycle import compute
from backlane.backtest.portfolio_result import Targets
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.backtest.request import parse_request
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import SignalRows, StrategyInput, TradeStrategy
from backlane.cycle.strategy_parameters import TrendConfig
from backlane.errors import InvalidRequestError
from backlane.panel.panel import Panel
from backlane.signals.triggers import TriggerKind, TriggerSignal
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.model_strategies import bundle_predictors
from tests.builders import random_bars

MODELS = Path(__file__).parents[3] / "models"
BARS = {symbol: random_bars(seed, 150) for symbol, seed in (("A", 11), ("B", 12))}
TREND = {"name": "trend_baseline", "parameters": {"fast": 3, "slow": 8, "volume_filter": "none"}}


def _panel() -> Panel:
    known_ns = np.unique(np.concatenate([each.close_time_ns for each in BARS.values()]))
    grids = {
        name: np.full((len(known_ns), len(BARS)), np.nan)
        for name in ("open", "high", "low", "close", "volume")
    }
    for column, series in enumerate(BARS.values()):
        rows = np.searchsorted(known_ns, series.close_time_ns)
        for name, grid in grids.items():
            grid[rows, column] = getattr(series, name)
    return Panel(tuple(BARS), known_ns, known_ns, **grids)


def _registry(**more: Any) -> ModelRegistry:
    return ModelRegistry({**BUILT_IN, **more}, bundle_predictors(MODELS, MODELS))


def _config(**meta: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"strategy": TREND, "data": {"panel": "panel.csv"}}
    return {**content, "meta_model": {"model": "rsi_bb/1", **meta}} if meta else content


def _targets(content: dict[str, Any]) -> Targets:
    plan = plan_run(parse_portfolio_config(content, _registry()), (), _registry())
    targets = compute(plan, _panel(), {}).targets
    assert targets is not None
    return targets


def _buy_probability() -> np.ndarray[Any, Any]:
    """What the backtests of the single instruments say, where their features are known."""
    panel = _panel()
    grid = np.full(panel.close.shape, np.nan)
    request = parse_request({"model": {"name": "rsi_bb"}, "symbol": "ANY"})
    predictor = load_predictor(read_bundle(MODELS / "rsi_bb" / "1"))
    for column, series in enumerate(BARS.values()):
        run = run_backtest(request, predictor, {"1h": series}, dataset_digests={})
        rows = np.searchsorted(panel.known_ns, run.bars.close_time_ns)
        grid[rows, column] = run.scores.values[:, run.scores.names.index("p_buy")]
    return grid


def test_a_filter_keeps_longs_that_the_bundle_wants_to_buy() -> None:
    trust, plain = _buy_probability(), _targets(_config())
    least = float(np.nanmedian(trust))
    made = _targets(_config(use="filter", min_confidence=least))
    is_long = plain.direction > 0
    is_kept = is_long & (np.nan_to_num(trust, nan=-1.0) >= least)
    assert 20 < is_kept.sum() < is_long.sum() - 20
    expected = np.where(
        is_long & ~is_kept, np.where(np.isnan(plain.weights), np.nan, 0.0), plain.weights
    )
    np.testing.assert_array_equal(made.weights, expected)
    np.testing.assert_array_equal(made.direction > 0, is_kept)


def test_scaling_takes_the_probability_of_buy_up_to_a_bound() -> None:
    trust, plain = _buy_probability(), _targets(_config())
    made = _targets(_config(use="scale", max_confidence=0.4))
    share = np.nan_to_num(np.minimum(trust, 0.4))
    expected = np.where(plain.direction > 0, plain.weights * share, plain.weights)
    np.testing.assert_array_equal(made.weights, expected)


def test_a_cycle_at_each_bar_trades_the_same() -> None:
    content = _config(use="filter", min_confidence=0.3)
    compiled = run_portfolio(
        parse_portfolio_config(content, _registry()), _panel(), {}, _registry()
    )
    content["risk"] = {"stops": {"drawdown_max": 0.99}}
    cycles = run_portfolio(parse_portfolio_config(content, _registry()), _panel(), {}, _registry())
    assert len(compiled.fills) > 10
    assert compiled.fills.tobytes() == cycles.fills.tobytes()


class _EveryBar:
    def row(self, bar: int) -> tuple[TriggerSignal, ...]:
        return tuple(
            TriggerSignal(symbol, TriggerKind.BREAKOUT, 0.7, 0.8, 100.0, 0.03, 0.5)
            for symbol in BARS
        )


def _every_bar(data: StrategyInput, _: TrendConfig) -> SignalRows:
    assert META_FEATURE not in data.features
    return _EveryBar()


def test_triggers_are_filtered_too() -> None:
    registry = _registry(every_bar=TradeStrategy(TrendConfig, _every_bar, lambda *_: ()))
    content = {**_config(use="filter", min_confidence=0.3), "strategy": {"name": "every_bar"}}
    plan = plan_run(parse_portfolio_config(content, registry), (), registry)
    (planned,) = plan.strategies
    assert isinstance(planned.strategy, TradeStrategy)
    panel = _panel()
    features = planned.strategy.features(panel, {}, planned.parameters)
    rows = planned.strategy.signals(StrategyInput(panel, {}, features), planned.parameters)
    trust = _buy_probability()
    seen = set()
    for bar in range(len(panel)):
        kept = [each.symbol for each in rows.row(bar)]
        assert kept == [each for each, one in zip(BARS, trust[bar], strict=True) if one >= 0.3]
        seen.add(len(kept))
    assert seen == {0, 1, 2}


def test_without_models_it_is_refused() -> None:
    parsed = parse_portfolio_config(_config(use="filter"))
    with pytest.raises(InvalidRequestError, match="meta_model: no models can be asked here"):
        plan_run(parsed, ())


def test_a_bundle_of_two_timeframes_is_refused_by_its_field() -> None:
    content = _config(use="filter")
    content["meta_model"]["model"] = "mtf_rsi_bb"
    with pytest.raises(InvalidRequestError, match="one timeframe") as caught:
        _targets(content)
    assert caught.value.violations[0].field == "meta_model.model"


def test_mistakes_of_the_section_are_named() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_portfolio_config(_config(use="mix", min_confidence=2))
    assert {each.field for each in caught.value.violations} >= {
        "meta_model.use",
        "meta_model.min_confidence",
    }
