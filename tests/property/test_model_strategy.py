"""The strategy `model` on one instrument is the backtest of one instrument."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.backtest.engine import run_backtest
from backlane.backtest.model_strategy import ModelRegistry
from backlane.backtest.portfolio_cycle import compute
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.backtest.portfolio_run import parse_portfolio_config, plan_run, run_portfolio
from backlane.backtest.request import parse_request
from backlane.backtest.result import BacktestRun
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import Registry
from backlane.errors import InvalidRequestError
from backlane.execution.order import ExitReason
from backlane.market.bars import BarSeries
from backlane.panel.panel import Panel
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.sources.model_strategies import bundle_predictors
from tests.builders import random_bars

MODELS = Path(__file__).parents[2] / "models"
BUNDLE = str(MODELS / "rsi_bb" / "1")
ROUNDING = 1e-12
"""Both add the same amounts in another order: the engine moves collateral, the book proceeds."""


@cache
def registry() -> Registry:
    return ModelRegistry(BUILT_IN, bundle_predictors(MODELS, MODELS))


def panel_of(*several: BarSeries, names: tuple[str, ...] = ("TEST",)) -> Panel:
    """Returns bars as a panel, which is stamped with their closes."""
    known_ns = np.unique(np.concatenate([each.close_time_ns for each in several]))
    grids = {
        name: np.full((len(known_ns), len(several)), np.nan)
        for name in ("open", "high", "low", "close", "volume")
    }
    for column, series in enumerate(several):
        rows = np.searchsorted(known_ns, series.close_time_ns)
        for name, grid in grids.items():
            grid[rows, column] = getattr(series, name)
    return Panel(names, known_ns, known_ns, **grids)


def single(bars: BarSeries, case: dict[str, Any]) -> BacktestRun:
    request = parse_request(
        {
            "model": {"path": BUNDLE},
            "symbol": "TEST",
            "commission_rate": case["commission"],
            "slippage_rate": case["slippage"],
            "sizing": {"fraction": case["fraction"]},
            "lot_size": case["lot"],
            "decisions": case["decisions"],
            "switches": {
                "fill": case["fill"],
                "shorts": case["shorts"],
                "forced_close_in_equity": False,
            },
        }
    )
    predictor = load_predictor(read_bundle(Path(BUNDLE)))
    return run_backtest(request, predictor, {"1h": bars}, dataset_digests={"1h": "sha256:0"})


def config_of(case: dict[str, Any]) -> dict[str, Any]:
    execution: dict[str, Any] = {"lot_size": case["lot"]}
    if case["fill"] == "next_open":
        execution["sized_at"] = "open"
    return {
        "strategy": {
            "name": "model",
            "parameters": {
                "model": {"path": BUNDLE},
                "fraction": case["fraction"] / (1.0 + case["commission"]),
                "decisions": case["decisions"],
                "shorts": case["shorts"],
            },
        },
        "data": {"panel": "panel.csv"},
        "initial_cash": 100_000,
        "fill": case["fill"],
        "execution": execution,
        "costs": {
            "commission_bps": case["commission"] * 1e4,
            "half_spread_bps": case["slippage"] * 1e4,
        },
    }


def portfolio(panel: Panel, case: dict[str, Any]) -> PortfolioRun:
    config = parse_portfolio_config(config_of(case), registry())
    return run_portfolio(config, panel, {}, registry())


def cases() -> st.SearchStrategy[dict[str, Any]]:
    # With both, the engine charges commission on the price after slippage: the product of the two
    # rates, which docs/portfolio.md states. So one of them is 0 here.
    costs = st.sampled_from([(0.001, 0.0), (0.0, 0.0005), (0.0, 0.0)])
    return st.builds(
        # All of the cash and slippage: the engine cuts the order, the book borrows.
        lambda cost, fraction, **rest: {
            "commission": cost[0],
            "slippage": cost[1],
            "fraction": min(fraction, 0.9) if cost[1] else fraction,
            **rest,
        },
        cost=costs,
        fraction=st.sampled_from([0.25, 0.9, 1.0]),
        lot=st.sampled_from([1.0, 100.0, 0.5]),
        fill=st.sampled_from(["next_open", "this_close"]),
        shorts=st.booleans(),
        decisions=st.fixed_dictionaries(
            {
                "confidence_threshold": st.sampled_from([0.0, 0.4, 0.5]),
                "position_awareness": st.booleans(),
                "allow_short_from_flat": st.booleans(),
                "filters": st.fixed_dictionaries(
                    {"min_signal_separation": st.sampled_from([0.0, 4.0, 30.0])}
                ),
            }
        ),
    )


def near(found: Any, expected: Any) -> None:
    """A profit near zero is a difference of large amounts: a millionth of money is no matter."""
    np.testing.assert_allclose(found, expected, rtol=ROUNDING, atol=1e-6)


def assert_equal(one: BacktestRun, book: PortfolioRun, case: dict[str, Any]) -> None:
    first = len(book.panel) - len(one.equity)
    assert (book.equity[:first] == 100_000.0).all()
    np.testing.assert_allclose(book.equity[first:], one.equity, rtol=ROUNDING)
    ends = one.trades["exit_reason"][-1:]
    is_forced = int((ends == ExitReason.END_OF_DATA).sum())
    fills = one.fills[:-1] if is_forced else one.fills
    np.testing.assert_array_equal(book.fills["time_index"] - first, fills["bar_index"])
    signed = np.where(fills["is_buy"] != 0, fills["quantity"], -fills["quantity"])
    np.testing.assert_array_equal(book.fills["quantity"], signed)
    np.testing.assert_array_equal(book.fills["price"], fills["reference_price"])
    slipped = np.abs(fills["price"] - fills["reference_price"]) * fills["quantity"]
    paid = fills["commission"] + slipped
    np.testing.assert_allclose(book.fills["cost"], paid, rtol=ROUNDING)
    assert len(book.trades) == len(one.trades)
    assert book.trades["is_open"].tolist() == [0] * (len(one.trades) - is_forced) + [1] * is_forced
    closed = book.trades[book.trades["is_open"] == 0]
    ended = one.trades[: len(one.trades) - is_forced]
    for name in ("entry_index", "exit_index"):
        np.testing.assert_array_equal(closed[name] - first, ended[name])
    np.testing.assert_array_equal(closed["side"], ended["side"])
    np.testing.assert_array_equal(closed["quantity"], ended["quantity"])
    if case["slippage"] == 0.0:
        near(closed["gross_pnl"], ended["gross_pnl"])
    near(closed["net_pnl"], ended["net_pnl"])


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(case=cases(), seed=st.integers(0, 10_000))
def test_one_instrument_is_the_backtest_of_one_instrument(case: dict[str, Any], seed: int) -> None:
    bars = random_bars(seed, 300)
    book = portfolio(panel_of(bars), case)
    assert_equal(single(bars, case), book, case)


def test_both_costs_differ_by_their_product() -> None:
    case = {**CASE, "slippage": 0.0005}
    bars = random_bars(7, 300)
    one, book = single(bars, case), portfolio(panel_of(bars), case)
    first = len(book.panel) - len(one.equity)
    held = one.fills[: len(book.fills)]
    assert len(held) > 10
    np.testing.assert_array_equal(book.fills["time_index"] - first, held["bar_index"])
    # Equity, and so the units of later fills, may differ by what the fills before differ in.
    product = case["commission"] * case["slippage"] * held["quantity"] * held["reference_price"]
    paid = held["commission"] + np.abs(held["price"] - held["reference_price"]) * held["quantity"]
    np.testing.assert_allclose(np.abs(book.fills["cost"] - paid), product, rtol=0.01)


def driven(config: dict[str, Any], panel: Panel) -> PortfolioRun:
    """Runs a cycle at every bar: there is a limit, though it is never reached."""
    content = {**config, "risk": {"stops": {"drawdown_max": 0.99}}}
    parsed = parse_portfolio_config(content, registry())
    assert not plan_run(parsed, (), registry()).is_compiled
    return run_portfolio(parsed, panel, {}, registry())


CASE: dict[str, Any] = {
    "commission": 0.001,
    "slippage": 0.0,
    "fraction": 0.25,
    "lot": 1.0,
    "fill": "next_open",
    "shorts": True,
    "decisions": {"confidence_threshold": 0.4, "allow_short_from_flat": True},
}


def three() -> Panel:
    several = [random_bars(seed, 200) for seed in (1, 2, 3)]
    return panel_of(*several, names=("A", "B", "C"))


@pytest.mark.parametrize("fill", ["next_open", "this_close"])
def test_a_cycle_at_each_bar_gives_what_the_compiled_run_gives(fill: str) -> None:
    case = {**CASE, "fill": fill}
    compiled, cycles = portfolio(three(), case), driven(config_of(case), three())
    assert len(compiled.fills) > 20
    assert {int(each) for each in compiled.fills["symbol"]} == {0, 1, 2}
    assert compiled.fills.tobytes() == cycles.fills.tobytes()
    assert compiled.equity.tobytes() == cycles.equity.tobytes()


def test_a_panel_that_is_cut_says_the_same_at_its_last_bar() -> None:
    whole = three()
    plan = plan_run(parse_portfolio_config(config_of(CASE), registry()), (), registry())
    targets = compute(plan, whole, {}).targets
    assert targets is not None
    for stop in (1, 15, 60, 61, 130, len(whole) - 1):
        cut = compute(plan, whole.until(int(whole.known_ns[stop - 1])), {}).targets
        assert cut is not None
        np.testing.assert_array_equal(cut.weights, targets.weights[:stop])


@pytest.mark.parametrize(("hours", "said"), [(2, "7,200 s apart"), (0.5, "1,800 s apart")])
def test_bars_of_another_length_are_refused(hours: float, said: str) -> None:
    bars = random_bars(1, 100)
    known_ns = bars.open_time_ns[0] + (np.arange(100) * hours * 3600e9).astype(np.int64)
    panel = Panel(
        ("A",),
        known_ns,
        known_ns,
        *(values[:, None] for values in (bars.open, bars.high, bars.low, bars.close, bars.volume)),
    )
    with pytest.raises(InvalidRequestError, match=said) as caught:
        portfolio(panel, CASE)
    assert caught.value.violations[0].field == "strategy.parameters.model"


def test_a_bundle_of_two_timeframes_is_refused() -> None:
    config = config_of(CASE)
    config["strategy"]["parameters"]["model"] = "mtf_rsi_bb/1"
    parsed = parse_portfolio_config(config, registry())
    with pytest.raises(InvalidRequestError, match="one timeframe"):
        run_portfolio(parsed, three(), {}, registry())
