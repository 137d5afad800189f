"""Whole little runs whose every number can be redone by hand."""

import numpy as np
import pytest

from backlane.cycle.loop import Outputs, Slot, close_out, new_slot, run_until
from backlane.cycle.state import new_state
from backlane.decisions.decision import DecisionReason
from backlane.execution.order import ExitReason, OrderOutcome
from tests.builders import HOUR_NS, START_NS, make_bars, make_inputs, make_rules

B, H, S = 1, 0, -1


def simulate(bars, raw, *, cash=1000.0, fraction=0.25, finish=True, **rules):
    inputs, outputs = make_inputs(bars, raw, fraction=fraction), Outputs.empty(len(bars))
    state, parameters = new_state(0, cash), make_rules(**rules)
    assert run_until(state, parameters, inputs, outputs, new_slot(), len(bars))
    if finish:
        close_out(state, parameters, inputs, outputs)
    return state[0], outputs


def test_a_decision_fills_at_the_next_open() -> None:
    bars = make_bars([10, 10, 12, 12], opens=[10, 10, 11, 12.5])
    state, out = simulate(bars, [B, H, S, H])
    # BUY at bar 0 fills at open[1] = 10: 1000 x 0.25 / 10 = 25 units
    # SELL at bar 2 fills at open[3] = 12.5: profit (12.5 - 10) x 25 = 62.5
    trade = out.trades[0]
    assert (trade.entry_time_ns, trade.exit_time_ns) == (START_NS + HOUR_NS, START_NS + 3 * HOUR_NS)
    assert (trade.quantity, trade.entry_price, trade.exit_price) == (25, 10, 12.5)
    assert trade.net_pnl == 62.5
    # marks: bar 1 at 10, bar 2 at 12 -> 750 + 25 x 12 = 1050
    assert list(out.equity) == [1000, 1000, 1050, 1062.5]
    assert list(out.cash) == [1000, 750, 750, 1062.5]
    assert list(out.position) == [0, 25, 25, 0]
    assert state.trade_count == 1


def test_this_close_fills_at_the_same_close() -> None:
    bars = make_bars([10, 12, 14])
    _, out = simulate(bars, [B, S, H], fill_this_close=1)
    assert out.trades[0].entry_price == 10
    assert out.trades[0].exit_price == 12
    assert list(out.equity) == [1000, 1050, 1050]


def test_both_legs_pay_commission_and_slippage() -> None:
    bars = make_bars([100, 100, 100], opens=[100, 100, 200])
    _, out = simulate(bars, [B, S, H], commission_rate=0.25, slippage_rate=0.25)
    # entry: 1000 x 0.25 / 1.25 / 100 = 2 units at 125; commission 2 x 125 x 0.25 = 62.5
    # exit at 200 x 0.75 = 150: gross (150 - 125) x 2 = 50; commission 300 x 0.25 = 75
    trade = out.trades[0]
    assert (trade.quantity, trade.gross_pnl) == (2, 50)
    assert trade.commission == 137.5
    assert trade.net_pnl == 50 - 137.5
    assert trade.slippage == 25 * 2 + 50 * 2
    assert out.fills[0].cash_after == 1000 - 250 - 62.5
    assert out.fills[1].cash_after == 1000 - 250 - 62.5 + 300 - 75


def test_the_reference_profile_books_the_exit_leg_alone() -> None:
    bars = make_bars([100, 100, 100], opens=[100, 100, 200])
    _, out = simulate(bars, [B, S, H], commission_rate=0.25, slippage_rate=0.25, exit_leg_costs=1)
    assert (out.trades[0].commission, out.trades[0].slippage) == (75, 100)


def test_a_short_gains_when_the_price_falls() -> None:
    bars = make_bars([10, 8, 8, 8], opens=[10, 10, 8, 8])
    _, out = simulate(bars, [S, B, H, H])
    # short 25 at 10, covered at 8: 2 x 25 = 50
    assert out.trades[0].side == -1
    assert out.trades[0].net_pnl == 50
    assert list(out.equity) == [1000, 1050, 1050, 1050]


def test_excursions_come_from_highs_lows_and_the_exit() -> None:
    bars = make_bars(
        [10, 11, 11, 11], opens=[10, 10, 11, 9], highs=[10, 13, 12, 11], lows=[10, 9.5, 10, 9]
    )
    _, out = simulate(bars, [B, H, S, H])
    # 25 units from 10; highest 13 -> +75; lowest low while held 9.5 -> -12.5, exit at open 9 -> -25
    assert out.trades[0].mfe == 75
    assert out.trades[0].mae == -25
    _, closes_alone = simulate(bars, [B, H, S, H], extreme_excursions=0)
    assert closes_alone.trades[0].mfe == 25  # the close of 11
    assert closes_alone.trades[0].mae == 0


def test_excursions_of_this_close_leave_out_the_entry_bar_before_the_close() -> None:
    bars = make_bars([10, 11, 11], highs=[15, 12, 11], lows=[5, 9, 11])
    _, out = simulate(bars, [B, H, S], fill_this_close=1)
    assert out.trades[0].mfe == 50  # the high of bar 1; the 15 came before the entry
    assert out.trades[0].mae == -25


def test_an_open_position_is_closed_at_the_last_close_and_marked_so() -> None:
    bars = make_bars([10, 10, 14], opens=[10, 10, 10])
    state, out = simulate(bars, [B, H, H])
    assert out.trades[0].exit_reason == ExitReason.END_OF_DATA
    assert out.trades[0].exit_price == 14
    assert state.cash == 1100
    assert state.side == 0


def test_a_decision_on_the_last_bar_does_not_fill() -> None:
    state, out = simulate(make_bars([10, 10]), [H, B])
    assert out.decision[1] == B
    assert state.fill_count == 0
    assert state.pending == B


def test_separation_counts_from_the_fill_and_holds_back_the_exit() -> None:
    bars = make_bars([10] * 6)
    _, out = simulate(bars, [B, S, S, S, S, H], min_separation_hours=3)
    # the fill is at bar 1; bars 1, 2, 3 are 0, 1, 2 hours later; bar 4 is 3 hours later
    assert list(out.reason[1:5]) == [DecisionReason.MIN_SEPARATION] * 3 + [DecisionReason.ACCEPTED]
    assert out.trades[0].exit_index == 5


@pytest.mark.parametrize(
    ("raw", "rules", "outcome"),
    [
        ([B, B, H], {"position_awareness": 0}, OrderOutcome.DENIED_POSITION_OPEN),
        ([S, H, H], {"position_awareness": 0, "shorts": 0}, OrderOutcome.DENIED_SHORTS_OFF),
        ([B, H, H], {"units": 1000}, OrderOutcome.DENIED_QUANTITY_ZERO),
    ],
)
def test_a_denied_order_is_counted_and_leaves_the_clock_alone(raw, rules, outcome) -> None:
    state, _ = simulate(make_bars([10, 10, 10]), raw, finish=False, **rules)
    assert state.outcome_counts[outcome] == 1
    assert state.order_count == sum(state.outcome_counts)


def test_cancel_stops_before_the_next_bar() -> None:
    bars = make_bars([10, 11, 12])
    inputs, outputs, slot = make_inputs(bars, [H, H, H]), Outputs.empty(3), new_slot()
    state, rules = new_state(0, 1000.0), make_rules()
    slot[Slot.CANCEL] = 1
    assert not run_until(state, rules, inputs, outputs, slot, 3)
    assert state["next_index"][0] == 0
    slot[Slot.CANCEL] = 0
    assert run_until(state, rules, inputs, outputs, slot, 3)
    assert slot[Slot.NEXT_INDEX] == 3


def test_more_trades_than_there_was_room_for_at_first() -> None:
    count = 5000
    raw = np.where(np.arange(count) % 2 == 0, 1, -1)
    inputs = make_inputs(make_bars([10.0] * count), raw)
    outputs, state = Outputs.empty(count, record_count=4), new_state(0, 1000.0)
    assert run_until(state, make_rules(allow_short_from_flat=0), inputs, outputs, new_slot(), count)
    assert state["trade_count"][0] == 2499
    assert list(outputs.trades["number"][:3]) == [1, 2, 3]


def test_a_stop_loss_closes_within_the_bar_and_starts_the_separation() -> None:
    bars = make_bars([100, 100, 80, 80], opens=[100, 100, 100, 80], lows=[100, 100, 70, 80])
    _, out = simulate(bars, [B, H, B, H], stop_loss=0.25, min_separation_hours=1)
    # long 2 units at 100, stopped at 75 in bar 2: loses 50
    trade = out.trades[0]
    assert (trade.exit_reason, trade.exit_price, trade.exit_index) == (ExitReason.STOP_LOSS, 75, 2)
    assert out.equity[2] == 950
    assert out.reason[2] == DecisionReason.MIN_SEPARATION


def test_a_stop_is_a_market_order_and_a_take_profit_is_not() -> None:
    bars = make_bars([100, 100, 150], opens=[100, 100, 100], highs=[100, 100, 300], lows=[100] * 3)
    _, out = simulate(bars, [B, H, H], take_profit=0.5, slippage_rate=0.25)
    # entry at 125, target 187.5, filled without slippage
    assert out.trades[0].exit_price == 187.5
    assert out.trades[0].exit_reason == ExitReason.TAKE_PROFIT
    falling = make_bars([100, 100, 50], opens=[100, 100, 100], lows=[100, 100, 40])
    _, out = simulate(falling, [B, H, H], stop_loss=0.5, slippage_rate=0.25)
    # entry at 125, stop 62.5, sold at 62.5 x 0.75
    assert out.trades[0].exit_price == 46.875


def test_a_trailing_stop_follows_the_best_price_of_earlier_bars() -> None:
    bars = make_bars(
        [100, 140, 150, 120],
        opens=[100, 100, 140, 150],
        highs=[100, 160, 152, 150],
        lows=[100, 100, 140, 110],
    )
    _, out = simulate(bars, [B, H, H, H], trailing_stop=0.25)
    # best 160 after bar 1: the stop lies at 120, not hit by 140, hit by 110 in bar 3
    assert out.trades[0].exit_reason == ExitReason.TRAILING_STOP
    assert out.trades[0].exit_price == 120
    assert out.trades[0].exit_index == 3


def test_the_entry_bar_counts_for_a_stop() -> None:
    bars = make_bars([100, 90], opens=[100, 100], lows=[100, 70])
    _, out = simulate(bars, [B, H], stop_loss=0.25)
    assert (out.trades[0].entry_index, out.trades[0].exit_index) == (1, 1)


def test_a_position_is_closed_after_its_time() -> None:
    _, out = simulate(make_bars([10] * 6), [B, H, H, H, H, H], max_holding_bars=3)
    # filled at bar 1; bars 1, 2, 3 are held; the exit ordered at the close of 3 fills at 4
    assert out.trades[0].exit_reason == ExitReason.TIME_EXIT
    assert out.trades[0].exit_index == 4


def test_a_position_filled_at_a_close_is_held_from_the_next_bar_on() -> None:
    _, out = simulate(
        make_bars([10] * 6), [B, H, H, H, H, H], max_holding_bars=3, fill_this_close=1
    )
    # filled at the close of bar 0; held through bars 1, 2, 3; closed at the close of 3
    assert out.trades[0].exit_reason == ExitReason.TIME_EXIT
    assert out.trades[0].exit_index == 3


def test_a_margin_call_closes_before_the_collateral_is_gone() -> None:
    bars = make_bars([100, 100, 90], opens=[100, 100, 100], lows=[100, 100, 80])
    # leverage 4, maintenance half of the collateral: called at a loss of 1/8 of the entry price
    _, out = simulate(bars, [B, H, H], leverage=4, liquidation=0.125, fraction=1.0)
    # 1,000 x 4 / 100 = 40 units; 12.5 lost on each
    assert out.trades[0].exit_reason == ExitReason.MARGIN_CALL
    assert out.trades[0].net_pnl == -500
    assert out.equity[2] == 500


def test_holding_over_a_weekend_is_charged_by_the_night() -> None:
    bars = make_bars([73, 73, 73, 73], timeframe="1d")
    _, out = simulate(bars, [B, H, S, H], overnight_rate_long=0.365, fraction=0.73)
    # 10 units worth 730 over two midnights: 730 x 0.365 / 365 x 2 = 1.46
    assert out.trades[0].financing == pytest.approx(1.46, rel=1e-12)
    assert out.trades[0].net_pnl == pytest.approx(-1.46, rel=1e-12)
    # owed until the exit, but inside the equity night by night
    assert list(out.equity) == pytest.approx([1000, 1000, 999.27, 998.54], rel=1e-12)
