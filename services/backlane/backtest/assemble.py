"""From the arrays of a finished loop to a result with metrics, a funnel and digests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

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
from backlane.execution.order import ExitReason, OrderOutcome
from backlane.features.matrix import FeatureMatrix
from backlane.market.bars import BarSeries
from backlane.metrics.rules import Annualization
from backlane.metrics.sample import HOUR_NS, Sample
from backlane.metrics.summary import summarize


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
    final_cash = float(state["cash"][0])
    base = window.base.rows(first_index, len(window.base))
    curves = _cut_curves(outputs, first_index)
    trades, fills = _cut_records(state, outputs, first_index)
    if switches.forced_close_in_equity and _was_forced(trades):
        for name, value in (("equity", final_cash), ("cash", final_cash), ("position", 0.0)):
            curves[name][-1] = value
    sample = _sample(request, switches, base, curves, trades, fills)
    config = effective_config(request, prepared.decisions, switches)
    config["timeframe"] = base.timeframe.label
    run = BacktestRun(
        request=request,
        model=model,
        bars=base,
        features=FeatureMatrix(features.values[first_index:], features.names, 0),
        scores=scores.after(first_index),
        decision=outputs.decision[first_index:],
        reason=outputs.reason[first_index:],
        equity=curves["equity"],
        cash=curves["cash"],
        position=curves["position"],
        trades=trades,
        fills=fills,
        metrics=summarize(sample),
        funnel=_funnel(window, base, state, fills),
        config=config,
        provenance=Provenance(dict(dataset_digests), model.digest, "", "", "", dict(versions)),
        final_cash=final_cash,
    )
    return replace(run, provenance=_with_digests(run))


def _with_digests(run: BacktestRun) -> Provenance:
    fills = run.fills.view(np.ndarray)
    outputs: dict[str, NDArray[Any]] = {
        "time": run.bars.open_time_ns,
        "features": run.features.values,
        "scores": run.scores.values,
        "decision": run.decision,
        "reason": run.reason,
        "equity": run.equity,
        "cash": run.cash,
        "position": run.position,
        "trades": run.trades.view(np.ndarray),
        "fills": fills,
    }
    return replace(
        run.provenance,
        config_digest=digest_config(run.config),
        order_digest=digest_arrays({"fills": fills}),
        result_digest=digest_arrays(outputs),
    )


def _cut_curves(outputs: Outputs, first_index: int) -> dict[str, NDArray[np.float64]]:
    names = ("equity", "cash", "position")
    return {name: getattr(outputs, name)[first_index:] for name in names}


def _cut_records(
    state: NDArray[np.void], outputs: Outputs, first_index: int
) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Returns trades and fills, their indices counted from the first simulated bar."""
    trades = outputs.trades[: int(state["trade_count"][0])].copy()
    fills = outputs.fills[: int(state["fill_count"][0])].copy()
    for records, column in (
        (trades, "entry_index"),
        (trades, "exit_index"),
        (fills, "bar_index"),
    ):
        records[column] -= first_index
    return trades, fills


def _was_forced(trades: NDArray[np.void]) -> bool:
    return len(trades) > 0 and bool(trades["exit_reason"][-1] == ExitReason.END_OF_DATA)


def _sample(
    request: BacktestRequest,
    switches: Switches,
    base: BarSeries,
    curves: Mapping[str, NDArray[np.float64]],
    trades: NDArray[np.void],
    fills: NDArray[np.void],
) -> Sample:
    equity = curves["equity"]
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
        position=curves["position"][marked],
        net_pnl=trades["net_pnl"],
        holding_hours=(trades["holding_end_ns"] - trades["entry_time_ns"]) / HOUR_NS,
        commission=float(np.sum(fills["commission"])),
        slippage=float(
            np.sum(np.abs(fills["price"] - fills["reference_price"]) * fills["quantity"])
        ),
        financing=float(np.sum(trades["financing"])),
        traded_value=float(np.sum(fills["price"] * fills["quantity"])),
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
