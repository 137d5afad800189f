"""All metrics of one run."""

from dataclasses import dataclass

from backlane.metrics.definitions import METRICS, MetricDefinition, filler_of
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
        value = definition.compute(sample)
    except UndefinedMetricError as error:
        if sample.rules.undefined_metrics is UndefinedMetrics.FILLERS:
            return Metric(definition.id, filler_of(definition, error), "", annualization, count)
        return Metric(definition.id, None, str(error), annualization, count)
    return Metric(definition.id, value, "", annualization, count)


def _annualization(sample: Sample) -> str:
    if sample.rules.annualization is Annualization.BARS_252:
        return "252 bars per year"
    try:
        return f"{sample.periods_per_year:.1f} bars per year"
    except UndefinedMetricError:
        return ""
