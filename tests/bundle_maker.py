"""Makes small bundles in a temporary folder, whole by default, broken where a test says so."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from backlane.inference.network_spec import MlpSpec, NetworkSpec, RecurrentSpec

OUTPUT_COUNTS = {
    "classification": 3,
    "regression": 1,
    "regime_classification": 4,
    "context_classification": 3,
}


@dataclass
class BundleMaker:
    """What goes into a bundle; `write` puts the files down.

    `feature_count` terms of one linguistic variable over an RSI are the features.
    """

    architecture: str = "mlp"
    output_type: str = "classification"
    feature_count: int = 3
    hidden_layers: tuple[int, ...] = (5, 4)
    activation: str = "relu"
    hidden_size: int = 4
    layer_count: int = 2
    sequence_length: int = 6
    seed: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)  # replaces keys of metadata_v3.json
    config: dict[str, Any] = field(default_factory=dict)  # replaces keys of config.json

    @property
    def spec(self) -> NetworkSpec:
        outputs = OUTPUT_COUNTS[self.output_type]
        if self.architecture == "mlp":
            return MlpSpec(self.feature_count, outputs, self.hidden_layers, self.activation)
        return RecurrentSpec(
            self.architecture,
            self.feature_count,
            outputs,
            self.hidden_size,
            self.layer_count,
            self.sequence_length,
        )

    @property
    def feature_names(self) -> list[str]:
        return [f"1h_rsi_f_t{index}" for index in range(self.feature_count)]

    def weights(self) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        return {
            name: torch.randn(shape, generator=generator)
            for name, shape in self.spec.parameter_shapes().items()
        }

    def write(self, folder: Path, weights: object = None, *, model_pt: bytes | None = None) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        documents = {
            "metadata_v3.json": self._metadata() | self.metadata,
            "config.json": self._config() | self.config,
            "features.json": {"feature_count": self.feature_count},
        }
        for name, document in documents.items():
            (folder / name).write_text(json.dumps(document))
        if model_pt is None:
            model_pt = saved(self.weights() if weights is None else weights)
        (folder / "model.pt").write_bytes(model_pt)
        return folder

    def _metadata(self) -> dict[str, Any]:
        terms = {
            f"t{index}": [index, index + 20, index + 60] for index in range(self.feature_count)
        }
        return {
            "strategy_name": "made",
            "strategy_version": "3.0",
            "created_at": "2026-01-02T03:04:05+00:00",
            "indicators": {"rsi_14": {"type": "rsi", "period": 14, "source": "close"}},
            "fuzzy_sets": {"rsi_f": {"indicator": "rsi_14", **terms}},
            "nn_inputs": [{"fuzzy_set": "rsi_f", "timeframes": "all"}],
            "resolved_features": self.feature_names,
            "training_symbols": ["EURUSD"],
            "training_timeframes": ["1h"],
            "output_type": self.output_type,
            "model_type": self.architecture,
            "normalization_params": {},
        }

    def _config(self) -> dict[str, Any]:
        layers: dict[str, Any] = {
            "hidden_layers": list(self.hidden_layers),
            "activation": self.activation,
        }
        if self.architecture != "mlp":
            layers = {
                "hidden_size": self.hidden_size,
                "num_layers": self.layer_count,
                "sequence_length": self.sequence_length,
            }
        model = {"type": self.architecture, "architecture": layers}
        if self.output_type == "regression":
            model["output_format"] = "regression"
        return {"model": model, "decisions": {"confidence_threshold": 0.6}}


def saved(value: object) -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def rewritten(
    content: bytes,
    change: Callable[[str, bytes], bytes] = lambda _, data: data,
    *,
    compression: int = zipfile.ZIP_STORED,
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """The same archive with each entry changed, and with correct checksums."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, change(entry.filename, old.read(entry.filename)))
        for name, data in (extra or {}).items():
            new.writestr(name, data)
    return out.getvalue()
