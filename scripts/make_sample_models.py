"""Makes models/rsi_bb/1 and models/mtf_rsi_bb/1: untrained networks, for demos and tests.

    python scripts/make_sample_models.py [--root models] [--shares]

The weights come from a seed and are rounded to 1/1024, and the archive is written entry by entry
without a time: the same bytes on every machine. `--shares` shows how often each network decides
BUY, HOLD and SELL on the synthetic bars of `backlane data sample`; the biases of the heads were
chosen by looking at that, and nothing was fitted to any price.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from backlane.inference.network_spec import MlpSpec
from backlane.sources.bundle import BUNDLE_FILES, read_bundle_info

CREATED_AT = "2026-01-01T00:00:00Z"
HIDDEN_LAYERS = (16, 8)
ROUNDING = 1024
# What torch.load needs of an archive; the rest differs from one torch to the next.
ARCHIVE_ENTRIES = ("data.pkl", "byteorder", "version")

INDICATORS = {
    "rsi_fast": {"type": "rsi", "period": 7, "source": "close"},
    "rsi_slow": {"type": "rsi", "period": 21, "source": "close"},
    "band": {"type": "bollingerbandwidth", "period": 20, "multiplier": 2.0, "source": "close"},
    "momentum": {
        "type": "macd",
        "fast_period": 12,
        "slow_period": 26,
        "signal_period": 9,
        "source": "close",
    },
}
FUZZY_SETS = {
    "rsi_fast_level": {
        "indicator": "rsi_fast",
        "oversold": [0, 15, 35],
        "neutral": [25, 50, 75],
        "overbought": [65, 85, 100],
    },
    "rsi_slow_level": {
        "indicator": "rsi_slow",
        "weak": {"type": "trapezoidal", "parameters": [0, 0, 35, 50]},
        "strong": {"type": "trapezoidal", "parameters": [50, 65, 100, 100]},
    },
    "band_width": {
        "indicator": "band",
        "calm": {"type": "gaussian", "parameters": [0.002, 0.002]},
        "wide": {"type": "gaussian", "parameters": [0.01, 0.004]},
    },
    "momentum_sign": {
        "indicator": "momentum.line",
        "falling": {"type": "gaussian", "parameters": [-0.001, 0.0007]},
        "rising": {"type": "gaussian", "parameters": [0.001, 0.0007]},
    },
}


@dataclass(frozen=True)
class Sample:
    """One bundle: its inputs, its seed, and the biases of its head for BUY, HOLD, SELL."""

    model: str
    timeframes: tuple[str, ...]
    inputs: tuple[tuple[str, tuple[str, ...]], ...]
    seed: int
    head_bias: tuple[float, float, float]
    description: str

    @property
    def features(self) -> list[str]:
        return [
            f"{timeframe}_{fuzzy_set}_{term}"
            for fuzzy_set, timeframes in self.inputs
            for timeframe in timeframes
            for term in FUZZY_SETS[fuzzy_set]
            if term != "indicator"
        ]


SAMPLES = (
    Sample(
        model="rsi_bb",
        timeframes=("1h",),
        inputs=tuple((name, ("1h",)) for name in FUZZY_SETS),
        seed=20260101,
        head_bias=(0.75, 0.875, -0.25),
        description="RSI, Bollinger bandwidth and MACD on 1h bars.",
    ),
    Sample(
        model="mtf_rsi_bb",
        timeframes=("1h", "5m"),
        inputs=(
            ("rsi_fast_level", ("1h", "5m")),
            ("rsi_slow_level", ("1h",)),
            ("band_width", ("1h",)),
            ("momentum_sign", ("1h",)),
        ),
        seed=20260102,
        head_bias=(0.75, -0.375, 0.625),
        description="The same on 1h bars, and a fast RSI on 5m bars.",
    ),
)


def weights_of(sample: Sample) -> dict[str, Tensor]:
    """Uniform weights of the size that keeps sums near 1, then the biases of the head."""
    spec = MlpSpec(len(sample.features), 3, HIDDEN_LAYERS, "tanh")
    chance = Random(sample.seed)
    weights = {}
    for name, shape in spec.parameter_shapes().items():
        spread = 0.0 if name.endswith("bias") else 3.0 / shape[-1] ** 0.5
        values = [chance.uniform(-spread, spread) for _ in range(prod(shape))]
        weights[name] = tensor(values, shape)
    weights[f"{3 * len(HIDDEN_LAYERS)}.bias"] = tensor(sample.head_bias, (3,))
    return weights


def tensor(values: Any, shape: tuple[int, ...]) -> Tensor:
    rounded = [round(value * ROUNDING) / ROUNDING for value in values]
    return torch.tensor(rounded, dtype=torch.float32).reshape(shape)


def documents_of(sample: Sample) -> dict[str, dict[str, Any]]:
    nn_inputs = [
        {"fuzzy_set": fuzzy_set, "timeframes": list(timeframes)}
        for fuzzy_set, timeframes in sample.inputs
    ]
    model = {
        "type": "mlp",
        "architecture": {
            "hidden_layers": list(HIDDEN_LAYERS),
            "activation": "tanh",
            "dropout": 0.0,
        },
    }
    decisions = {
        "output_format": "classification",
        "confidence_threshold": 0.5,
        "position_awareness": True,
        "filters": {"min_signal_separation": 4},
    }
    metadata = {
        "model_name": sample.model,
        "strategy_name": sample.model,
        "created_at": CREATED_AT,
        "strategy_version": "3.0",
        "indicators": INDICATORS,
        "fuzzy_sets": FUZZY_SETS,
        "nn_inputs": nn_inputs,
        "resolved_features": sample.features,
        "training_symbols": ["SYNTHETIC_EURUSD"],
        "training_timeframes": list(sample.timeframes),
        "training_metrics": {"epochs_trained": 0},
        "output_type": "classification",
        "model_type": "mlp",
        "sequence_length": None,
        "normalization_params": {},
    }
    config = {
        "name": sample.model,
        "version": "3.0",
        "description": f"{sample.description} Untrained.",
        "indicators": INDICATORS,
        "fuzzy_sets": FUZZY_SETS,
        "nn_inputs": nn_inputs,
        "model": model,
        "decisions": decisions,
    }
    features = {"fuzzy_features": sample.features, "feature_count": len(sample.features)}
    return {"metadata_v3.json": metadata, "config.json": config, "features.json": features}


def plain_archive(weights: Mapping[str, Tensor]) -> bytes:
    """What torch.save writes, reduced to the entries that loading needs, without a time."""
    saved, out = io.BytesIO(), io.BytesIO()
    torch.save(dict(weights), saved)
    with zipfile.ZipFile(saved) as archive, zipfile.ZipFile(out, "w") as plain:
        for name in sorted(archive.namelist()):
            _, _, entry = name.partition("/")
            if entry in ARCHIVE_ENTRIES or entry.startswith("data/"):
                place = zipfile.ZipInfo(f"model/{entry}")
                place.create_system = 3  # else it would say on which system it was made
                plain.writestr(place, archive.read(name))
    return out.getvalue()


README = """# {model}/1: untrained

{description} {feature_count} features, a network of {layers} units, three classes.

**This model has never seen a price. Its weights are random numbers from a seed, and what it
decides means nothing: it predicts nothing, and a profit it shows is luck.** It is here so that a
backtest can run minutes after the clone, and so that tests have something real to load.

Made by `python scripts/make_sample_models.py`, byte for byte the same each time
(tests/unit/inference/test_sample_models.py). Digest:

    {digest}
"""


def write(sample: Sample, root: Path) -> Path:
    folder = root / sample.model / "1"
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents_of(sample).items():
        (folder / name).write_text(json.dumps(document, indent=2) + "\n")
    (folder / "model.pt").write_bytes(plain_archive(weights_of(sample)))
    info = read_bundle_info(folder)
    text = README.format(
        model=sample.model,
        description=sample.description,
        feature_count=len(sample.features),
        layers=" and ".join(str(size) for size in HIDDEN_LAYERS),
        digest=info.digest,
    )
    (folder / "README.md").write_text(text)
    return folder


def class_shares(folder: Path) -> list[float]:
    """How often the network prefers BUY, HOLD and SELL, on a year of synthetic bars."""
    from datetime import UTC, datetime

    import numpy as np

    from backlane.features.build import build_features
    from backlane.features.rules import FeatureRules
    from backlane.market.timeframe import Timeframe
    from backlane.sources.bundle import load_predictor, read_bundle
    from backlane.sources.synthetic import aggregate, synthetic_bars

    bundle = read_bundle(folder)
    fine = synthetic_bars(1, datetime(2023, 1, 2, tzinfo=UTC), 50_000, Timeframe.parse("5m"))
    bars = {"5m": fine, "1h": aggregate(fine, Timeframe.parse("1h"))}
    matrix = build_features(
        bundle.info.strategy,
        {label: bars[label] for label in bundle.info.strategy.timeframes},
        names=bundle.info.features,
        rules=FeatureRules(),
    )
    logits = load_predictor(bundle).predict(matrix.values)[matrix.valid_from :]
    logits = logits[np.isfinite(logits).all(axis=1)]
    shares = np.bincount(logits.argmax(axis=1), minlength=3) / len(logits)
    scores = np.exp(logits - logits.max(axis=1, keepdims=True))
    confident = (scores.max(axis=1) / scores.sum(axis=1) >= 0.5).mean()
    print(f"  mean {logits.mean(axis=0)} std {logits.std(axis=0)} confident {confident:.2f}")
    return [round(float(share), 3) for share in shares]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1] / "models")
    parser.add_argument("--shares", action="store_true")
    arguments = parser.parse_args()
    for sample in SAMPLES:
        folder = write(sample, arguments.root)
        sizes = {name: (folder / name).stat().st_size for name in BUNDLE_FILES}
        print(f"{folder}: {sum(sizes.values()):,} bytes")
        if arguments.shares:
            print(f"  BUY, HOLD, SELL: {class_shares(folder)}")


if __name__ == "__main__":
    main()
