"""From a finished run to its summary."""

from backlane.backtest.request import BacktestRequest, ModelChoice
from backlane.backtest.result import BacktestRun
from backlane.backtest.summary import (
    MetricSummary,
    ProvenanceSummary,
    ResultFile,
    ResultSummary,
)


def summarize_run(run: BacktestRun, files: tuple[ResultFile, ...] = ()) -> ResultSummary:
    """Returns the summary; `files` are those of the result directory, where there is one."""
    provenance = run.provenance
    return ResultSummary(
        result_digest=provenance.result_digest,
        metrics=tuple(
            MetricSummary(
                metric.id,
                metric.value,
                metric.undefined_reason,
                metric.annualization,
                metric.sample_count,
            )
            for metric in run.metrics
        ),
        funnel=run.funnel,
        provenance=ProvenanceSummary(
            dict(provenance.dataset_digests),
            provenance.model_digest,
            provenance.config_digest,
            provenance.order_digest,
            dict(provenance.versions),
        ),
        request=_as_made(run),
        first_bar_ns=int(run.bars.open_time_ns[0]),
        last_bar_ns=int(run.bars.open_time_ns[-1]),
        files=files,
        timings=dict(run.timings),
    )


def _as_made(run: BacktestRun) -> BacktestRequest:
    """Returns the request with everything that it left open: bundle, timeframe, digests."""
    request, model = run.request, run.request.model
    if model.path is None:
        model = ModelChoice(name=run.model.model, version=run.model.version)
    return request.model_copy(
        update={
            "model": model,
            "timeframe": run.bars.timeframe.label,
            "model_digest": run.provenance.model_digest,
            "dataset_digests": dict(run.provenance.dataset_digests),
        }
    )
