"""What a run gives, in memory: the same object for a notebook, a file and a service."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from backlane.backtest.funnel import FunnelStage
from backlane.backtest.request import BacktestRequest
from backlane.decisions.scores import Scores
from backlane.features.matrix import FeatureMatrix
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.metrics.summary import Metric


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a result depends on, as `sha256:<hex>` each; and the versions of what computed it."""

    dataset_digests: Mapping[str, str]
    model_digest: str
    config_digest: str
    order_digest: str
    result_digest: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class BacktestRun:
    """One finished run. Arrays have one row for each simulated bar, oldest first.

    `bars`, `features` and `scores` are cut to the simulated bars. `equity` and `cash` are NaN where
    the account was not marked (only ktrdr profiles leave such bars); `position` is in signed units.
    `trades` and `fills` are record arrays (`portfolio.trade`); `config` is everything that was
    chosen, defaults filled in. `timings` are the seconds that each phase took (`observer.PHASES`),
    as far as it was timed; no digest depends on them.
    """

    request: BacktestRequest
    model: ModelInfo
    bars: BarSeries
    features: FeatureMatrix
    scores: Scores
    decision: NDArray[np.int8]
    reason: NDArray[np.int8]
    equity: NDArray[np.float64]
    cash: NDArray[np.float64]
    position: NDArray[np.float64]
    trades: NDArray[np.void]
    fills: NDArray[np.void]
    metrics: tuple[Metric, ...]
    funnel: tuple[FunnelStage, ...]
    config: Mapping[str, object]
    provenance: Provenance
    final_cash: float
    timings: Mapping[str, float] = field(default_factory=dict)

    def timed(self, timings: Mapping[str, float]) -> "BacktestRun":
        """Returns the same run with these timings beside those that it has."""
        return replace(self, timings={**self.timings, **timings})

    def metric(self, metric_id: str) -> float | None:
        """Returns the value of a metric, None where it is undefined; KeyError for an unknown id."""
        return {metric.id: metric for metric in self.metrics}[metric_id].value
