"""The engine over real features and a small real predictor."""

import numpy as np
import pytest

from backlane.backtest.engine import run_backtest
from backlane.backtest.funnel import explain_no_trades
from backlane.backtest.observer import SilentObserver
from backlane.backtest.request import parse_request
from backlane.cycle.loop import Slot, new_slot
from backlane.decisions.decision import DecisionReason
from backlane.errors import (
    CancelledRunError,
    DataRangeEmptyError,
    InvalidRequestError,
    ModelNotTradableError,
    NanFeaturesError,
    NotEnoughBarsError,
)
from backlane.execution.order import ExitReason
from backlane.inference.model_info import ModelHead
from tests.builders import LinearPredictor, make_model, random_bars

BARS = random_bars(11, 1500)


def ask(**fields):
    return parse_request({"model": {"name": "test"}, "symbol": "TEST"} | fields)


def run(request=None, *, bars=BARS, model=None, **options):
    predictor = LinearPredictor(model or make_model())
    return run_backtest(
        request or ask(), predictor, {"1h": bars}, dataset_digests={"1h": "sha256:x"}, **options
    )


def iso(bars, index: int) -> str:
    return f"{np.datetime64(int(bars.open_time_ns[index]), 'ns').astype('datetime64[s]')}Z"


def test_it_trades_and_every_bar_is_accounted_for() -> None:
    result = run()
    assert len(result.trades) > 10
    assert sum(result.funnel[0].drops.values()) + len(result.bars) == len(BARS)
    for stage in result.funnel:
        assert stage.entered_count == stage.passed_count + sum(stage.drops.values())
    assert result.funnel[-1].passed_count == len(result.fills)


def test_the_simulation_starts_at_the_first_complete_row_of_features() -> None:
    result = run()
    # sma_8 is complete at index 7, rsi_5 at index 5
    assert result.bars.open_time_ns[0] == BARS.open_time_ns[7]
    assert not np.isnan(result.features.values).any()


def test_history_before_the_start_warms_the_indicators() -> None:
    result = run(ask(start=iso(BARS, 700)))
    assert result.bars.open_time_ns[0] == BARS.open_time_ns[700]
    cold = run(ask(start=iso(BARS, 700), switches={"history_before_start": False}))
    assert cold.bars.open_time_ns[0] == BARS.open_time_ns[707]


def test_nothing_after_the_end_matters() -> None:
    early = run(ask(end=iso(BARS, 900)))
    cut = run(ask(), bars=BARS.rows(0, 901))
    assert early.provenance.result_digest == cut.provenance.result_digest


def test_truncating_the_future_changes_no_earlier_bit() -> None:
    whole, cut = run(), run(bars=BARS.rows(0, 800))
    count = len(cut.bars) - 1  # the forced close changes the last point
    for name in ("decision", "reason"):
        np.testing.assert_array_equal(getattr(whole, name)[:count], getattr(cut, name)[:count])
    assert whole.features.values[:count].tobytes() == cut.features.values[:count].tobytes()
    assert whole.equity[:count].tobytes() == cut.equity[:count].tobytes()
    fills = len(cut.fills) - int(cut.trades["exit_reason"][-1] == 2)
    assert whole.fills[:fills].tobytes() == cut.fills[:fills].tobytes()


def test_the_same_run_twice_has_the_same_digests() -> None:
    assert run().provenance == run().provenance


def test_a_cost_changes_the_digests_but_not_the_features() -> None:
    cheap, dear = run(ask(commission_rate=0)), run(ask(commission_rate=0.01))
    assert cheap.provenance.result_digest != dear.provenance.result_digest
    assert cheap.provenance.config_digest != dear.provenance.config_digest
    assert cheap.features.values.tobytes() == dear.features.values.tobytes()


def test_a_run_without_trades_says_why() -> None:
    result = run(ask(decisions={"confidence_threshold": 1.0}))
    assert len(result.trades) == 0
    sentence = explain_no_trades(result.funnel)
    assert "none of" in sentence
    assert "BELOW_CONFIDENCE" in sentence
    assert result.metric("win_rate") is None


def test_the_observer_is_told_everything_in_order() -> None:
    class Recorder(SilentObserver):
        def __init__(self) -> None:
            self.phases: list[str] = []
            self.trades: list[int] = []

        def entered(self, phase, total_units) -> None:
            self.phases.append(phase)

        def simulated(self, bar_index, time_ns, equity, trades) -> None:
            self.trades.extend(int(number) for number in trades["number"])

    recorder = Recorder()
    result = run(observer=recorder)
    assert recorder.phases == ["features", "inference", "simulation", "metrics"]
    assert recorder.trades == list(range(1, len(result.trades) + 1))


def test_cancel_ends_the_run() -> None:
    slot = new_slot()
    slot[Slot.CANCEL] = 1
    with pytest.raises(CancelledRunError):
        run(slot=slot)


def test_a_regime_model_is_refused() -> None:
    with pytest.raises(ModelNotTradableError, match="regime"):
        run(model=make_model(head=ModelHead.REGIME))


def test_a_regression_model_may_be_short_and_knows_no_threshold() -> None:
    result = run(model=make_model(head=ModelHead.REGRESSION))
    assert (result.trades["side"] == -1).any()
    assert not (result.reason == DecisionReason.BELOW_CONFIDENCE).any()


def test_a_range_without_bars_says_what_there_is() -> None:
    with pytest.raises(DataRangeEmptyError, match="2023-01-01T01:00:00Z"):
        run(ask(start="2030-01-01"))


def test_too_few_bars_are_refused() -> None:
    with pytest.raises(NotEnoughBarsError, match="needs 8 bars of 1h, and there are 7"):
        run(bars=BARS.rows(0, 7))
    with pytest.raises(NotEnoughBarsError, match="All of the 50 bars"):
        run(ask(switches={"fixed_warmup_bars": 50}), bars=BARS.rows(0, 50))


def test_another_timeframe_than_the_models_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="trained on 1h"):
        run(ask(timeframe="5m"))


def test_nan_features_end_a_run_that_says_so() -> None:
    fields = {"switches": {"nan_features": "abort", "fixed_warmup_bars": 3}}
    with pytest.raises(NanFeaturesError, match="is NaN at the simulated bar"):
        run(ask(**fields))
    held = run(ask(switches={"fixed_warmup_bars": 3}))
    assert list(held.reason[:4]) == [DecisionReason.FEATURE_NAN] * 4


def test_exits_costs_and_leverage_reach_the_loop() -> None:
    result = run(
        ask(
            exits={"stop_loss": 0.003, "take_profit": 0.004, "max_holding_bars": 5},
            costs={"spread_rate": 0.0002, "borrow_rate": 0.1, "overnight_rate_long": 0.05},
            margin={"leverage": 3},
            sizing={"target_volatility": 0.2},
            decisions={"allow_short_from_flat": True, "filters": {"min_signal_separation": 0}},
        )
    )
    reasons = {ExitReason(int(reason)) for reason in result.trades["exit_reason"]}
    assert {ExitReason.STOP_LOSS, ExitReason.TAKE_PROFIT, ExitReason.TIME_EXIT} <= reasons
    assert result.trades["financing"].sum() > 0
    net = result.trades["gross_pnl"] - result.trades["commission"] - result.trades["financing"]
    np.testing.assert_array_equal(result.trades["net_pnl"], net)
    assert result.metric("total_return") == pytest.approx(net.sum(), abs=1e-6)


def test_a_target_volatility_trades_less_when_prices_swing_more() -> None:
    calm = run(ask(sizing={"target_volatility": 0.05}))
    bold = run(ask(sizing={"target_volatility": 0.2}))
    assert calm.fills["quantity"][0] < bold.fills["quantity"][0]
