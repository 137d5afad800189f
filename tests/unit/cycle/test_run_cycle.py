"""One cycle: what it keeps, why it does not trade, and what passes when something fails."""

from dataclasses import replace

import numpy as np
import pytest

from backlane.clock import ManualClock
from backlane.cycle.context import QualityVerdict, Surroundings
from backlane.cycle.cycle_result import (
    CycleRefusal,
    CycleStage,
    CycleUniverse,
    Exclusion,
    FailureCode,
    NoTradeReason,
)
from backlane.cycle.run_cycle import reducing_part, run_cycle
from backlane.errors import FutureDataError
from backlane.execution.target_orders import OrderSide
from backlane.risk.codes import RiskCode
from backlane.risk.pretrade import PretradeCode
from backlane.risk.proposal import TradeProposal
from tests.unit.cycle.cycles import (
    context_of,
    panel_of,
    planned,
    proposing,
    stages_of,
    weighing,
)

NAN = float("nan")
HALF = weighing([0.5, 0.25, 0.0])
BUY = TradeProposal("S0", OrderSide.BUY, 0.03, 0.9)
SELL = TradeProposal("S1", OrderSide.SELL, 1.0, 0.9)


def cycle(strategy, context=None, **more):
    return run_cycle(context or context_of(), stages_of(planned(strategy), **more))


def fails(*_):
    raise ZeroDivisionError("as asked")


def test_weights_become_units_of_the_equity():
    """0.5 of 10,000 at 10 are 500 units, 0.25 at 20 are 125; what is held is taken off."""
    result = cycle(HALF)
    assert result.orders.quantity.tolist() == [500.0, 125.0, 0.0]
    assert [(each.id, each.symbol, each.price) for each in result.orders] == [
        (1, "S0", 10.0),
        (2, "S1", 20.0),
    ]
    assert result.is_success
    assert result.no_trade is None
    held = cycle(HALF, context_of(held=[600.0, 0.0, 7.0]))
    assert held.orders.quantity.tolist() == [-100.0, 125.0, -7.0]


def test_capital_is_what_the_book_says():
    context = context_of(change=lambda book: replace(book, capital=20_000.0))
    assert cycle(HALF, context).orders.quantity.tolist() == [1000.0, 250.0, 0.0]


def test_no_decision_keeps_flat_closes_and_neither_is_refused():
    held = [30.0, -5.0, 0.0]
    undecided = cycle(weighing([NAN, NAN, NAN]), context_of(held=held))
    assert (undecided.no_trade, len(undecided.orders)) == (NoTradeReason.NO_DECISION, 0)
    flat = cycle(weighing([0.0, 0.0, 0.0]), context_of(held=held))
    assert flat.no_trade is None
    assert flat.orders.quantity.tolist() == [-30.0, 5.0, 0.0]
    partly = cycle(weighing([NAN, 0.0, NAN]), context_of(held=held))
    assert partly.orders.quantity.tolist() == [0.0, 5.0, 0.0]
    nothing = cycle(weighing([0.0, 0.0, 0.0]))
    assert (nothing.no_trade, len(nothing.orders)) == (NoTradeReason.NOTHING_TO_CHANGE, 0)


def test_risk_that_removes_all_means_no_orders():
    result = cycle(HALF, risk={"orders": {"gross_notional_max": 1.0}})
    assert (result.no_trade, result.detail) == (NoTradeReason.RISK_BLOCKED, "max_gross_exposure")
    assert len(result.orders) == 0
    assert result.orders.quantity.tolist() == [0.0, 0.0, 0.0]
    assert result.drafts.quantity.tolist() == [500.0, 125.0, 0.0]
    assert result.refused_by_symbol == {
        "S0": (PretradeCode.MAX_GROSS,),
        "S1": (PretradeCode.MAX_GROSS,),
    }


def test_bad_data_means_no_orders_at_all():
    around = Surroundings(quality=QualityVerdict(True, "stale"))
    result = cycle(HALF, context_of(held=[9.0, 0.0, 9.0], around=around))
    assert (result.no_trade, result.detail) == (NoTradeReason.QUALITY_BLOCKED, "stale")
    assert len(result.orders) == 0
    assert set(result.refused_by_symbol) == {"S0", "S1", "S2"}


@pytest.mark.parametrize("is_in_plan", [False, True])
def test_the_kill_switch_stops_exits_too(is_in_plan: bool):
    around = Surroundings(is_halted=not is_in_plan)
    result = cycle(HALF, context_of(held=[0.0, 0.0, 9.0], around=around), risk={"halt": is_in_plan})
    assert (result.no_trade, result.detail) == (NoTradeReason.RISK_BLOCKED, "kill_switch")
    assert result.refused_by_symbol["S2"] == (RiskCode.HALT,)


def test_a_control_that_fails_lets_exits_pass_and_nothing_else():
    """600 held and 500 wanted: 100 are sold; -20 held and 125 wanted: 20 are bought back."""
    context = context_of(held=[600.0, -20.0, 7.0])
    result = run_cycle(context, replace(stages_of(planned(HALF)), risk=fails))
    assert result.orders.quantity.tolist() == [-100.0, 20.0, -7.0]
    assert result.refused_by_symbol == {"S1": (CycleRefusal.CONTROL_FAILED,)}
    assert (result.failure.stage, result.failure.code) == (
        CycleStage.RISK,
        FailureCode.STAGE_RAISED,
    )
    assert result.no_trade is NoTradeReason.FAILED
    assert "as asked" in result.detail


def test_risk_that_enlarges_an_order_has_failed():
    def doubles(context, universe, drafts):
        verdict = stages_of().risk(context, universe, drafts)
        return replace(verdict, quantity=verdict.quantity * 2.0)

    result = run_cycle(context_of(), replace(stages_of(planned(HALF)), risk=doubles))
    assert result.failure.code is FailureCode.BAD_OUTPUT
    assert "S0 was enlarged" in result.failure.message
    assert not result.orders.quantity.any()


STAGES = list(CycleStage)
OUTPUTS = ["universe", "features", "signals", "proposals", "drafts", "verdict", "orders"]


@pytest.mark.parametrize("stage", [each for each in STAGES if each is not CycleStage.RISK])
def test_what_was_computed_before_a_failure_is_kept(stage: CycleStage):
    stages = replace(stages_of(planned(HALF)), **{stage.value: fails})
    result = run_cycle(context_of(), stages)
    assert (result.failure.stage, result.failure.code) == (stage, FailureCode.STAGE_RAISED)
    assert isinstance(result.failure.error, ZeroDivisionError)
    reached = STAGES.index(stage)
    assert [getattr(result, name) is not None for name in OUTPUTS] == [
        place < reached for place in range(len(STAGES))
    ]
    assert list(result.timings_s) == STAGES[: reached + 1]


def test_every_stage_is_asked_once_in_order_and_timed():
    clock, called = ManualClock(), []

    def noting(name, stage):
        def noted(*arguments):
            called.append(name)
            clock.advance(1.0 + len(called))
            return stage(*arguments)

        return noted

    stages = stages_of(planned(HALF))
    wrapped = replace(
        stages, **{each.value: noting(each, getattr(stages, each.value)) for each in STAGES}
    )
    result = run_cycle(context_of(around=Surroundings(clock=clock)), wrapped)
    assert called == STAGES
    assert list(result.timings_s.values()) == [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]


def test_a_strategy_that_asks_for_later_data_is_found_out():
    def peeks(context, universe, features):
        return context.until(context.as_of_ns + 1)

    result = run_cycle(context_of(), replace(stages_of(planned(HALF)), signals=peeks))
    assert result.failure.code is FailureCode.FUTURE_DATA
    assert isinstance(result.failure.error, FutureDataError)


@pytest.mark.parametrize(
    ("weights", "said"),
    [([0.5, 0.5], "shape"), ([0.5, float("inf"), 0.0], "infinite")],
)
def test_signals_of_another_shape_are_a_failure(weights, said):
    result = cycle(weighing(weights))
    assert result.failure.stage is CycleStage.SIGNALS
    assert said in result.failure.message


def test_without_a_bar_nothing_is_decided():
    result = cycle(HALF, context_of().until(0))
    assert (result.failure.stage, result.failure.code) == (
        CycleStage.UNIVERSE,
        FailureCode.NO_BARS,
    )


def test_an_instrument_without_a_bar_is_not_entered_but_left():
    panel = panel_of((10.0, 20.0, 40.0))
    panel.close[-1, 1] = NAN
    context = context_of(panel, held=[0.0, 8.0, 0.0])
    entered = cycle(weighing([0.5, 0.5, 0.0]), context)
    assert entered.orders.quantity.tolist() == [500.0, 0.0, 0.0]
    left = cycle(weighing([0.5, 0.0, 0.0]), context)
    assert left.orders.quantity.tolist() == [500.0, -8.0, 0.0]
    assert entered.universe.excluded == {"S1": Exclusion.NO_BAR}


def test_the_universe_says_who_may_be_entered_and_why_not():
    result = cycle(
        weighing([0.2, 0.2, 0.2]),
        universe={"symbols": ["s0", "S2"], "excluded": ["s2"], "history_bars_min": 3},
    )
    assert result.universe.is_member.tolist() == [True, False, False]
    assert result.universe.excluded == {"S1": Exclusion.NOT_LISTED, "S2": Exclusion.EXCLUDED}
    assert result.orders.quantity.tolist() == [200.0, 0.0, 0.0]
    young = cycle(HALF, universe={"history_bars_min": 4})
    assert young.no_trade is NoTradeReason.EMPTY_UNIVERSE
    assert set(young.universe.excluded.values()) == {Exclusion.TOO_LITTLE_HISTORY}
    # close * volume: 1,000, 2,000 and 4,000 at every bar
    traded = cycle(HALF, universe={"traded_value_min": 2_000.0})
    assert traded.universe.is_member.tolist() == [False, True, True]
    assert traded.universe.excluded == {"S0": Exclusion.TOO_LITTLE_TRADED}


def test_an_empty_universe_still_lets_positions_be_closed():
    context = context_of(held=[5.0, 0.0, 0.0])
    result = cycle(HALF, context, universe={"history_bars_min": 4})
    assert result.orders.quantity.tolist() == [-5.0, 0.0, 0.0]


# --- trades --------------------------------------------------------------------------------------


def test_trades_become_units_and_sells_only_exits():
    """3 % of 10,000 at 10 are 30 units; of the 8 held 8 are sold, however much is asked."""
    result = cycle(proposing(BUY, SELL), context_of(held=[0.0, 8.0, 0.0]))
    assert result.orders.quantity.tolist() == [30.0, -8.0, 0.0]
    assert [each.proposal.symbol for each in result.orders] == ["S0", "S1"]
    assert {each.symbol for each in result.approved} == {"S0", "S1"}
    unheld = cycle(proposing(SELL))
    assert (unheld.no_trade, unheld.detail) == (NoTradeReason.NOTHING_TO_CHANGE, "nothing_held")
    part = cycle(proposing(replace(SELL, size=0.01)), context_of(held=[0.0, 8.0, 0.0]))
    assert part.orders.quantity.tolist() == [0.0, -5.0, 0.0]


def test_what_no_strategy_proposes_has_its_own_reasons():
    assert cycle(proposing()).no_trade is NoTradeReason.NO_PROPOSALS
    assert cycle(proposing(signals=())).no_trade is NoTradeReason.NO_CANDIDATES


def test_trades_are_cut_and_refused_by_name():
    risk = {"trades": {"position_size_max": 0.02, "open_positions_max": 1}}
    other = TradeProposal("S2", OrderSide.BUY, 0.01, 0.5)
    stranger = TradeProposal("XX", OrderSide.BUY, 0.01, 0.5)
    result = cycle(proposing(BUY, other, stranger), risk=risk)
    # chop: 0.02 * 0.8 of 10,000 at 10
    assert result.orders.quantity.tolist() == pytest.approx([16.0, 0.0, 0.0])
    assert [each.size for each in result.approved] == pytest.approx([0.016])
    assert result.refused_by_symbol == {
        "XX": (CycleRefusal.NOT_IN_UNIVERSE,),
        "S2": (RiskCode.MAX_OPEN_POSITIONS,),
    }


def test_exits_pass_every_stop():
    context = context_of(held=[0.0, 8.0, 0.0], change=lambda book: replace(book, daily_return=-0.5))
    result = cycle(proposing(BUY, SELL), context)
    assert result.orders.quantity.tolist() == [0.0, -8.0, 0.0]
    assert result.refused_by_symbol == {"S0": (RiskCode.DAILY_STOP_LOSS,)}
    assert result.verdict.stop is RiskCode.DAILY_STOP_LOSS


def test_several_strategies_give_one_proposal_for_an_instrument():
    stages = stages_of(
        planned(proposing(BUY), "first"),
        planned(proposing(replace(BUY, confidence=0.95, size=0.01)), "second", weight=2.0),
    )
    result = run_cycle(context_of(), stages)
    assert result.orders.quantity.tolist() == [20.0, 0.0, 0.0]
    assert [each.strategy for each in result.approved] == ["second"]
    assert [each.strategy for each in result.proposals.refused] == ["first"]


def test_several_books_are_combined_by_their_weights():
    """0.6 * 0.5 + 0.4 * -0.25 = 0.2; where one is undecided, what it said last counts: nothing."""
    stages = stages_of(
        planned(weighing([0.5, NAN, NAN]), "first", weight=0.6),
        planned(weighing([-0.25, 0.5, NAN]), "second", weight=0.4),
    )
    result = run_cycle(context_of(), stages)
    np.testing.assert_allclose(result.proposals.weights, [0.2, 0.2, NAN], rtol=1e-15)
    np.testing.assert_allclose(result.orders.quantity, [200.0, 100.0, 0.0], rtol=1e-15)


# --- limits on targets ---------------------------------------------------------------------------


def test_an_order_that_turns_a_position_is_judged_in_two():
    """-30 held, 50 wanted: 30 are bought back whatever the limits; of the other 50, 40 % fit."""
    strategy = weighing([0.05, NAN, NAN])
    context = context_of(held=[-30.0, 0.0, 0.0])
    free = cycle(strategy, context)
    assert free.orders.quantity.tolist() == [80.0, 0.0, 0.0]
    stopped = cycle(
        strategy,
        context_of(held=[-30.0, 0.0, 0.0], change=lambda book: replace(book, weekly_return=-0.2)),
        risk={"stops": {"weekly_loss_max": 0.1}},
    )
    assert stopped.orders.quantity.tolist() == [30.0, 0.0, 0.0]
    assert stopped.refused_by_symbol == {"S0": (RiskCode.WEEKLY_STOP_LOSS,)}
    cut = cycle(strategy, context, risk={"orders": {"weight_per_symbol_max": 0.02}})
    assert cut.orders.quantity.tolist() == [50.0, 0.0, 0.0]
    assert [
        (each.code, each.quantity_before, each.quantity_after) for each in cut.verdict.cuts
    ] == [(PretradeCode.MAX_WEIGHT, 50.0, 20.0)]
    closed = cycle(strategy, context, risk={"orders": {"gross_notional_max": 1.0}})
    assert closed.orders.quantity.tolist() == [30.0, 0.0, 0.0]


def test_the_part_that_reduces():
    held, orders = np.array([100.0, 100.0, 100.0, -50.0]), np.array([-150.0, -30.0, 10.0, 20.0])
    assert reducing_part(held, orders).tolist() == [-100.0, -30.0, 0.0, 20.0]


def test_a_universe_of_another_shape_is_a_failure():
    stages = replace(stages_of(planned(HALF)), universe=lambda _: CycleUniverse(np.ones(2, bool)))
    result = run_cycle(context_of(), stages)
    assert (result.failure.stage, result.failure.code) == (
        CycleStage.UNIVERSE,
        FailureCode.BAD_OUTPUT,
    )
