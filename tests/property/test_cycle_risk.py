"""Laws of risk inside a cycle (SPEC C4, 7), over any book, any targets and any limits."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.cycle.context import Surroundings
from backlane.cycle.run_cycle import reducing_part, run_cycle
from backlane.execution.target_orders import MIN_ORDER_QUANTITY
from tests.unit.cycle.cycles import context_of, planned, stages_of, weighing

LAW = settings(deadline=None, derandomize=True, max_examples=120)
rows = st.lists(st.integers(-40, 40).map(float), min_size=3, max_size=3)
weights = st.lists(
    st.one_of(st.just(float("nan")), st.just(0.0), st.floats(-0.5, 0.5)), min_size=3, max_size=3
)
share = st.sampled_from((0.0, 0.05, 0.3, 1.0))
limits = st.fixed_dictionaries(
    {
        "orders": st.fixed_dictionaries(
            {},
            optional={
                "notional_per_symbol_max": st.sampled_from((0.0, 500.0, 5_000.0)),
                "weight_per_symbol_max": share,
                "sector_exposure_max": share,
                "turnover_max": share,
                "drawdown_threshold": share,
                "gross_notional_max": st.sampled_from((0.0, 1_000.0)),
            },
        ),
        "stops": st.fixed_dictionaries({}, optional={"daily_loss_max": st.just(0.05)}),
        "groups": st.just({"S0": {"sector": "X"}, "S1": {"sector": "X"}}),
    }
)
facts = st.fixed_dictionaries(
    {
        "daily_return": st.sampled_from((0.0, -0.1)),
        "peak_equity": st.sampled_from((10_000.0, 15_000.0)),
    }
)


@LAW
@given(held=rows, wanted=weights, risk=limits, book=facts)
def test_limits_only_cut_and_never_what_reduces(
    held: list[float], wanted: list[float], risk: dict[str, Any], book: dict[str, float]
) -> None:
    context = context_of(held=held, **book)
    result = run_cycle(context, stages_of(planned(weighing(wanted)), risk=risk))
    assert result.is_success, result.detail
    if result.drafts is None or result.verdict is None:
        return
    drafted, left = result.drafts.quantity, result.verdict.quantity
    reducing = reducing_part(np.array(held), drafted)
    slack = MIN_ORDER_QUANTITY
    assert (np.abs(left) <= np.abs(drafted) + slack).all()
    assert (np.abs(left) >= np.abs(reducing) - slack).all()
    assert (left * drafted >= 0.0).all()
    gone = {
        context.symbols[each] for each in np.flatnonzero((left == 0.0) & (np.abs(drafted) > slack))
    }
    assert gone <= set(result.refused_by_symbol)


@LAW
@given(held=rows, wanted=weights)
def test_going_flat_closes_whatever_the_limits(held: list[float], wanted: list[float]) -> None:
    risk = {
        "orders": {"gross_notional_max": 0.0, "turnover_max": 0.0, "weight_per_symbol_max": 0.0},
        "stops": {"daily_loss_max": 0.01, "drawdown_max": 0.01},
    }
    context = context_of(held=held, daily_return=-0.5, peak_equity=20_000.0)
    result = run_cycle(context, stages_of(planned(weighing([0.0, 0.0, 0.0])), risk=risk))
    assert (result.orders.quantity + np.array(held)).tolist() == [0.0, 0.0, 0.0]
    halted = context_of(held=held, around=Surroundings(is_halted=True))
    assert len(run_cycle(halted, stages_of(planned(weighing(wanted)))).orders) == 0


@LAW
@given(held=rows, wanted=weights, risk=limits)
def test_a_failing_control_leaves_the_exits(
    held: list[float], wanted: list[float], risk: dict[str, Any]
) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("on purpose")

    context = context_of(held=held)
    stages = stages_of(planned(weighing(wanted)), risk=risk)
    result = run_cycle(context, replace(stages, risk=fails))
    if result.failure is None:
        assert not result.orders.quantity.any()
        return
    expected = reducing_part(np.array(held), result.drafts.quantity)
    assert result.orders.quantity.tolist() == expected.tolist()


@LAW
@given(held=rows, wanted=weights, risk=limits, book=facts)
def test_the_same_context_gives_the_same_result(
    held: list[float], wanted: list[float], risk: dict[str, Any], book: dict[str, float]
) -> None:
    results = [
        run_cycle(context_of(held=held, **book), stages_of(planned(weighing(wanted)), risk=risk))
        for _ in range(2)
    ]
    assert results[0].orders.quantity.tobytes() == results[1].orders.quantity.tobytes()
    assert results[0].refusals == results[1].refusals
    assert [each.id for each in results[0].orders] == [each.id for each in results[1].orders]
