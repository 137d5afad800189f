"""The summary of a finished run, for those who read results: light, without arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backlane.backtest.funnel import FunnelStage, explain_no_trades

if TYPE_CHECKING:
    from backlane.backtest.request import BacktestRequest


@dataclass(frozen=True, slots=True)
class MetricSummary:
    """One metric: its value, or None and the reason.

    `annualization` says what a year is where that matters; `sample_count` how many numbers went in.
    """

    id: str
    value: float | None
    undefined_reason: str = ""
    annualization: str = ""
    sample_count: int = 0


@dataclass(frozen=True, slots=True)
class ProvenanceSummary:
    """What the result depends on, each as `sha256:<hex>`, and the versions of what computed it."""

    dataset_digests: Mapping[str, str]
    model_digest: str
    config_digest: str
    order_digest: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file of the result directory; `digest` is `sha256:<hex>` of its bytes."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class ResultSummary:
    """What a run gave. `request` is the run as it was made, every default filled in.

    Times are those of the first and the last simulated bar, UTC nanoseconds. `timings` are the
    seconds that each phase of the run took, in their order; no digest depends on them.
    """

    result_digest: str
    metrics: tuple[MetricSummary, ...]
    funnel: tuple[FunnelStage, ...]
    provenance: ProvenanceSummary
    request: "BacktestRequest"
    first_bar_ns: int
    last_bar_ns: int
    files: tuple[ResultFile, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def metric(self, metric_id: str) -> float | None:
        """Returns the value of a metric, None where it is undefined; KeyError for an unknown id."""
        return {metric.id: metric for metric in self.metrics}[metric_id].value

    @property
    def no_trades_because(self) -> str:
        """One sentence that says where everything was lost, or "" when there were fills."""
        return explain_no_trades(self.funnel)
