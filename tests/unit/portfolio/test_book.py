"""The book of many instruments, and runs on it that can be redone by hand."""

import numpy as np
import pytest
from numpy.typing import NDArray

from backlane.backtest.portfolio_metrics import periods_per_year, portfolio_metrics
from backlane.backtest.portfolio_result import PortfolioRun, Targets
from backlane.backtest.portfolio_simulator import FillTime, replay_orders, simulate_portfolio
from backlane.execution.cost_model import CostModel
from backlane.execution.target_orders import BookOrderOutcome
from backlane.panel.panel import Panel
from backlane.portfolio.book import apply_book_fill, book_equity, new_book, note_closes
from backlane.portfolio.book_records import BOOK_FILL_DTYPE, BOOK_ORDER_DTYPE
from backlane.portfolio.round_trips import round_trips

DAY_NS = 86_400_000_000_000
NAN = np.nan


def panel_of(opens: list[list[float]], closes: list[list[float]]) -> Panel:
    opened, close = np.array(opens), np.array(closes)
    time_ns = np.arange(len(close)) * DAY_NS
    symbols = tuple("ABC"[: close.shape[1]])
    return Panel(symbols, time_ns, time_ns, opened, close, close, close, None)


def simulate(
    panel: Panel, weights: list[list[float]], *, bps: float = 0.0, **mode: object
) -> PortfolioRun:
    grid: NDArray[np.float64] = np.array(weights)
    targets = Targets(np.sign(np.nan_to_num(grid)).astype(np.int8), grid, grid)
    return simulate_portfolio(
        panel,
        targets,
        initial_cash=1_000.0,
        costs=CostModel.linear(commission_bps=bps),
        **mode,  # type: ignore[arg-type]
    )


def test_a_fill_moves_cash_by_its_value_and_its_cost() -> None:
    book = new_book(2, 1_000.0, 0)
    apply_book_fill(book.cash, book.quantity, 1, 10.0, 20.0, 0.5)
    assert (book.cash[0], book.quantity.tolist()) == (799.5, [0.0, 10.0])
    apply_book_fill(book.cash, book.quantity, 1, -10.0, 22.0, 0.5)
    assert (book.cash[0], book.quantity.tolist()) == (1_019.0, [0.0, 0.0])


def test_equity_takes_the_last_close_known() -> None:
    book = new_book(2, 100.0, 0)
    apply_book_fill(book.cash, book.quantity, 0, 2.0, 10.0, 0.0)
    note_closes(book.last_close, np.array([11.0, NAN]))
    note_closes(book.last_close, np.array([NAN, 5.0]))
    assert book_equity(book.cash, book.quantity, book.last_close) == 80.0 + 22.0


def test_a_decision_fills_at_the_next_open() -> None:
    panel = panel_of([[10.0], [12.0], [20.0]], [[10.0], [15.0], [20.0]])
    run = simulate(panel, [[0.5], [NAN], [NAN]], bps=100.0)
    # 500 at 10 are 50 units; at the open of 12 they take 600 and 1 % of it
    assert run.cash.tolist() == [1_000.0, 394.0, 394.0]
    assert run.equity.tolist() == [1_000.0, 394.0 + 750.0, 394.0 + 1_000.0]
    assert run.fills["cost"].tolist() == [6.0]


def test_a_decision_fills_at_this_close() -> None:
    panel = panel_of([[10.0], [12.0]], [[10.0], [15.0]])
    run = simulate(panel, [[0.5], [0.0]], fill=FillTime.THIS_CLOSE)
    assert run.equity.tolist() == [1_000.0, 1_250.0]
    assert run.cash.tolist() == [500.0, 1_250.0]
    assert run.trades["gross_pnl"].tolist() == [250.0]


def test_capital_compounds_or_stays() -> None:
    panel = panel_of([[10.0]] * 3, [[10.0], [20.0], [20.0]])
    weights = [[1.0], [1.0], [NAN]]
    grown = simulate(panel, weights, fill=FillTime.THIS_CLOSE)
    constant = simulate(panel, weights, fill=FillTime.THIS_CLOSE, compounding=False)
    # 100 units double: all of 2,000 is 100 units at 20; of the 1,000 at the start it is 50
    assert grown.quantity.tolist() == [100.0]
    assert constant.quantity.tolist() == [50.0]


def test_no_decision_keeps_and_flat_closes() -> None:
    panel = panel_of([[10.0]] * 3, [[10.0]] * 3)
    kept = simulate(panel, [[0.5], [NAN], [NAN]], fill=FillTime.THIS_CLOSE)
    closed = simulate(panel, [[0.5], [NAN], [0.0]], fill=FillTime.THIS_CLOSE)
    assert kept.quantity.tolist() == [50.0]
    assert closed.quantity.tolist() == [0.0]


def test_an_order_without_a_price_expires() -> None:
    panel = panel_of([[10.0], [NAN], [10.0]], [[10.0], [NAN], [10.0]])
    run = simulate(panel, [[0.5], [NAN], [0.5]])
    assert run.orders["outcome"].tolist() == [
        BookOrderOutcome.NO_PRICE,
        BookOrderOutcome.END_OF_DATA,
    ]
    assert run.equity.tolist() == [1_000.0] * 3


def test_a_delisted_instrument_keeps_its_last_price_and_is_named() -> None:
    panel = panel_of([[10.0, 5.0], [10.0, 5.0], [NAN, 5.0]], [[10.0, 5.0], [12.0, 5.0], [NAN, 5.0]])
    run = simulate(panel, [[0.5, 0.0], [NAN, NAN], [0.0, NAN]], fill=FillTime.THIS_CLOSE)
    assert run.equity.tolist() == [1_000.0, 1_100.0, 1_100.0]
    assert run.stale_symbols() == ("A",)
    assert run.orders["outcome"].tolist() == [BookOrderOutcome.FILLED, BookOrderOutcome.NO_PRICE]
    assert run.trades["is_open"].tolist() == [1]


def test_a_ruined_book_closes() -> None:
    panel = panel_of([[10.0], [10.0], [40.0]], [[10.0], [40.0], [40.0]])
    run = simulate(panel, [[-1.0], [-1.0], [NAN]])
    # short 100 units at 10: at 40 it owes 4,000 with 2,000 in cash
    assert run.equity[1] == -2_000.0
    assert run.quantity.tolist() == [0.0]


def test_records_grow() -> None:
    bars = 1_500
    panel = panel_of([[10.0]] * bars, [[10.0]] * bars)
    weights = [[0.5], [0.0]] * (bars // 2)
    run = simulate(panel, weights, fill=FillTime.THIS_CLOSE)
    assert len(run.orders) == len(run.fills) == bars
    assert len(run.trades) == bars // 2


def test_weights_must_fit_the_panel() -> None:
    panel = panel_of([[10.0]], [[10.0]])
    with pytest.raises(ValueError, match="shape"):
        simulate(panel, [[0.5, 0.5]])
    with pytest.raises(ValueError, match="infinite"):
        simulate(panel, [[np.inf]])


def test_recorded_orders_fill_at_their_own_price() -> None:
    panel = panel_of([[10.0], [10.0]], [[10.0], [11.0]])
    orders = np.zeros(1, BOOK_ORDER_DTYPE)
    orders["quantity"], orders["price"] = 10.0, 9.0
    run = replay_orders(panel, orders, initial_cash=100.0)
    assert run.equity.tolist() == [110.0, 120.0]


def fills_of(*fills: tuple[float, float, float]) -> NDArray[np.void]:
    records = np.zeros(len(fills), BOOK_FILL_DTYPE)
    for at, (quantity, price, cost) in enumerate(fills):
        records[at]["time_index"] = at
        records[at]["quantity"], records[at]["price"], records[at]["cost"] = quantity, price, cost
    return records


def test_a_trade_lasts_from_flat_to_flat() -> None:
    fills = fills_of((10.0, 10.0, 1.0), (10.0, 20.0, 1.0), (-5.0, 30.0, 1.0), (-15.0, 20.0, 1.0))
    trades = round_trips(fills, np.array([20.0]), 3)
    assert len(trades) == 1
    trade = trades[0]
    assert (trade["quantity"], trade["entry_price"], trade["exit_price"]) == (20.0, 15.0, 22.5)
    assert (trade["gross_pnl"], trade["cost"], trade["net_pnl"]) == (150.0, 4.0, 146.0)
    assert (trade["entry_index"], trade["exit_index"], trade["is_open"]) == (0, 3, 0)


def test_turning_around_ends_one_trade_and_begins_another() -> None:
    fills = fills_of((10.0, 10.0, 0.0), (-30.0, 12.0, 3.0))
    trades = round_trips(fills, np.array([11.0]), 5)
    assert trades["side"].tolist() == [1, -1]
    assert trades["gross_pnl"].tolist() == [20.0, 20.0]
    assert trades["cost"].tolist() == [1.0, 2.0]
    assert trades["is_open"].tolist() == [0, 1]
    assert trades["exit_index"].tolist() == [1, 5]


def test_metrics_by_hand() -> None:
    metrics = portfolio_metrics(np.array([100.0, 110.0, 99.0]), 2.0, traded_notional=206.0)
    assert metrics["total_return"] == pytest.approx(-0.01)
    assert metrics["annualized_return"] == pytest.approx(-0.01)
    assert metrics["max_drawdown"] == pytest.approx(0.1)
    assert metrics["max_drawdown_money"] == pytest.approx(11.0)
    assert metrics["current_drawdown"] == pytest.approx(0.1)
    assert metrics["mean_return"] == pytest.approx(0.0)
    # r = (0.1, -0.1): deviation sqrt(0.02), times sqrt(2)
    assert metrics["volatility"] == pytest.approx(0.2)
    assert metrics["sortino_ratio"] is None
    # 206 of a mean of 103 in one and a half years
    assert metrics["turnover"] == pytest.approx(206.0 / 103.0 / 1.5)


def test_constant_growth_has_no_sharpe_ratio() -> None:
    metrics = portfolio_metrics(100.0 * 1.001 ** np.arange(300), 252.0)
    assert metrics["sharpe_ratio"] is None
    assert metrics["max_drawdown"] == 0.0


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([4, 5, 6, 7, 8, 11], 252.0),  # Monday to Monday
        ([4, 5, 6, 7, 8, 9, 10], 365.0),
        ([4, 11, 18], 365.0 / 7.0),
        ([4], 252.0),
    ],
)
def test_periods_of_a_year(days: list[int], expected: float) -> None:
    # 1970-01-05 was a Monday; day 4 counted from the first is the fifth
    time_ns = np.array(days) * DAY_NS
    assert periods_per_year(time_ns) == expected


def test_hours_of_trading_days_count() -> None:
    hours = np.array([4 * 24 + 15, 4 * 24 + 16, 5 * 24 + 15, 5 * 24 + 16]) * (DAY_NS // 24)
    assert periods_per_year(hours) == 504.0
