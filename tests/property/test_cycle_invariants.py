"""The invariants of SPEC C4, for every strategy that is registered, in every mode.

The ninth, that every key is alive, is in test_cycle_keys.py.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backlane.audit.portfolio_future import shuffled_events, shuffled_panel
from backlane.backtest.portfolio_config import RunMode
from backlane.backtest.portfolio_cycle import compute
from backlane.backtest.portfolio_result import PortfolioRun
from backlane.cycle.context import BookFacts, context_at
from backlane.cycle.run_cycle import reducing_part, run_cycle
from backlane.cycle.strategies import BUILT_IN
from backlane.cycle.strategy import ProposalInput, StrategyInput, Targets, TargetStrategy
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, OrderSide
from backlane.panel.events import Events
from backlane.risk.proposal import TradeProposal
from backlane.sources.portfolio_results import write_portfolio_result
from tests.portfolios import files_of, write_panel
from tests.property.cycle_worlds import (
    MODES,
    PARAMETERS,
    RECORDS,
    REGISTRY,
    SAME_BARS,
    World,
    is_target,
    the_world,
    worlds,
)

LAW = settings(
    deadline=None,
    derandomize=True,
    max_examples=2,
    suppress_health_check=[HealthCheck.too_slow],
)
pytestmark = pytest.mark.slow
NAMES = sorted(PARAMETERS)
OWN_LAWS = {"model": "tests/property/test_model_strategy.py"}
every_strategy = pytest.mark.parametrize("name", NAMES)
every_mode = pytest.mark.parametrize("mode", list(MODES))
# Sums of some hundred amounts of money around 1e5 round at 1e-11 of them each.
MONEY_ATOL = 1e-6


def row_at(world: World, share: float) -> int:
    return int(share * (len(world.panel) - 1))


def assert_same_until(one: PortfolioRun, other: PortfolioRun, row: int) -> None:
    for name in ("equity", "cash", "base"):
        left, right = (getattr(run, name)[: row + 1].tobytes() for run in (one, other))
        assert left == right, name
    for records, names in (
        ("orders", ("time_index", "symbol", "quantity", "price")),
        ("fills", ("time_index", "symbol", "quantity", "price", "cost", "cash_after")),
    ):
        ours, theirs = (
            each[each["time_index"] <= row] for each in (getattr(r, records) for r in (one, other))
        )
        assert [ours[each].tolist() for each in names] == [theirs[each].tolist() for each in names]


def assert_same(one: PortfolioRun, other: PortfolioRun) -> None:
    for name in RECORDS:
        left, right = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert left.tobytes() == right.tobytes(), name


def test_every_strategy_and_mode_is_under_the_invariants() -> None:
    assert set(PARAMETERS) | OWN_LAWS.keys() >= set(REGISTRY) >= set(BUILT_IN)
    driven = {"paper": "session"}
    assert MODES.keys() >= {driven.get(each, str(each)) for each in RunMode}


@every_strategy
def test_the_worlds_make_it_trade(name: str) -> None:
    runs = [MODES["backtest"](the_world(name, (seed, 45, 0.1))) for seed in range(3)]
    assert sum(len(run.fills) for run in runs) > 6


# --- 1, 2 and 3: nothing is known before its time -------------------------------------------------


@every_mode
@every_strategy
@LAW
@given(drawn=worlds, share=st.floats(0, 1))
def test_1_and_2_no_future_and_another_future(
    name: str, mode: str, drawn: tuple[int, int, float], share: float
) -> None:
    world = the_world(name, drawn)
    whole, row, random = MODES[mode](world), row_at(world, share), np.random.default_rng(drawn[0])
    as_of_ns = int(world.panel.known_ns[row])
    other = replace(
        world,
        panel=shuffled_panel(world.panel, as_of_ns, random),
        events=shuffled_events(world.events, as_of_ns, random),
    )
    assert_same_until(whole, MODES[mode](world.until(row)), row)
    assert_same_until(whole, MODES[mode](other), row)


def told_later(events: Events, as_of_ns: int) -> Events:
    """Every second event that was known at a time is told a day after it; dates stay."""
    is_late = (events.known_ns <= as_of_ns) & (np.arange(len(events.known_ns)) % 2 == 0)
    known_ns = np.where(is_late, as_of_ns + 1, events.known_ns)
    order = np.argsort(known_ns, kind="stable")
    return Events(
        events.symbols,
        events.symbol_index[order],
        events.event_ns[order],
        known_ns[order],
        {column: values[order] for column, values in events.values.items()},
    )


@every_mode
@pytest.mark.parametrize("name", [each for each in NAMES if REGISTRY[each].sources])
@LAW
@given(drawn=worlds, share=st.floats(0.3, 1))
def test_3_late_disclosure(
    name: str, mode: str, drawn: tuple[int, int, float], share: float
) -> None:
    """Told past T is as if it had not happened, up to T; when it happened does not matter."""
    world = the_world(name, drawn)
    row = row_at(world, share)
    as_of_ns = int(world.panel.known_ns[row])
    late = {source: told_later(each, as_of_ns) for source, each in world.events.items()}
    without = {source: each.until(as_of_ns) for source, each in late.items()}
    runs = [MODES[mode](replace(world, events=each)) for each in (late, without)]
    assert_same_until(*runs, row)


@every_strategy
def test_3_what_is_told_at_t_counts_at_t(name: str) -> None:
    """Inclusive (SPEC A1): the events told at a bar change what is decided at it."""
    if not REGISTRY[name].sources:
        assert not any("events" in each for each in PARAMETERS[name])
        return
    world = the_world(name, (3, 45, 0.0))
    changed = 0
    for row in range(12, 40, 4):
        as_of_ns = int(world.panel.known_ns[row])
        before = {source: each.until(as_of_ns - 1) for source, each in world.events.items()}
        runs = [
            MODES["backtest"](each.until(row)) for each in (world, replace(world, events=before))
        ]
        ours, theirs = (run.orders[run.orders["time_index"] == row] for run in runs)
        changed += ours["quantity"].tolist() != theirs["quantity"].tolist()
    assert changed > 0


# --- 4: money -------------------------------------------------------------------------------------


@every_mode
@every_strategy
@LAW
@given(drawn=worlds)
def test_4_conservation(name: str, mode: str, drawn: tuple[int, int, float]) -> None:
    run = MODES[mode](the_world(name, drawn))
    gross, cost = float(run.trades["gross_pnl"].sum()), float(run.trades["cost"].sum())
    assert run.final_equity == pytest.approx(run.initial_cash + gross - cost, abs=MONEY_ATOL)
    assert cost == pytest.approx(run.total_cost, abs=MONEY_ATOL)
    moved = run.fills["quantity"] * run.fills["price"]
    cash = run.initial_cash - float(moved.sum()) - run.total_cost
    assert run.cash[-1] == pytest.approx(cash, abs=MONEY_ATOL)


@every_mode
@every_strategy
@LAW
@given(drawn=worlds)
def test_4_rates_of_zero_are_no_costs(name: str, mode: str, drawn: tuple[int, int, float]) -> None:
    world = the_world(name, drawn)
    zero = {"commission_bps": 0.0, "half_spread_bps": 0.0, "impact_bps": 0.0, "borrow_rate": 0.0}
    runs = [
        MODES[mode](replace(world, content={**world.content, "costs": each})) for each in ({}, zero)
    ]
    assert_same(*runs)
    assert runs[0].total_cost == 0.0


# --- 5, 6 and 8: one cycle, however it is driven --------------------------------------------------


@pytest.mark.parametrize("mode", [each for each in SAME_BARS if each != "backtest"])
@every_strategy
@LAW
@given(drawn=worlds, fill=st.sampled_from(("next_open", "this_close")), compounding=st.booleans())
def test_5_path_equality(
    name: str, mode: str, drawn: tuple[int, int, float], fill: str, compounding: bool
) -> None:
    """To the bit, where the SPEC asks for 1e-9."""
    world = the_world(name, drawn)
    world = replace(world, content={**world.content, "fill": fill, "compounding": compounding})
    assert_same(MODES["backtest"](world), MODES[mode](world))


@every_mode
@every_strategy
def test_6_the_same_report(name: str, mode: str, tmp_path: Path) -> None:
    """Byte for byte, every file of the result: run twice, and as the backtest wrote it."""
    world = the_world(name, (17, 45, 0.1))
    write_panel(tmp_path, bars=3)
    config = world.plan().config.model_dump(mode="json")
    found = []
    for driver in (mode, mode, "backtest"):
        run, out = MODES[driver](world), tmp_path / "out"
        write_portfolio_result(run, config, {"panel": tmp_path / "panel.csv"}, out)
        found.append(files_of(out))
    again, first, batch = found
    assert first == again
    if mode not in SAME_BARS:
        assert first != batch
        return
    del first["result.json"], batch["result.json"]  # it counts cycles, where there are some
    assert first == batch


@every_strategy
@LAW
@given(drawn=worlds, share=st.floats(0.2, 1))
def test_8_a_live_scan_says_what_the_backtest_says(
    name: str, drawn: tuple[int, int, float], share: float
) -> None:
    """On the same bars: the same members, features, signals and proposals."""
    world = the_world(name, drawn)
    row = row_at(world, share)
    plan, as_of_ns = world.plan(), int(world.panel.known_ns[row])
    book = replace(
        BookFacts.of_cash(len(world.panel.symbols), 1e5), last_close=last_closes(world, row)
    )
    context = context_at(world.panel, world.events, as_of_ns, book=book)
    live = run_cycle(context, plan.stages())
    batch = run_cycle(context, compute(plan, world.panel, world.events).stages)
    assert live.failure is batch.failure is None
    assert live.no_trade == batch.no_trade
    for ours, theirs in zip(live.signals or (), batch.signals or (), strict=True):
        assert ours.triggers == theirs.triggers
        for each in ("direction", "score", "weights"):
            left, right = getattr(ours, each), getattr(theirs, each)
            np.testing.assert_array_equal(left, right)
    if live.proposals is not None and batch.proposals is not None:
        assert live.proposals.trades == batch.proposals.trades
        np.testing.assert_array_equal(live.proposals.weights, batch.proposals.weights)


# --- 7: flat, rejected, out -----------------------------------------------------------------------


def last_closes(world: World, row: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    known = world.panel.close[: row + 1]
    return np.array([column[~np.isnan(column)][-1] for column in known.T])


def flat_from(name: str, row: int) -> dict[str, Any]:
    """The registry with a strategy that goes flat at a row: targets of 0, or a sale of all."""
    strategy = REGISTRY[name]
    if isinstance(strategy, TargetStrategy):
        decide = strategy.decide

        def then_flat(data: StrategyInput, parameters: Any) -> Targets:
            targets = decide(data, parameters)
            weights = np.array(targets.weights)
            weights[row:] = 0.0
            return replace(targets, weights=weights)

        return {**REGISTRY, name: replace(strategy, decide=then_flat)}
    propose = strategy.propose

    def then_out(data: ProposalInput, parameters: Any) -> Any:
        context = data.context
        if len(context.panel) <= row:
            return propose(data, parameters)
        held = np.flatnonzero(context.book.quantity > 0.0)
        return [TradeProposal(context.symbols[each], OrderSide.SELL, 1.0, 1.0) for each in held]

    return {**REGISTRY, name: replace(strategy, propose=then_out)}


@every_mode
@every_strategy
@LAW
@given(drawn=worlds)
def test_7_going_flat_closes(name: str, mode: str, drawn: tuple[int, int, float]) -> None:
    world = the_world(name, (drawn[0], drawn[1], 0.0))
    run = MODES[mode](world, flat_from(name, len(world.panel) - 4))
    assert (np.abs(run.quantity) <= MIN_ORDER_QUANTITY).all()
    assert not (run.trades["is_open"] == 1).any()


@every_mode
@every_strategy
@LAW
@given(drawn=worlds)
def test_7_what_is_not_filled_moves_nothing(
    name: str, mode: str, drawn: tuple[int, int, float]
) -> None:
    """Volume for a part, lots and a margin deny and cut; positions are what was filled."""
    world = the_world(name, drawn)
    hard = {"execution": {"participation_max": 1e-4, "lot_size": 3}, "margin": {"leverage": 0.5}}
    run = MODES[mode](replace(world, content={**world.content, **hard}))
    moved = np.zeros(len(run.quantity))
    np.add.at(moved, run.fills["symbol"], run.fills["quantity"])
    np.testing.assert_allclose(run.quantity, moved, rtol=0, atol=1e-9)
    filled = np.zeros(len(run.orders))
    np.add.at(filled, run.fills["order"], np.abs(run.fills["quantity"]))
    assert (filled <= np.abs(run.orders["quantity"]) + 1e-9).all()


ORDERS = {"weight_per_symbol_max": 0.01, "turnover_max": 0.01, "gross_notional_max": 1.0}
STOPS = {"daily_loss_max": 0.01, "weekly_loss_max": 0.01, "drawdown_max": 0.01}
TRADES = {"daily_loss_max": 0.01, "open_positions_max": 0, "total_at_risk_max": 0.0}


@every_strategy
@LAW
@given(drawn=worlds, share=st.floats(0.5, 1), loss=st.sampled_from((0.0, -0.5)))
def test_7_exits_pass_every_limit(
    name: str, drawn: tuple[int, int, float], share: float, loss: float
) -> None:
    """What reduces a position is the same with limits and without; the kill switch stops it."""
    world = the_world(name, drawn)
    as_of_ns = int(world.panel.known_ns[row_at(world, share)])
    known = world.panel.until(as_of_ns)
    random = np.random.default_rng(drawn[0])
    held = random.choice([0.0, 40.0, 300.0], len(known.symbols))
    close = last_closes(world, len(known) - 1)
    book = replace(
        BookFacts.of_cash(len(known.symbols), 1e5),
        quantity=held, last_close=close, peak_equity=3e5, daily_return=loss, weekly_return=loss,
        consecutive_losses=9, trades_today=99, trades_this_hour=99,
    )  # fmt: skip
    context = context_at(world.panel, world.events, as_of_ns, book=book)
    limits = {"orders": ORDERS, **({"stops": STOPS} if is_target(name) else {"trades": TRADES})}
    results = [
        run_cycle(context, world.plan(flat_from(name, 0), risk=risk).stages())
        for risk in ({}, limits, {**limits, "halt": True})
    ]
    free, limited, halted = (
        np.zeros(len(held)) if each.orders is None else each.orders.quantity for each in results
    )
    np.testing.assert_array_equal(reducing_part(held, limited), reducing_part(held, free))
    assert not halted.any()
    has_bar = ~np.isnan(known.close[-1])
    np.testing.assert_array_equal(limited[has_bar], -held[has_bar])
