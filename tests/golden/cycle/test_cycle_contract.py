"""`cycle_contract.json` and `snapshot_as_of.json`: one cycle, case by case, and where ours differs.

Deviations, each from SPEC part C:
- C2 Q5: their orders have weight * capital as units; ours weight * capital / close.
- C2 "swallowed failures" and C4: a failing stage is named by a closed enum; what was computed
  before it stays, and a stage cannot be missing: `Stages` is a whole record, and a configuration
  without a strategy is refused.
- A context cannot tell "no prices" from "no prices yet": it does not know what comes later. Both
  are `no_bars`.
- The panel always has its history (C2 "EOD mode"); only the last row is decided on.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from backlane.backtest.portfolio_run import parse_portfolio_config
from backlane.cycle.context import (
    BookFacts,
    Context,
    QualityVerdict,
    Surroundings,
    context_at,
    last_bars,
)
from backlane.cycle.cycle_result import CycleResult, CycleStage, FailureCode, NoTradeReason
from backlane.cycle.run_cycle import run_cycle
from backlane.errors import DataRefusedError, InvalidRequestError
from backlane.panel.panel import Panel
from backlane.sources.panel_files import read_panel
from tests.golden.cycle.assembled import load_json, load_panel
from tests.golden.cycle.assembled import needs_assembled as pytestmark  # noqa: F401
from tests.unit.cycle.cycles import planned, stages_of, weighing


@cache
def capital() -> float:
    """Theirs has weights of 1/n times the capital for units."""
    return float(sum(each["qty"] for each in recorded("eod_mode")["orders"]))


@cache
def traded() -> tuple[str, ...]:
    return tuple(each["symbol"] for each in recorded("eod_mode")["orders"])


@cache
def leftover() -> tuple[str, float]:
    """The instrument that is held and has no price, and its units."""
    orders = recorded("with_positions")["orders"]
    return next((each["symbol"], each["qty"]) for each in orders if each["price"] == 0.0)


def recorded(name: str) -> dict[str, Any]:
    return load_json("cycle_contract.json")["cases"][name]


def panel_of_cases() -> Panel:
    """The three instruments of the cases, and one that is held and has no bars."""
    panel = load_panel()
    columns = [panel.symbols.index(symbol) for symbol in traded()]

    def chosen(values: Any) -> Any:
        unknown = np.full((len(panel), 1), np.nan)
        return np.concatenate([values[:, columns], unknown], axis=1)

    prices = {name: chosen(getattr(panel, name)) for name in ("open", "high", "low", "close")}
    return Panel(
        (*traded(), leftover()[0]),
        panel.time_ns,
        panel.known_ns,
        **prices,
        volume=chosen(panel.volume),
    )


def recorded_bar(panel: Panel, name: str = "eod_mode") -> int:
    """The bar whose closes are the prices of the recorded orders."""
    price = recorded(name)["orders"][0]["price"]
    return int(np.flatnonzero(panel.close[:, 0] == price)[0])


def context_of(held: dict[str, float] | None = None, **around: Any) -> Context:
    panel = panel_of_cases()
    bar = recorded_bar(panel)
    quantity = np.array([(held or {}).get(symbol, 0.0) for symbol in panel.symbols])
    book = replace(
        BookFacts.of_cash(len(panel.symbols), capital()),
        quantity=quantity,
        last_close=panel.close[bar].copy(),
    )
    as_of_ns = int(panel.known_ns[bar])
    return context_at(panel, {}, as_of_ns, book=book, around=Surroundings(**around))


def equal_weights(*symbols: str) -> Any:
    share = 1.0 / len(symbols)
    return weighing([share if symbol in symbols else 0.0 for symbol in (*traded(), leftover()[0])])


def assert_orders(result: CycleResult, name: str) -> None:
    """Their orders in units of the instrument (Q5); what is closed is units already."""
    assert result.is_success
    assert [(each.symbol, each.quantity > 0.0) for each in sorted(result.orders, key=_symbol)] == [
        (each["symbol"], each["side"] == "BUY") for each in recorded(name)["orders"]
    ]
    orders = zip(sorted(result.orders, key=_symbol), recorded(name)["orders"], strict=True)
    for ours, theirs in orders:
        if theirs["price"] == 0.0:  # theirs for "unknown": ours says so
            assert np.isnan(ours.price)
            assert abs(ours.quantity) == theirs["qty"]
        else:
            assert ours.price == theirs["price"]
            assert ours.quantity == pytest.approx(theirs["qty"] / theirs["price"], rel=1e-9)


def _symbol(order: Any) -> str:
    return str(order.symbol)


@pytest.mark.parametrize("name", ["eod_mode", "backtest_mode"])
def test_three_instruments(name: str) -> None:
    result = run_cycle(context_of(), stages_of(planned(equal_weights(*traded()))))
    assert recorded(name)["status"] == "success"
    assert_orders(result, name)


def test_a_universe_of_one_without_regard_to_case() -> None:
    """Only one is listed, and gets all the capital."""
    symbol = recorded("universe_subset")["orders"][0]["symbol"]
    universe = {"symbols": [symbol.lower()]}
    stages = stages_of(planned(equal_weights(symbol)), universe=universe)
    result = run_cycle(context_of(), stages)
    assert_orders(result, "universe_subset")
    assert len(result.universe.excluded) == 3


def test_what_is_held_and_not_wanted_is_closed() -> None:
    """`with_positions`: one is at its target, one is sold though it has no price."""
    context = context_of()
    ordered = {each["symbol"] for each in recorded("with_positions")["orders"]}
    held = dict([leftover()])
    for column, symbol in enumerate(traded()):
        if symbol not in ordered:
            held[symbol] = capital() / len(traded()) / context.panel.close[-1, column]
    result = run_cycle(context_of(held), stages_of(planned(equal_weights(*traded()))))
    assert_orders(result, "with_positions")


def test_blocked_data_empties_the_orders() -> None:
    case = recorded("qa_block")
    context = context_of(quality=QualityVerdict(True, case["meta"]["qa_block_reason"]))
    result = run_cycle(context, stages_of(planned(equal_weights(*traded()))))
    assert (result.is_success, len(result.orders)) == (case["status"] == "success", 0)
    assert (result.no_trade, result.detail) == (NoTradeReason.QUALITY_BLOCKED, "stale")


@pytest.mark.parametrize("name", ["no_prices", "as_of_before_data"])
def test_without_a_bar(name: str) -> None:
    assert recorded(name)["status"] == "error"
    result = run_cycle(context_of().until(0), stages_of(planned(equal_weights(traded()[0]))))
    assert (result.failure.code, result.orders) == (FailureCode.NO_BARS, None)


def test_a_panel_without_closes_is_refused_before_any_cycle(tmp_path: Any) -> None:
    assert recorded("missing_close")["error"] == "missing_price_column:close"
    path = tmp_path / "panel.csv"
    path.write_text("timestamp,symbol,open,high,low\n2021-01-04,VS01,1,2,1\n")
    with pytest.raises((InvalidRequestError, DataRefusedError), match="close"):
        read_panel(path)


@pytest.mark.parametrize("name", ["no_signal_fn", "no_sizing_fn"])
def test_a_stage_cannot_be_missing(name: str) -> None:
    assert recorded(name)["status"] == "error"
    with pytest.raises(InvalidRequestError) as refused:
        parse_portfolio_config({"data": {"panel": "panel.csv"}})
    assert refused.value.violations[0].field == "strategy"


def test_signals_of_another_shape() -> None:
    """`signal_bad_columns`; theirs lack columns, ours can only have a wrong shape."""
    assert recorded("signal_bad_columns")["status"] == "error"
    result = run_cycle(context_of(), stages_of(planned(weighing([0.5]))))
    assert (result.failure.stage, result.failure.code) == (
        CycleStage.SIGNALS,
        FailureCode.STAGE_RAISED,
    )


def _fails(*_: Any) -> Any:
    raise ValueError("boom")


@pytest.mark.parametrize(
    ("name", "stage"),
    [("signal_raises", CycleStage.SIGNALS), ("unknown_feature_key", CycleStage.FEATURES)],
)
def test_a_stage_that_raises_is_named(name: str, stage: CycleStage) -> None:
    theirs = recorded(name)["error"]
    assert theirs.startswith("stage_error:")
    assert stage.value.rstrip("s") in theirs
    stages = replace(stages_of(planned(equal_weights(traded()[0]))), **{stage.value: _fails})
    result = run_cycle(context_of(), stages)
    assert (result.failure.stage, result.failure.code) == (stage, FailureCode.STAGE_RAISED)
    assert result.universe is not None


def test_all_hooks_are_called_in_their_order() -> None:
    """Theirs name sizing, orders, risk; ours size what was proposed, then risk, then orders."""
    ours = [each.value for each in CycleStage]
    named = {
        "load_prices": "universe",
        "build_features": "features",
        "generate_signals": "signals",
        "size_positions": "proposals",
        "generate_orders": "sizing",
        "risk_controls": "risk",
        "write_outputs": "orders",
    }
    assert [named[each] for each in load_json("cycle_contract.json")["hook_call_order"]] == ours


def test_an_index_that_is_asked_backwards_leaks_nothing() -> None:
    """`snapshot_as_of.json` (SPEC C2, Q17): the fresh one is right, however it was asked before."""
    case = load_json("snapshot_as_of.json")
    panel = load_panel()
    book = BookFacts.of_cash(len(panel.symbols), capital())
    stale = pd.Timestamp(case["after_later_query_same_index"][0]["timestamp"]).value
    as_of_ns = pd.Timestamp(case["as_of"]).value
    for asked_ns, rows in (
        (stale, case["after_later_query_same_index"]),
        (as_of_ns, case[case["correct"]]),
    ):
        context = context_at(panel, {}, asked_ns, book=book)
        last = last_bars(context.panel)
        for row in rows:
            column = panel.symbols.index(row["symbol"])
            assert context.panel.time_ns[last[column]] == pd.Timestamp(row["timestamp"]).value
            assert context.panel.close[last[column], column] == row["close"]
    assert context.until(as_of_ns).panel.close.tobytes() == context.panel.close.tobytes()
