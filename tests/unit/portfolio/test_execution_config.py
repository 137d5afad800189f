"""What a configuration says about costs, execution and margin, and what a run makes of it."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from backlane.backtest.execution_config import (
    CostsConfig,
    ExecutionConfig,
    MarginConfig,
    book_rules,
)
from backlane.backtest.portfolio_bars import (
    Delisting,
    ExchangeSession,
    book_bars,
    open_bars,
)
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.backtest.portfolio_simulator import simulate_portfolio
from backlane.cycle.config_record import parse_record
from backlane.errors import InvalidRequestError
from backlane.execution.cost_model import CostModel
from backlane.panel.panel import Panel
from backlane.portfolio.book_rules import BookRules, Bracket, VolumeRules
from backlane.sources.portfolio_costs import costs_document
from backlane.sources.portfolio_results import portfolio_tables

REPOSITORY = Path(__file__).parents[3]
DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000
NO_EXECUTION, NO_MARGIN = ExecutionConfig(), MarginConfig()


def rules_of(
    costs: dict[str, Any] | None = None,
    execution: dict[str, Any] | None = None,
    margin: dict[str, Any] | None = None,
) -> BookRules:
    return book_rules(
        parse_record(CostsConfig, costs or {}),
        parse_record(ExecutionConfig, execution or {}),
        parse_record(MarginConfig, margin or {}),
        fills_this_close=False,
    )


def test_the_default_is_plain_and_free():
    assert rules_of() == BookRules()
    assert rules_of().is_plain


def test_linear_costs_stay_plain():
    rules = rules_of({"commission_bps": 1.0, "half_spread_bps": 2.5, "impact_bps": 5.0})
    assert rules.is_plain
    assert rules.costs == CostModel.linear(1.0, 2.5, 5.0)
    # the sum of SPEC B9, in its order
    assert rules.record()["cost_rate"][0] == (1.0 + 2.5 + 5.0) / 1e4


@pytest.mark.parametrize(
    "sections",
    [
        {"costs": {"commission_fixed": 1.0}},
        {"costs": {"commission_per_unit": 0.01}},
        {"costs": {"commission_minimum": 1.0}},
        {"costs": {"spread": {"buckets": [{"volume": 1e6, "bps": 4}], "fallback_bps": 9}}},
        {"costs": {"impact": {"k": 0.5}}},
        {"costs": {"borrow_rate": 0.01}},
        {"costs": {"financing_rate": 0.05}},
        {"execution": {"expires_bars": 2}},
        {"execution": {"participation_max": 0.1}},
        {"execution": {"lot_size": 100}},
        {"execution": {"session": "nyse"}},
        {"execution": {"bracket": {"stop_loss": 0.1}}},
        {"execution": {"delistings": [{"symbol": "A", "time": "2024-01-01T00:00:00Z"}]}},
        {"margin": {"leverage": 1.0}},
    ],
    ids=str,
)
def test_every_detail_leaves_the_short_path(sections):
    assert not rules_of(**sections).is_plain


def test_sections_become_rules():
    rules = rules_of(
        {"commission_bps": 1, "commission_minimum": 2, "impact": {"k": 0.5, "max_bps": 30}},
        {
            "expires_bars": 0,
            "participation_max": 0.1,
            "participation_of": "average",
            "min_fill_quantity": 5,
            "unknown_volume_fraction": 0.5,
            "lot_size": 10,
            "bracket": {"stop_loss": 0.1, "take_profit": 0.2, "trailing_stop": 0.3},
        },
        {"leverage": 2},
    )
    assert (rules.costs.commission.bps, rules.costs.commission.minimum) == (1.0, 2.0)
    assert (rules.costs.impact.k, rules.costs.impact.max_bps) == (0.5, 30.0)
    assert rules.volume == VolumeRules(0.1, of_average=True, min_quantity=5, unknown_fraction=0.5)
    assert (rules.lot_size, rules.leverage, rules.expires_bars) == (10.0, 2.0, 0)
    assert rules.bracket == Bracket(0.1, 0.2, 0.3)


NAIVE = "2024-01-01T00:00:00"


def spread_of(*volumes: float) -> dict[str, Any]:
    return {"buckets": [{"volume": each, "bps": 1} for each in volumes], "fallback_bps": 1}


@pytest.mark.parametrize(
    ("record", "content", "said"),
    [
        (CostsConfig, {"spred": {}}, "did you mean spread?"),
        (CostsConfig, {"commission_bps": -1}, "greater than or equal to 0"),
        (CostsConfig, {"commission_fixed": True}, "True is no number"),
        (
            CostsConfig,
            {"half_spread_bps": 1, "spread": spread_of(1)},
            "stands beside spread",
        ),
        (CostsConfig, {"impact_bps": 1, "impact": {"k": 1}}, "stands beside impact"),
        (
            CostsConfig,
            {"spread": spread_of(2, 1)},
            "must grow",
        ),
        (ExecutionConfig, {"session": "nise"}, "did you mean nyse?"),
        (ExecutionConfig, {"participation_max": 0}, "greater than 0"),
        (ExecutionConfig, {"expires_bars": 1.5}, "valid integer"),
        (ExecutionConfig, {"delistings": [{"symbol": "A", "time": NAIVE}]}, "timezone"),
        (MarginConfig, {"leverage": 0}, "greater than 0"),
        (MarginConfig, {"levrage": 1}, "did you mean leverage?"),
    ],
)  # fmt: skip
def test_mistakes_are_named(record, content, said):
    with pytest.raises(InvalidRequestError, match=said.replace("?", r"\?")):
        parse_record(record, content)


def test_only_what_is_said_is_written_back():
    costs = parse_record(CostsConfig, {"commission_bps": 1.0})
    assert costs.model_dump(mode="json") == {
        "commission_bps": 1.0, "half_spread_bps": 0.0, "impact_bps": 0.0
    }  # fmt: skip
    execution = parse_record(ExecutionConfig, {"bracket": {"stop_loss": 0.1}})
    assert execution.model_dump(mode="json") == {"bracket": {"stop_loss": 0.1}}


def test_the_sections_of_the_page_are_valid():
    page = (REPOSITORY / "docs" / "portfolio.md").read_text(encoding="utf-8")
    block = next(each for each in page.split("```yaml")[1:] if "financing_rate" in each)
    sections = yaml.safe_load(block.split("```")[0])
    rules = rules_of(**sections)
    assert set(sections) == {"costs", "execution", "margin"}
    said = {**sections["costs"], **sections["execution"], **sections["margin"]}
    fields = {*CostsConfig.model_fields, *ExecutionConfig.model_fields, *MarginConfig.model_fields}
    linear = {"half_spread_bps", "impact_bps", "commission_fixed", "commission_per_unit"}
    assert fields - set(said) == linear
    assert rules.volume.participation_max == 0.05


# --- bars ---------------------------------------------------------------------------------------


def panel_of(closes: list[list[float]], first_ns: int = 0, spacing_ns: int = DAY_NS) -> Panel:
    close = np.array(closes)
    time_ns = first_ns + np.arange(len(close)) * spacing_ns
    symbols = tuple("ABC"[: close.shape[1]])
    return Panel(symbols, time_ns, time_ns, close, close, close, close, None)


def test_daily_bars_fill_on_days_with_a_session_at_any_hour():
    # Thursday 2023-12-21 on, at midnight: a weekend, and Christmas on Monday
    first = int(np.datetime64("2023-12-21", "ns").astype(np.int64))
    time_ns = first + np.arange(7) * DAY_NS
    open_days = open_bars(time_ns, ExchangeSession.NYSE).tolist()
    assert open_days == [True, True, False, False, False, True, True]
    assert open_bars(time_ns, ExchangeSession.ALWAYS).all()


def test_hours_fill_within_a_session():
    # Wednesday 2023-12-20: 14:30 to 21:00 UTC
    first = int(np.datetime64("2023-12-20T13:30", "ns").astype(np.int64))
    time_ns = first + np.arange(10) * HOUR_NS
    assert open_bars(time_ns, ExchangeSession.NYSE).tolist() == [False] + [True] * 7 + [False] * 2


def test_a_delisting_counts_from_the_first_bar_at_its_time_or_later():
    panel = panel_of([[10.0, 1.0]] * 4)
    given = [Delisting("B", 2 * DAY_NS - 5, 0.5)]
    bars = book_bars(panel, BookRules(has_delistings=True), delistings=given)
    assert bars.delisted_bar.tolist() == [-1, 2]
    assert bars.final_price[1] == 0.5


def test_a_delisting_of_an_unknown_instrument_is_refused():
    given = [Delisting("Z", 0, math.nan)]
    with pytest.raises(InvalidRequestError, match=r"delistings\.0\.symbol: 'Z' is no instrument"):
        book_bars(panel_of([[10.0]]), BookRules(has_delistings=True), delistings=given)


# --- files --------------------------------------------------------------------------------------


def run_of(rules: BookRules, closes: list[list[float]], weights: list[list[float]]) -> PortfolioRun:
    grid = np.array(weights)
    targets = Targets(np.sign(np.nan_to_num(grid)).astype(np.int8), grid, grid)
    return simulate_portfolio(panel_of(closes), targets, initial_cash=1_000.0, rules=rules)


@pytest.mark.parametrize("is_full", [False, True])
def test_the_files_say_what_orders_came_to_and_cost(is_full):
    rules = BookRules(CostModel.linear(10.0, 20.0, 20.0), takes_requests=is_full)
    run = run_of(rules, [[10.0], [10.0], [20.0], [20.0]], [[0.5], [math.nan], [0.0], [math.nan]])
    tables = portfolio_tables(run)
    orders = tables["orders.csv"].to_pydict()
    assert orders["status"] == ["filled", "filled"]
    assert orders["filled"] == [50.0, 50.0]
    assert orders["kind"] == ["market", "market"]
    assert orders["limit_price"] == [None, None]
    costs = tables["costs.csv"].to_pydict()
    # 500 and 1,000 at 10 + 20 + 20 bps
    assert costs["notional"] == [500.0, 1_000.0]
    assert costs["commission"] == pytest.approx([0.5, 1.0])
    assert costs["half_spread"] == pytest.approx([1.0, 2.0])
    assert costs["impact"] == pytest.approx([1.0, 2.0])
    assert costs["cost_bps"] == pytest.approx([50.0, 50.0])
    assert costs["gross_flow"] == pytest.approx([-500.0, 1_000.0])
    assert costs["net_flow"] == pytest.approx([-502.5, 995.0])
    document = costs_document(run)
    assert document["gross_final_equity"] == pytest.approx(1_500.0)
    assert run.final_equity == pytest.approx(1_492.5)


def test_an_order_that_filled_in_part_says_so():
    rules = BookRules(volume=VolumeRules(0.1), expires_bars=2)
    panel = panel_of([[10.0]] * 3)
    object.__setattr__(panel, "volume", np.full((3, 1), 100.0))
    grid = np.array([[0.5], [math.nan], [math.nan]])
    targets = Targets(np.sign(np.nan_to_num(grid)).astype(np.int8), grid, grid)
    run = simulate_portfolio(panel, targets, initial_cash=1_000.0, rules=rules)
    orders = portfolio_tables(run)["orders.csv"].to_pydict()
    assert (orders["outcome"], orders["status"]) == (["no_volume"], ["expired"])
    assert (orders["quantity"], orders["filled"]) == ([50.0], [20.0])


def test_what_is_held_of_a_delisted_instrument_is_named():
    rules = BookRules(has_delistings=True)
    panel = panel_of([[10.0], [10.0], [math.nan]])
    grid = np.array([[0.5], [math.nan], [math.nan]])
    targets = Targets(np.sign(np.nan_to_num(grid)).astype(np.int8), grid, grid)
    for price, held in ((math.nan, ("A",)), (4.0, ())):
        bars = book_bars(panel, rules, delistings=[Delisting("A", 2 * DAY_NS, price)])
        run = simulate_portfolio(panel, targets, initial_cash=1_000.0, rules=rules, bars=bars)
        assert run.delisted_symbols() == held
        assert run.final_equity == (1_000.0 if held else 500.0 + 200.0)
