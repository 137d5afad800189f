"""All metrics of one run."""

import math
from dataclasses import dataclass

import numpy as np

from backlane.metrics.definitions import METRICS, REFERENCE_BOUND, MetricDefinition
from backlane.metrics.rules import Annualization, UndefinedMetrics
from backlane.metrics.sample import Sample, UndefinedMetricError


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of one run: its value, or why there is none.

    `annualization` says what a year is where that matters; `sample_count` is how many numbers of
    the definition's basis went in.
    """

    id: str
    value: float | None
    undefined_reason: str = ""
    annualization: str = ""
    sample_count: int = 0


def summarize(sample: Sample) -> tuple[Metric, ...]:
    """Returns every metric of METRICS, in that order."""
    with np.errstate(all="ignore"):  # what overflows has no value: see _finite_value
        return tuple(_measure(definition, sample) for definition in METRICS)


def _measure(definition: MetricDefinition, sample: Sample) -> Metric:
    counts = {
        "points": len(sample.equity),
        "returns": len(sample.returns),
        "trades": len(sample.net_pnl),
    }
    annualization = _annualization(sample) if definition.is_annualized else ""
    count = counts[definition.basis]
    try:
        value = _finite_value(definition, sample)
    except UndefinedMetricError as error:
        if sample.rules.undefined_metrics is UndefinedMetrics.FILLERS:
            filler = error.reference_value or 0.0
            return Metric(definition.id, filler, "", annualization, count)
        return Metric(definition.id, None, str(error), annualization, count)
    return Metric(definition.id, value, "", annualization, count)


def _finite_value(definition: MetricDefinition, sample: Sample) -> float:
    """An overflow is no value, and reported as the reference does: +-999999, NaN as 0."""
    value = definition.compute(sample)
    if math.isfinite(value):
        return value
    bound = math.copysign(REFERENCE_BOUND, value) if math.isinf(value) else None
    raise UndefinedMetricError("its formula gives no finite number here", bound)


def _annualization(sample: Sample) -> str:
    if sample.rules.annualization is Annualization.BARS_252:
        return "252 bars per year"
    try:
        return f"{sample.periods_per_year:.1f} bars per year"
    except UndefinedMetricError:
        return ""
