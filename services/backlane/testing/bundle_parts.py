"""The files of a small sound bundle, as data: what a hostile one changes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backlane.testing.weights_archive import Weight, archive_of

HIDDEN_SIZE = 2
FEATURES = ("1h_momentum_low", "1h_momentum_high")
METADATA: Mapping[str, Any] = {
    "strategy_name": "small",
    "strategy_version": "3.0",
    "created_at": "2026-01-02T03:04:05+00:00",
    "indicators": {"rsi_14": {"type": "rsi", "period": 14}},
    "fuzzy_sets": {"momentum": {"indicator": "rsi_14", "low": [0, 20, 40], "high": [60, 80, 100]}},
    "nn_inputs": [{"fuzzy_set": "momentum", "timeframes": "all"}],
    "resolved_features": list(FEATURES),
    "training_symbols": ["EURUSD"],
    "training_timeframes": ["1h"],
    "output_type": "classification",
    "model_type": "mlp",
}
CONFIG: Mapping[str, Any] = {
    "model": {"type": "mlp", "architecture": {"hidden_layers": [HIDDEN_SIZE]}},
    "decisions": {"confidence_threshold": 0.6},
}
WEIGHTS: Mapping[str, Weight] = {
    "0.weight": Weight((HIDDEN_SIZE, len(FEATURES))),
    "0.bias": Weight((HIDDEN_SIZE,)),
    "3.weight": Weight((3, HIDDEN_SIZE)),
    "3.bias": Weight((3,)),
}


def write_bundle(
    folder: Path,
    *,
    metadata: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    weights: Mapping[str, Weight] | None = None,
    model_pt: bytes | None = None,
) -> None:
    """Writes the sound bundle into `folder`, the keys and weights given on top of it."""
    folder.mkdir(parents=True, exist_ok=True)
    documents = {
        "metadata_v3.json": {**METADATA, **(metadata or {})},
        "config.json": {**CONFIG, **(config or {})},
        "features.json": {"feature_count": len(FEATURES)},
    }
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document), encoding="utf-8")
    content = archive_of({**WEIGHTS, **(weights or {})}).write() if model_pt is None else model_pt
    (folder / "model.pt").write_bytes(content)
