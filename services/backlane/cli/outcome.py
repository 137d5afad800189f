"""What a finished run gave, for people and for programs; the same for local and remote runs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backlane.cli.output import print_table, say
from backlane.cli.status import short_time

if TYPE_CHECKING:
    from backlane.backtest.summary import MetricSummary, ResultSummary

UNDEFINED = "undefined"

_FRACTIONS = frozenset(
    {
        "total_return_pct",
        "annualized_return",
        "volatility",
        "max_drawdown_pct",
        "exposure_time",
        "win_rate",
    }
)
_COUNTS = frozenset({"total_trades", "winning_trades", "losing_trades"})
_RATIOS = frozenset(
    {
        "sharpe_ratio",
        "sortino_ratio",
        "calmar_ratio",
        "recovery_factor",
        "profit_factor",
        "turnover",
    }
)


def unit_of(metric_id: str) -> str:
    """Returns fraction, count, ratio, hours, days or money, as the definitions have it."""
    if metric_id in _FRACTIONS:
        return "fraction"
    if metric_id in _COUNTS:
        return "count"
    if metric_id in _RATIOS:
        return "ratio"
    if metric_id.endswith("_holding_period"):
        return "hours"
    return "days" if metric_id.endswith("_days") else "money"


def format_metric(metric: "MetricSummary") -> str:
    """Returns the value for people: fractions as percent, money with two digits."""
    if metric.value is None:
        return UNDEFINED
    match unit_of(metric.id):
        case "fraction":
            return f"{100 * metric.value:,.2f} %"
        case "count":
            return f"{metric.value:,.0f}"
        case "ratio":
            return f"{metric.value:,.3f}"
        case "hours":
            return f"{metric.value:,.1f} h"
        case "days":
            return f"{metric.value:,.1f} days"
        case _:
            return f"{metric.value:,.2f}"


def print_outcome(summary: "ResultSummary", *, operation: str | None, out: Path | None) -> None:
    """Writes the metrics, the funnel, why there are no trades, and where everything is."""
    request = summary.request
    model = request.model.path or request.model.resource_name
    period = f"{short_time(summary.first_bar_ns)} to {short_time(summary.last_bar_ns)} UTC"
    say()
    say(f"{model} on {request.symbol} {request.timeframe}, {period}")
    print_table(
        ("metric", "value", ""),
        [(each.id, format_metric(each), _remark(each)) for each in summary.metrics],
        right=("value",),
    )
    print_table(
        ("funnel", "entered", "passed", "dropped"),
        [
            (stage.name, f"{stage.entered_count:,}", f"{stage.passed_count:,}", _drops(stage.drops))
            for stage in summary.funnel
        ],
        right=("entered", "passed"),
    )
    if summary.no_trades_because:
        say(summary.no_trades_because)
        say()
    say(f"result digest  {summary.result_digest}")
    if summary.timings:
        say(f"took           {format_timings(summary.timings)}")
    if operation is not None:
        say(f"operation      {operation}")
    if out is not None:
        say(f"result files   {out}")
    elif operation is not None:
        say(f"result files   backlane backtest result {operation} --out DIR")


def outcome_document(
    summary: "ResultSummary", *, operation: str | None, out: Path | None
) -> dict[str, Any]:
    """Returns what `--json` says of a finished run; names are those of result.json."""
    provenance = summary.provenance
    return {
        "operation": operation,
        "result_digest": summary.result_digest,
        "metrics": {each.id: _plain(each) for each in summary.metrics},
        "undefined_metrics": {
            each.id: each.undefined_reason for each in summary.metrics if each.value is None
        },
        "annualization": {
            each.id: each.annualization for each in summary.metrics if each.annualization
        },
        "sample_counts": {each.id: each.sample_count for each in summary.metrics},
        "funnel": [
            {
                "stage": stage.name,
                "entered": stage.entered_count,
                "passed": stage.passed_count,
                "dropped": dict(stage.drops),
            }
            for stage in summary.funnel
        ],
        "no_trades_because": summary.no_trades_because,
        "first_bar": iso_time(summary.first_bar_ns),
        "last_bar": iso_time(summary.last_bar_ns),
        "request": summary.request.model_dump(mode="json", exclude_defaults=True),
        "datasets": dict(provenance.dataset_digests),
        "model_digest": provenance.model_digest,
        "config_digest": provenance.config_digest,
        "order_digest": provenance.order_digest,
        "versions": dict(provenance.versions),
        "timings": dict(summary.timings),
        "out": None if out is None else str(out),
    }


def format_timings(timings: Mapping[str, float]) -> str:
    """Returns the seconds in all, then those of each phase."""
    phases = ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in timings.items())
    return f"{sum(timings.values()):.2f} s: {phases}"


def iso_time(time_ns: int) -> str:
    """Returns 2023-01-01T22:00:00Z; fractions of a second are kept where there are any."""
    whole = f"{datetime.fromtimestamp(time_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}"
    fraction = time_ns % 10**9
    return f"{whole}.{fraction:09d}Z" if fraction else f"{whole}Z"


def _remark(metric: "MetricSummary") -> str:
    return metric.undefined_reason if metric.value is None else metric.annualization


def _drops(drops: Mapping[str, int]) -> str:
    ordered = sorted(drops.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {reason}" for reason, count in ordered)


def _plain(metric: "MetricSummary") -> float | int | None:
    is_count = metric.id in _COUNTS
    return int(metric.value) if is_count and metric.value is not None else metric.value
