"""The raw values of a strategy's indicators at one bar, before they became features."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from backlane.audit.stamp import iso_time
from backlane.backtest.switches import Switches
from backlane.features.align import visible_rows
from backlane.features.names import select_features
from backlane.features.plan import FeaturePlan, PlannedIndicator, plan_features
from backlane.indicators.indicator import ALL_BARS
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries


@dataclass(frozen=True, slots=True)
class IndicatorValue:
    """One output of an indicator at the bar of its timeframe that was seen; None says why not."""

    timeframe: str
    indicator: str
    value: float | None
    bar_ns: int | None
    reason: str = ""


def indicators_at(
    info: ModelInfo,
    switches: Switches,
    bars: Mapping[str, BarSeries],
    time_ns: int,
    *,
    is_cut: bool,
) -> tuple[IndicatorValue, ...]:
    """Returns every indicator that the model's features use, at the base bar of `time_ns`.

    `bars` are those of the run, for each timeframe that is at hand. `is_cut` says that they are the
    simulated bars alone: then a value is only given where enough of them lie before it.
    """
    rules = switches.feature_rules
    features = select_features(info.strategy, info.features, drop_extra=rules.drop_extra_features)
    plan = plan_features(info.strategy, rules, features)
    base = bars.get(info.strategy.timeframes[0])
    found = []
    for timeframe, indicator, group in plan.by_indicator():
        names = dict.fromkeys((_name(plan, column), output) for column, _, output in group)
        series = bars.get(timeframe)
        if series is None or base is None:
            reason = f"the bars of {timeframe} are not at hand"
            found += [IndicatorValue(timeframe, name, None, None, reason) for name, _ in names]
            continue
        row = _seen_row(base, series, time_ns, switches)
        reason = _unknown(indicator, series, row, is_cut=is_cut)
        if reason:
            found += [IndicatorValue(timeframe, name, None, None, reason) for name, _ in names]
            continue
        outputs = indicator.type.outputs_of(
            series,
            indicator.parameters,
            warmup_fillers=rules.warmup_fillers,
            reference_indicators=rules.reference_indicators,
        )
        bar_ns = int(series.open_time_ns[row])
        for name, output in names:
            value = float(outputs[output][row])
            is_known = not np.isnan(value)
            reason = "" if is_known else "it is not known yet: the indicator is warming up"
            found.append(
                IndicatorValue(timeframe, name, value if is_known else None, bar_ns, reason)
            )
    return tuple(found)


def _name(plan: FeaturePlan, column: int) -> str:
    """Returns `id` or `id.output`, a bare id of many outputs spelled out."""
    feature = plan.features[column]
    reference = plan.reference(feature)
    outputs = plan.indicators[reference.indicator_id].type.outputs
    if not outputs:
        return reference.indicator_id
    return f"{reference.indicator_id}.{outputs[reference.output_index]}"


def _seen_row(base: BarSeries, series: BarSeries, time_ns: int, switches: Switches) -> int:
    row = int(np.searchsorted(base.open_time_ns, time_ns))
    if series is base:
        return row
    return int(visible_rows(base.rows(row, row + 1), series, switches.alignment)[0])


def _unknown(indicator: PlannedIndicator, series: BarSeries, row: int, *, is_cut: bool) -> str:
    if row < 0:
        return "no bar of its timeframe is visible yet"
    if len(series) < indicator.minimum_bars:
        return f"it takes {indicator.minimum_bars} bars, and {len(series)} are at hand"
    needed = indicator.lookback_bars()
    if is_cut and needed >= ALL_BARS:
        return "it depends on every bar since the first, and the directory has the simulated ones"
    if is_cut and row + 1 < needed:
        return (
            f"it takes {needed} bars up to {iso_time(int(series.open_time_ns[row]))}, and the "
            f"directory has {row + 1} of them"
        )
    return ""
