"""Tells whether a run is worse than the baseline that it is compared with (SPEC A9, C1 Q4).

Corrections: each metric has a direction, an absolute and a relative tolerance, so that an
improvement passes and a baseline of zero divides nothing; a baseline of few trades proves nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

ROUNDING = 1e-12
"""Relative; a deviation of exactly its tolerance must not fail by how 0.588 is stored."""


class BetterDirection(StrEnum):
    """Which way a metric improves; with NONE any deviation counts."""

    HIGHER = "higher"
    LOWER = "lower"
    NONE = "none"


class GateCode(StrEnum):
    """What the gate says of a metric, or of the comparison as a whole."""

    PASSED = "passed"
    WORSE = "worse"
    MISSING = "missing"
    TOO_FEW_TRADES = "too_few_trades"
    DATA_CHANGED = "data_changed"
    CONFIG_CHANGED = "config_changed"


@dataclass(frozen=True, slots=True)
class MetricTolerance:
    """How far a metric may move the wrong way: absolute + relative x |baseline|."""

    metric: str
    direction: BetterDirection
    absolute: float = 0.0
    relative: float = 0.0


@dataclass(frozen=True, slots=True)
class GateInput:
    """One side of the comparison; a metric that is undefined is None or absent.

    The digests are those of the bars and of the configuration; empty where unknown.
    """

    metrics: Mapping[str, float | None]
    trade_count: int
    data_digest: str = ""
    config_digest: str = ""


@dataclass(frozen=True, slots=True)
class MetricDeviation:
    """What one metric did; `change` is current - baseline, None where either is undefined.

    `relative_change` is a fraction of |baseline|, None where that is 0.
    """

    metric: str
    code: GateCode
    change: float | None
    relative_change: float | None


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict; `refusals` say why the two cannot be compared at all."""

    deviations: tuple[MetricDeviation, ...]
    refusals: tuple[GateCode, ...]

    @property
    def is_passed(self) -> bool:
        """Whether the two could be compared and no metric got worse by more than it may."""
        return not self.refusals and all(
            deviation.code is GateCode.PASSED for deviation in self.deviations
        )


def compare_with_baseline(
    baseline: GateInput,
    current: GateInput,
    tolerances: Sequence[MetricTolerance],
    *,
    trade_count_min: int,
) -> GateReport:
    """Returns what each metric of `tolerances` did against the baseline, and whether it may.

    A metric that is defined on one side only fails; on neither side, it passes. The comparison is
    refused when the baseline has fewer than `trade_count_min` trades, or digests differ.
    """
    refusals = []
    if baseline.trade_count < trade_count_min:
        refusals.append(GateCode.TOO_FEW_TRADES)
    if baseline.data_digest != current.data_digest:
        refusals.append(GateCode.DATA_CHANGED)
    if baseline.config_digest != current.config_digest:
        refusals.append(GateCode.CONFIG_CHANGED)
    deviations = tuple(
        _deviation(one, baseline.metrics.get(one.metric), current.metrics.get(one.metric))
        for one in tolerances
    )
    return GateReport(deviations, tuple(refusals))


def _deviation(
    tolerance: MetricTolerance, baseline: float | None, current: float | None
) -> MetricDeviation:
    if baseline is None or current is None:
        code = GateCode.PASSED if baseline is current else GateCode.MISSING
        return MetricDeviation(tolerance.metric, code, None, None)
    change = current - baseline
    allowed = tolerance.absolute + tolerance.relative * abs(baseline)
    allowed += ROUNDING * max(abs(baseline), abs(current))
    worsening = {
        BetterDirection.HIGHER: -change,
        BetterDirection.LOWER: change,
        BetterDirection.NONE: abs(change),
    }[tolerance.direction]
    code = GateCode.PASSED if worsening <= allowed else GateCode.WORSE
    relative = change / abs(baseline) if baseline != 0.0 else None
    return MetricDeviation(tolerance.metric, code, change, relative)
