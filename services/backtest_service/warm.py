"""What a worker process keeps from one run for the next: bars and models, by their digests."""

from collections import OrderedDict

import structlog

from backlane.client.models import ModelsClient, RemotePredictor
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog

MODELS_MAX = 64
"""Descriptions of models that are kept; the models themselves are in model_service."""

_log = structlog.get_logger(__name__)


class WarmBars:
    """Bars by symbol, timeframe and digest, up to a number of bytes; the last used stay longest."""

    def __init__(self, catalog: Catalog, bytes_max: int) -> None:
        self._catalog = catalog
        self._bytes_max = bytes_max
        self._kept: OrderedDict[tuple[str, str, str], BarSeries] = OrderedDict()

    def get(self, symbol: str, timeframe: Timeframe, digest: str) -> BarSeries:
        """Returns the bars with this digest; raises what Catalog.load raises."""
        key = (symbol, timeframe.label, digest)
        series = self._kept.pop(key, None)
        _log.info("bars", symbol=symbol, timeframe=timeframe.label, is_warm=series is not None)
        if series is None:
            series = self._catalog.load(symbol, timeframe, expected_digest=digest)
        self._kept[key] = series
        while self.size_bytes > self._bytes_max:
            self._kept.popitem(last=False)
        return series

    @property
    def size_bytes(self) -> int:
        """Returns how many bytes of bars are kept."""
        return sum(_size_bytes(series) for series in self._kept.values())

    def clear(self) -> None:
        """Lets go of all of them."""
        self._kept.clear()


class WarmModels:
    """Predictors by name and digest; model_service checks the digest at each prediction."""

    def __init__(self, models: ModelsClient) -> None:
        self._models = models
        self._kept: OrderedDict[tuple[str, str], RemotePredictor] = OrderedDict()

    def get(self, name: str, digest: str) -> RemotePredictor:
        """Returns a predictor; raises what ModelsClient.predictor raises."""
        predictor = self._kept.pop((name, digest), None) if digest else None
        _log.info("model", name=name, is_warm=predictor is not None)
        if predictor is None:
            predictor = self._models.predictor(name, digest)
        self._kept[name, digest] = predictor
        while len(self._kept) > MODELS_MAX:
            self._kept.popitem(last=False)
        return predictor


def _size_bytes(series: BarSeries) -> int:
    columns = (series.open_time_ns, series.open, series.high, series.low, series.close)
    return sum(column.nbytes for column in (*columns, series.volume))
