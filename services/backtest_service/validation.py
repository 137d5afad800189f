"""What is checked before an operation is opened: a run that cannot be is refused at once."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from backlane.backtest.request import BacktestRequest, DecisionChoice, ModelChoice
from backlane.backtest.rules import decision_rules
from backlane.backtest.switches import SWITCH_NAMES
from backlane.backtest.window import base_timeframe, cut_window
from backlane.errors import DatasetChangedError, InvalidRequestError, ModelDigestMismatchError
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.operations.operation import Payload
from backlane.sources.catalog import Catalog, Dataset
from backlane.wire.backtest import as_spec_error, spec_to_payload

SERIES_KEPT_MAX = 4
"""Base series kept in memory, as a sweep asks about the same bars again and again."""


class ModelSource(Protocol):
    """What describes models: the client of model_service."""

    async def get(self, name: str) -> ModelInfo:
        """Returns the description of a bundle; raises ModelNotFoundError."""
        ...


@dataclass(frozen=True, slots=True)
class Validated:
    """A request that can be run: the bundle, the timeframe and every dataset are settled.

    `bar_count` is how many bars of the base timeframe the run will read, warm-up included.
    """

    request: BacktestRequest
    model: ModelInfo
    bar_count: int

    def with_defaults(self) -> BacktestRequest:
        """Returns the request with every default filled in: each switch, each decision rule."""
        request, switches = self.request, self.request.resolved_switches()
        rules = decision_rules(request, self.model, switches)
        values = {name: getattr(switches, name) for name in SWITCH_NAMES}
        decisions = {
            "confidence_threshold": rules.confidence_threshold,
            "position_awareness": rules.position_awareness,
            "allow_short_from_flat": rules.allow_short_from_flat,
            "filters": {"min_signal_separation": rules.min_signal_separation_hours},
            "cost_model": request.decisions.cost_model.model_dump(),
        }
        return request.model_copy(
            update={
                "switches": {name: getattr(v, "value", v) for name, v in values.items()},
                "decisions": DecisionChoice.model_validate(decisions),
            }
        )


class RequestValidator:
    """Checks requests against the models that are served and the bars that are in the catalog."""

    def __init__(self, models: ModelSource, catalog: Catalog) -> None:
        self._models = models
        self._catalog = catalog
        self._series: OrderedDict[str, BarSeries] = OrderedDict()

    async def validate(self, request: BacktestRequest) -> Validated:
        """Returns the request with what it left open: version, timeframe, digests.

        Raises ModelNotFoundError, ModelDigestMismatchError, ModelNotTradableError,
        DatasetNotFoundError, DatasetChangedError, DataRangeEmptyError, or InvalidRequestError for
        a timeframe that is not the model's, with the field by its path in the proto.
        """
        try:
            return await self._validate(request)
        except InvalidRequestError as error:
            raise as_spec_error(error) from error

    async def settle(self, request: BacktestRequest) -> Payload:
        """Returns what the operation of a request carries; raises what `validate` raises."""
        return spec_to_payload((await self.validate(request)).request)

    async def _validate(self, request: BacktestRequest) -> Validated:
        model = await self._models.get(request.model.resource_name)
        _check_digest(request, model)
        switches = request.resolved_switches()
        decision_rules(request, model, switches)
        base = base_timeframe(request, model.strategy)
        datasets = {
            label: await asyncio.to_thread(self._dataset, request, label)
            for label in model.strategy.timeframes
        }
        series = await self._bars(datasets[base])
        window = cut_window(request, model.strategy, {base: series}, switches)
        settled = request.model_copy(
            update={
                "model": ModelChoice(name=model.model, version=model.version),
                "model_digest": model.digest,
                "timeframe": base,
                "dataset_digests": {label: found.digest for label, found in datasets.items()},
            }
        )
        return Validated(settled, model, len(window.base))

    def _dataset(self, request: BacktestRequest, label: str) -> Dataset:
        dataset = self._catalog.get(request.symbol, Timeframe.parse(label))
        wanted = request.dataset_digests.get(label)
        if wanted and wanted != dataset.digest:
            raise DatasetChangedError(
                f"The bars of {request.symbol} {label} are {dataset.digest}, but {wanted} was "
                "asked for. Import those bars, or leave spec.dataset_digests out.",
                metadata={
                    "symbol": request.symbol,
                    "timeframe": label,
                    "digest": dataset.digest,
                    "expected_digest": wanted,
                },
            )
        return dataset

    async def _bars(self, dataset: Dataset) -> BarSeries:
        series = self._series.pop(dataset.digest, None)
        if series is None:
            series = await asyncio.to_thread(
                self._catalog.load,
                dataset.symbol,
                dataset.timeframe,
                expected_digest=dataset.digest,
            )
        self._series[dataset.digest] = series
        while len(self._series) > SERIES_KEPT_MAX:
            self._series.popitem(last=False)
        return series


def _check_digest(request: BacktestRequest, model: ModelInfo) -> None:
    if request.model_digest and request.model_digest != model.digest:
        raise ModelDigestMismatchError(
            f"{model.name} is {model.digest}, but {request.model_digest} was asked for. Ask for "
            "the version that is there, or leave spec.model_digest out.",
            metadata={
                "model": model.name,
                "digest": model.digest,
                "expected_digest": request.model_digest,
            },
        )
