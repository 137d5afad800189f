"""Builds the feature matrix: indicators, terms and alignment, for every bar of a run at once."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation, InvalidRequestError, NotEnoughBarsError
from backlane.features.align import align, visible_rows
from backlane.features.matrix import FeatureMatrix
from backlane.features.names import Feature, select_features
from backlane.features.normalization import NormalizationParameters, normalize
from backlane.features.plan import FeaturePlan, PlannedIndicator, plan_features
from backlane.features.rules import FeatureRules
from backlane.features.strategy import Strategy
from backlane.fuzzy.membership import fuzzify
from backlane.jit import compiled
from backlane.market.bars import BarSeries

Values = NDArray[np.float64]

_NOT_FITTED: NormalizationParameters = {}


def build_features(
    strategy: Strategy,
    bars: Mapping[str, BarSeries],
    *,
    names: Sequence[str],
    rules: FeatureRules,
    normalization: NormalizationParameters = _NOT_FITTED,
) -> FeatureMatrix:
    """Computes one row of features for each bar of the base timeframe.

    `bars` has one series for each of the strategy's timeframes; the first of those is the base.
    `names` are the inputs of the model in its order, which is the order of the columns.

    Raises FeatureMismatchError when these are not the strategy's features, InvalidStrategyError for
    parameters that are not accepted, InvalidRequestError for a timeframe without bars, and
    NotEnoughBarsError for one that has fewer than an indicator needs.
    """
    features = select_features(strategy, names, drop_extra=rules.drop_extra_features)
    plan = plan_features(strategy, rules, features)
    _require_timeframes(strategy, bars)
    base = bars[strategy.timeframes[0]]
    values = np.empty((len(base), len(features)), dtype=np.float32)
    for column, degrees in feature_columns(plan, bars, base, rules, normalization):
        values[:, column] = degrees
    return FeatureMatrix(values, tuple(names), _first_complete_row(values))


def feature_columns(
    plan: FeaturePlan,
    bars: Mapping[str, BarSeries],
    base: BarSeries,
    rules: FeatureRules,
    normalization: NormalizationParameters = _NOT_FITTED,
) -> Iterator[tuple[int, Values]]:
    """Gives every column of the matrix with its index, float64 of shape (base bars,)."""
    rows = {
        label: visible_rows(base, series, rules.alignment)
        for label, series in bars.items()
        if series is not base
    }
    for timeframe, indicator, group in plan.by_indicator():
        series = bars[timeframe]
        _require_bars(indicator, series)
        outputs = indicator.type.outputs_of(
            series,
            indicator.parameters,
            warmup_fillers=rules.warmup_fillers,
            reference_indicators=rules.reference_indicators,
        )
        for column, feature, output_index in group:
            values = _column(outputs[output_index], feature, rules, normalization)
            if timeframe in rows:
                values = align(values, rows[timeframe], rules.alignment)
            yield column, values


def _column(
    values: Values, feature: Feature, rules: FeatureRules, normalization: NormalizationParameters
) -> Values:
    term = feature.membership
    if term is None:
        return normalize(values, feature, normalization)
    return fuzzify(values, term.type, term.parameters, trapezoid_edge=rules.trapezoid_edge)


def _require_timeframes(strategy: Strategy, bars: Mapping[str, BarSeries]) -> None:
    missing = [label for label in strategy.timeframes if label not in bars]
    if missing:
        labels = ", ".join(missing)
        message = (
            f"Strategy {strategy.name!r} needs bars of {labels}, which are not there: import them, "
            "or name their files in the request."
        )
        violations = tuple(FieldViolation(f"data.{label}", "has no bars") for label in missing)
        metadata = {"timeframes": labels, "strategy": strategy.name}
        raise InvalidRequestError(message, metadata=metadata, violations=violations)


def _require_bars(indicator: PlannedIndicator, series: BarSeries) -> None:
    needed = indicator.minimum_bars
    if len(series) < needed:
        raise NotEnoughBarsError(
            f"Indicator {indicator.id!r} needs {needed} bars of {series.timeframe}, and there are "
            f"{len(series)}: take a longer range, or import more history.",
            metadata={
                "indicator": indicator.id,
                "timeframe": str(series.timeframe),
                "bars_needed": str(needed),
                "bars_present": str(len(series)),
            },
        )


@compiled
def _first_complete_row(values: NDArray[np.float32]) -> int:
    for row in range(values.shape[0]):
        complete = True
        for column in range(values.shape[1]):
            if np.isnan(values[row, column]):
                complete = False
                break
        if complete:
            return row
    return int(values.shape[0])
