"""The book that Python drives bar by bar is the compiled run, to the bit, wherever it is cut."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from backlane.backtest.portfolio_bars import (
    Delisting,
    ExchangeSession,
    book_bars,
    open_and_mark,
)
from backlane.backtest.portfolio_result import Targets
from backlane.backtest.portfolio_simulator import simulate_portfolio
from backlane.execution.cost_model import CommissionModel, CostModel, ImpactModel, SpreadModel
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, BookOrderOutcome
from backlane.panel.panel import Panel
from backlane.portfolio.book_full_loop import BookBars
from backlane.portfolio.book_rules import BookRules, Bracket, VolumeRules
from backlane.portfolio.portfolio_book import PortfolioBook
from tests.property.portfolio_panels import DAY_NS, panel_of, weights_of

CASH = 10_000.0
# Sums of some hundred amounts of money around 1e4 round at 1e-12 of them each.
MONEY_ATOL = 1e-6
LAW = settings(deadline=None, derandomize=True, max_examples=100)
Case = tuple[int, int, int, float]
cases = st.tuples(
    st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 4), st.sampled_from((0.0, 0.15))
)
LINEAR = CostModel.linear(1.0, 2.5, 5.0)
COMPONENTS = CostModel(
    CommissionModel(1.0, 0.1, 0.001, 0.5),
    SpreadModel(((1e4, 8.0), (1e5, 4.0)), 20.0),
    ImpactModel(0.5, 0.1, 40.0, 0.2, 6.0),
)
plain_rules = st.builds(BookRules, st.sampled_from((CostModel(), LINEAR)), st.booleans())
full_rules = st.builds(
    BookRules,
    costs=st.sampled_from((CostModel(), LINEAR, COMPONENTS)),
    fills_this_close=st.booleans(),
    expires_bars=st.sampled_from((0, 1, 3)),
    volume=st.sampled_from((VolumeRules(), VolumeRules(0.01), VolumeRules(0.02, True, 1.0, 0.5))),
    lot_size=st.sampled_from((0.0, 1.0, 10.0)),
    leverage=st.sampled_from((math.inf, 0.5, 1.0)),
    borrow_rate=st.sampled_from((0.0, 0.5)),
    financing_rate=st.sampled_from((0.0, 0.3)),
    bracket=st.sampled_from((Bracket(), Bracket(0.03, 0.05, 0.0), Bracket(0.0, 0.0, 0.04))),
    liquidity_window=st.just(3),
    takes_requests=st.just(True),
)
every_rules = st.one_of(plain_rules, full_rules)


def bars_of(panel: Panel, rules: BookRules, seed: int) -> BookBars:
    """The bars of a panel; a full book also has a delisting and days without a session."""
    if rules.is_plain:
        return book_bars(panel, rules)
    delisted = Delisting(panel.symbols[-1], (seed % 60) * DAY_NS, (20.0, math.nan)[seed % 2])
    session = (ExchangeSession.ALWAYS, ExchangeSession.NYSE)[seed % 3 == 0]
    return book_bars(panel, rules, session, [delisted])


def curves_of(panel: Panel) -> tuple[NDArray[np.float64], ...]:
    return np.empty(len(panel)), np.empty(len(panel)), np.empty(len(panel))


def compiled(
    panel: Panel, weights: NDArray[np.float64], rules: BookRules, seed: int, stops: list[int]
) -> tuple[PortfolioBook, NDArray[np.float64]]:
    """Advances the compiled loop to each of `stops` in turn, restored at each."""
    book = PortfolioBook.new(len(panel.symbols), CASH, rules)
    curves = curves_of(panel)
    bars = bars_of(panel, rules, seed)
    for stop in stops:
        book = PortfolioBook.restore(book.state(), rules)
        book.advance(bars, weights, curves, stop)  # type: ignore[arg-type]
    book.end_of_data()
    return book, curves[1]


def driven(
    panel: Panel, weights: NDArray[np.float64], rules: BookRules, seed: int, restored_at: int
) -> tuple[PortfolioBook, list[float]]:
    book = PortfolioBook.new(len(panel.symbols), CASH, rules)
    bars, equities = bars_of(panel, rules, seed), []
    for bar in range(len(panel)):
        if bar == restored_at:
            book = PortfolioBook.restore(book.state(), rules)
        open_and_mark(book, bars, bar)
        book.place_weights(bar, weights[bar])
        equities.append(book.equity)
    book.end_of_data()
    return book, equities


def assert_same(one: PortfolioBook, other: PortfolioBook) -> None:
    states = one.state(), other.state()
    assert set(states[0]) == set(states[1])
    for name, values in states[0].items():
        # NaN are equal here: the same bits.
        assert values.tobytes() == states[1][name].tobytes(), name


@LAW
@given(case=cases, rules=every_rules, at=st.integers(0, 40))
def test_bar_by_bar_and_restored_is_the_compiled_run(case: Case, rules: BookRules, at: int) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    book, equity = compiled(panel, weights, rules, case[0], [len(panel)])
    bars, equities = driven(panel, weights, rules, case[0], at)
    assert_same(book, bars)
    assert equity.tolist() == equities


@LAW
@given(case=cases, rules=every_rules, share=st.floats(0, 1))
def test_stopping_on_the_way_changes_nothing(case: Case, rules: BookRules, share: float) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    stop = int(share * len(panel))
    whole, equity = compiled(panel, weights, rules, case[0], [len(panel)])
    parts, same = compiled(panel, weights, rules, case[0], [stop, len(panel)])
    assert_same(whole, parts)
    assert equity.tobytes() == same.tobytes()


def targets_of(weights: NDArray[np.float64]) -> Targets:
    return Targets(np.sign(np.nan_to_num(weights)).astype(np.int8), weights, weights)


@LAW
@given(case=cases, rules=every_rules)
def test_money_is_conserved(case: Case, rules: BookRules) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    run = simulate_portfolio(
        panel, targets_of(weights), initial_cash=CASH, rules=rules,
        bars=bars_of(panel, rules, case[0]),
    )  # fmt: skip
    net = float(run.trades["net_pnl"].sum())
    assert run.final_equity == pytest.approx(CASH + net - run.interest, abs=MONEY_ATOL)
    moved = -float((run.fills["quantity"] * run.fills["price"]).sum()) - run.total_cost
    carried = float(run.trades["cost"].sum()) - run.total_cost
    assert run.cash[-1] == pytest.approx(CASH + moved - carried - run.interest, abs=MONEY_ATOL)
    parts = sum(part.sum() for part in run.cost_parts())
    assert parts == pytest.approx(run.total_cost, abs=MONEY_ATOL)


@LAW
@given(case=cases, rules=full_rules)
def test_only_fills_move_positions(case: Case, rules: BookRules) -> None:
    panel = panel_of(*case)
    weights = weights_of(case[0], panel.close.shape)
    run = simulate_portfolio(
        panel, targets_of(weights), initial_cash=CASH, rules=rules,
        bars=bars_of(panel, rules, case[0]),
    )  # fmt: skip
    moved = np.zeros(len(panel.symbols))
    np.add.at(moved, run.fills["symbol"], run.fills["quantity"])
    np.testing.assert_allclose(run.quantity, moved, rtol=0, atol=1e-9)
    filled = np.zeros(len(run.orders))
    np.add.at(filled, run.fills["order"], run.fills["quantity"])
    np.testing.assert_allclose(run.terms["filled_quantity"], filled, rtol=0, atol=1e-9)
    is_denied = run.orders["outcome"] >= BookOrderOutcome.DENIED_MARGIN
    assert not filled[is_denied].any()
    is_filled = run.orders["outcome"] == BookOrderOutcome.FILLED
    left = np.abs(run.orders["quantity"] - filled)
    assert (left[is_filled] <= MIN_ORDER_QUANTITY).all()
    assert (np.abs(filled) <= np.abs(run.orders["quantity"]) + MIN_ORDER_QUANTITY).all()


@LAW
@given(case=cases, rules=full_rules)
def test_going_flat_closes_everything(case: Case, rules: BookRules) -> None:
    """Lots, margin, brackets and costs stand in the way of no exit; volume alone can."""
    panel = panel_of(case[0], case[1] + 4, case[2], 0.0)
    weights = weights_of(case[0], panel.close.shape)
    weights[-2:] = 0.0
    told = replace(rules, volume=VolumeRules())
    run = simulate_portfolio(panel, targets_of(weights), initial_cash=CASH, rules=told)
    assert not run.quantity.any()
    assert not run.trades["is_open"].any()


@LAW
@given(case=cases, at_close=st.booleans())
def test_without_details_the_full_path_is_the_plain_one(case: Case, at_close: bool) -> None:
    panel = panel_of(*case)
    targets = targets_of(weights_of(case[0], panel.close.shape))
    runs = [
        simulate_portfolio(
            panel,
            targets,
            initial_cash=CASH,
            rules=BookRules(LINEAR, fills_this_close=at_close, takes_requests=is_full),
        )
        for is_full in (False, True)
    ]
    assert [run.rules.is_plain for run in runs] == [True, False]
    assert runs[0].equity.tobytes() == runs[1].equity.tobytes()
    assert runs[0].orders.tobytes() == runs[1].orders.tobytes()
    assert runs[0].fills.tobytes() == runs[1].fills.tobytes()


@LAW
@given(case=cases, rules=full_rules)
def test_free_trading_is_trading_at_rates_of_zero(case: Case, rules: BookRules) -> None:
    zero = CostModel(
        CommissionModel(0.0, 0.0, 0.0, 0.0), SpreadModel(((1.0, 0.0),), 0.0), ImpactModel(1e-300)
    )
    panel = panel_of(*case)
    targets = targets_of(weights_of(case[0], panel.close.shape))
    runs = [
        simulate_portfolio(
            panel,
            targets,
            initial_cash=CASH,
            rules=BookRules(costs, volume=rules.volume, bracket=rules.bracket, takes_requests=True),
        )
        for costs in (CostModel(), zero)
    ]
    np.testing.assert_allclose(runs[0].equity, runs[1].equity, rtol=0, atol=MONEY_ATOL)


@LAW
@given(case=cases, leverage=st.sampled_from((0.5, 1.0, 2.0)), at_close=st.booleans())
def test_a_fill_never_borrows_more_than_the_margin(
    case: Case,
    leverage: float,
    at_close: bool,
) -> None:
    """Bar by bar: what is held after the fills at the open is what the margin lets through."""
    panel = panel_of(*case)
    weights = 3.0 * weights_of(case[0], panel.close.shape)
    rules = BookRules(COMPONENTS, at_close, leverage=leverage, liquidity_window=3)
    book = PortfolioBook.new(len(panel.symbols), CASH, rules)
    bars = book_bars(panel, rules)
    for bar in range(len(panel)):
        before = np.abs(book.quantity).copy()
        fills_before = len(book.fills)
        open_and_mark(book, bars, bar)
        price = np.where(np.isnan(panel.open[bar]), book.last_close, panel.open[bar])
        if at_close:
            book.place_weights(bar, weights[bar])
            price = book.last_close.copy()
        elif bar == 0:
            book.place_weights(bar, weights[bar])
            continue
        if (np.abs(book.quantity) > before).any() and len(book.fills) > fills_before:
            held = np.where(book.quantity != 0, book.quantity * price, 0.0)
            equity = book.cash + float(held.sum())
            assert float(np.abs(held).sum()) <= leverage * equity + 1e-6 * CASH
        if not at_close:
            book.place_weights(bar, weights[bar])
