"""Whole runs for the laws: real bars, features, networks and requests, small and seeded.

Everything that can be chosen is a table here, by the name that it has in its registry; the laws
fail for a new name in a registry until it has a line here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from backlane.backtest.engine import run_backtest
from backlane.backtest.request import BacktestRequest, parse_request
from backlane.backtest.result import BacktestRun
from backlane.features.build import build_features
from backlane.features.names import feature_names, strategy_features
from backlane.features.rules import FeatureRules
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.inference.model_info import BundleDecisions, ModelHead, ModelInfo
from backlane.inference.network_spec import MlpSpec, NetworkSpec, RecurrentSpec
from backlane.inference.networks import build_network
from backlane.inference.torch_predictor import TorchPredictor
from backlane.market.bars import BarSeries
from tests.builders import random_bars
from tests.unit.audit.runs import coarser

BARS_OF_MIX = {("1h",): 300, ("5m", "1h"): 2600, ("1h", "4h"): 400, ("1h", "1d"): 1600}
"""Base bars: ktrdr wants 50 of each timeframe, and 7 days, when there is more than one."""

INPUTS = ("fuzzy", "raw", "hybrid")
INDICATORS = (
    IndicatorSpec("rsi", "rsi", {"period": 5}),
    IndicatorSpec("bands", "bollingerbandwidth", {"period": 6}),
)
FUZZY_SETS = (
    FuzzySetSpec(
        "momentum",
        "rsi",
        (
            MembershipSpec("low", "triangular", (0, 25, 55)),
            MembershipSpec("high", "gaussian", (75, 15)),
        ),
    ),
    FuzzySetSpec("width", "bands", (MembershipSpec("wide", "trapezoidal", (0, 0.01, 0.03, 0.1)),)),
)
FUZZY_INPUTS = (NetworkInputSpec(fuzzy_set="momentum"), NetworkInputSpec(fuzzy_set="width"))
RAW_INPUTS = (
    NetworkInputSpec(raw_indicator="rsi", normalization="minmax"),
    NetworkInputSpec(raw_indicator="bands", normalization="zscore"),
)
FITTED: dict[str, Mapping[str, float]] = {
    "rsi": {"min": 0.0, "max": 100.0},
    "bands": {"mean": 0.01, "std": 0.005},
}


def strategy_of(inputs: str, mix: tuple[str, ...]) -> Strategy:
    """Returns a strategy whose features do not depend on the currency."""
    nn_inputs = {
        "fuzzy": FUZZY_INPUTS,
        "raw": RAW_INPUTS,
        "hybrid": (*FUZZY_INPUTS, *RAW_INPUTS),
    }[inputs]
    return Strategy("laws", "3.0", ("TEST",), mix, INDICATORS, FUZZY_SETS, nn_inputs)


def market(mix: tuple[str, ...], seed: int = 5) -> dict[str, BarSeries]:
    """Returns bars of every timeframe, the longer ones made of those of the base."""
    base = random_bars(seed, BARS_OF_MIX[mix], timeframe=mix[0])
    return {label: base if label == mix[0] else coarser(base, label) for label in mix}


@dataclass(frozen=True)
class Case:
    """One run; `fields` are those of its request, over costs and short positions."""

    architecture: str = "mlp"
    head: ModelHead = ModelHead.CLASSIFICATION
    inputs: str = "fuzzy"
    mix: tuple[str, ...] = ("1h",)
    fields: dict[str, Any] = field(default_factory=dict)
    seed: int = 5

    @property
    def request(self) -> BacktestRequest:
        decisions = {
            "confidence_threshold": 0.35,
            "allow_short_from_flat": True,
            "filters": {"min_signal_separation": 0},
            "cost_model": {"round_trip_cost": 0.1, "min_edge_multiplier": 1.0},
        }
        content = {
            "model": {"name": "laws"},
            "symbol": "TEST",
            "initial_cash": 65536.0,
            "decisions": decisions,
        }
        return parse_request(content | self.fields)

    def bars(self) -> dict[str, BarSeries]:
        return market(self.mix, self.seed)

    def predictor(self, *, says_hold: bool = False) -> TorchPredictor:
        """Returns a random network, its outputs centered over the bars so that it trades.

        `says_hold` makes one that never wants to trade.
        """
        info = self._info()
        weights = _random_weights(_spec(info), self.seed)
        bias = weights[list(weights)[-1]]
        if says_hold:
            for tensor in weights.values():
                tensor.zero_()
            if self.head is ModelHead.CLASSIFICATION:
                bias[1] = 3.0  # logits of BUY, HOLD, SELL
            return TorchPredictor(info, build_network(_spec(info), weights))
        features = build_features(
            info.strategy,
            self.bars(),
            names=info.features,
            rules=FeatureRules(),
            normalization=info.normalization,
        )
        outputs = TorchPredictor(info, build_network(_spec(info), weights)).predict(features.values)
        bias -= torch.from_numpy(np.nanmean(outputs, axis=0))
        return TorchPredictor(info, build_network(_spec(info), weights))

    def _info(self) -> ModelInfo:
        strategy = strategy_of(self.inputs, self.mix)
        raw = (item for item in strategy_features(strategy) if item.membership is None)
        return ModelInfo(
            model="laws",
            version="1",
            digest="sha256:" + "0" * 64,
            architecture=self.architecture,
            head=self.head,
            features=feature_names(strategy),
            sequence_length=1 if self.architecture == "mlp" else 4,
            strategy=strategy,
            decisions=BundleDecisions(),
            runtime={},
            normalization={item.name: FITTED[item.indicator] for item in raw},
        )


def _spec(info: ModelInfo) -> NetworkSpec:
    width, outputs = len(info.features), info.head.output_count
    if info.architecture == "mlp":
        return MlpSpec(width, outputs, (6,), "tanh")
    return RecurrentSpec(info.architecture, width, outputs, 4, 1, info.sequence_length)


def _random_weights(spec: NetworkSpec, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = spec.parameter_shapes()
    return {name: 2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def run(
    case: Case,
    bars: Mapping[str, BarSeries] | None = None,
    predictor: TorchPredictor | None = None,
    **fields: Any,
) -> BacktestRun:
    """Runs a case, over other bars or with other fields where given."""
    asked = replace(case, fields=case.fields | fields)
    return run_backtest(
        asked.request,
        predictor or case.predictor(),
        case.bars() if bars is None else bars,
        dataset_digests={},
    )


def known_at(
    bars: Mapping[str, BarSeries], base: str, count: int, *, by_close: bool
) -> dict[str, BarSeries]:
    """Returns the first `count` base bars, and of other timeframes what there is by then.

    `by_close`: what has closed when the last of them closes. Else what has opened when it opens, as
    whole bars: what ktrdr's alignments look at.
    """
    kept = {base: bars[base].rows(0, count)}
    for label, series in bars.items():
        if label == base:
            continue
        if by_close:
            seen = series.close_time_ns <= kept[base].close_time_ns[-1]
        else:
            seen = series.open_time_ns <= kept[base].open_time_ns[-1]
        kept[label] = series.rows(0, int(np.count_nonzero(seen)))
    return kept


def same_bits(left: NDArray[Any], right: NDArray[Any]) -> bool:
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()
