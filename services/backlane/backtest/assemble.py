"""From the arrays of a finished loop to a result with metrics, a funnel and digests."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.digest import digest_arrays, digest_config
from backlane.backtest.funnel import FunnelStage, build_funnel
from backlane.backtest.prepare import Prepared
from backlane.backtest.request import BacktestRequest
from backlane.backtest.result import BacktestRun, Provenance
from backlane.backtest.rules import effective_config
from backlane.backtest.switches import Switches
from backlane.backtest.window import Window
from backlane.cycle.loop import Outputs
from backlane.decisions.decision import DecisionReason
from backlane.decisions.scores import Scores
from backlane.execution.order import OrderOutcome
from backlane.features.matrix import FeatureMatrix
from backlane.market.bars import BarSeries
from backlane.metrics.rules import Annualization
from backlane.metrics.sample import HOUR_NS, Sample
from backlane.metrics.summary import summarize
from backlane.portfolio.position import ExitReason


def assemble_run(
    request: BacktestRequest,
    prepared: Prepared,
    state: NDArray[np.void],
    outputs: Outputs,
    *,
    dataset_digests: Mapping[str, str],
    versions: Mapping[str, str],
) -> BacktestRun:
    """Returns the result; every array is cut to the simulated bars."""
    model, switches, window = prepared.model, prepared.switches, prepared.window
    features, scores, first_index = prepared.features, prepared.scores, prepared.first_index
    rows = slice(first_index, None)
    trades = outputs.trades[: int(state["trade_count"][0])].copy()
    fills = outputs.fills[: int(state["fill_count"][0])].copy()
    for records, columns in ((trades, ("entry_index", "exit_index")), (fills, ("bar_index",))):
        for column in columns:
            records[column] -= first_index
    final_cash = float(state["cash"][0])
    base = window.base.rows(first_index, len(window.base))
    equity, cash, position = (
        outputs.equity[rows],
        outputs.cash[rows],
        outputs.position[rows],
    )
    if switches.forced_close_in_equity and _was_forced(trades):
        equity[-1], cash[-1], position[-1] = final_cash, final_cash, 0.0
    sample = _sample(request, switches, base, equity, position, trades, fills)
    config = effective_config(request, prepared.decisions, switches) | {
        "timeframe": base.timeframe.label
    }
    cut_features = FeatureMatrix(features.values[rows], features.names, 0)
    cut_scores = Scores(
        scores.names,
        scores.values[rows],
        scores.raw_decision[rows],
        scores.confidence[rows],
        scores.reason[rows],
    )
    decision, reason = outputs.decision[rows], outputs.reason[rows]
    order_digest = digest_arrays({"fills": fills.view(np.ndarray)})
    result_digest = digest_arrays(
        {
            "time": base.open_time_ns,
            "features": cut_features.values,
            "scores": cut_scores.values,
            "decision": decision,
            "reason": reason,
            "equity": equity,
            "cash": cash,
            "position": position,
            "trades": trades.view(np.ndarray),
            "fills": fills.view(np.ndarray),
        }
    )
    provenance = Provenance(
        dict(dataset_digests),
        model.digest,
        digest_config(config),
        order_digest,
        result_digest,
        dict(versions),
    )
    return BacktestRun(
        request,
        model,
        base,
        cut_features,
        cut_scores,
        decision,
        reason,
        equity,
        cash,
        position,
        trades,
        fills,
        summarize(sample),
        _funnel(window, base, state, fills),
        config,
        provenance,
        final_cash,
    )


def _was_forced(trades: NDArray[np.void]) -> bool:
    return len(trades) > 0 and bool(trades["exit_reason"][-1] == ExitReason.END_OF_DATA)


def _sample(
    request: BacktestRequest,
    switches: Switches,
    base: BarSeries,
    equity: NDArray[np.float64],
    position: NDArray[np.float64],
    trades: NDArray[np.void],
    fills: NDArray[np.void],
) -> Sample:
    marked = ~np.isnan(equity)
    first_ns: int | None = int(base.open_time_ns[0])
    last_ns: int | None = int(base.close_time_ns[-1])
    if switches.annualization is Annualization.BARS_252:
        first_ns, last_ns = request.first_bar_ns(), request.last_bar_ns()
    return Sample(
        rules=switches.metric_rules,
        initial_cash=request.initial_cash,
        time_ns=base.open_time_ns[marked],
        equity=equity[marked],
        position=position[marked],
        net_pnl=trades["net_pnl"],
        holding_hours=(trades["holding_end_ns"] - trades["entry_time_ns"]) / HOUR_NS,
        commission=float(np.sum(fills["commission"])),
        slippage=float(
            np.sum(np.abs(fills["price"] - fills["reference_price"]) * fills["quantity"])
        ),
        first_ns=first_ns,
        last_ns=last_ns,
    )


def _funnel(
    window: Window, base: BarSeries, state: NDArray[np.void], fills: NDArray[np.void]
) -> tuple[FunnelStage, ...]:
    reasons = {DecisionReason(i): int(n) for i, n in enumerate(state["reason_counts"][0])}
    outcomes = {OrderOutcome(i): int(n) for i, n in enumerate(state["outcome_counts"][0])}
    if state["pending"][0] != 0:
        outcomes[OrderOutcome.EXPIRED_LAST_BAR] = 1
    asked = len(window.base) - window.start_index
    return build_funnel(asked, len(base), reasons, outcomes, len(fills))
