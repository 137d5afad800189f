"""The networks of the reference give what the reference recorded, from its own features."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from backlane.errors import BundleInvalidError
from backlane.inference.document import Document
from backlane.inference.model_info import ModelHead, ModelInfo
from backlane.inference.network_spec import read_network_spec
from backlane.inference.networks import build_network
from backlane.inference.torch_predictor import TorchPredictor, one_thread
from backlane.sources.weights_file import read_weights
from tests.shared import KTRDR, needs_shared

# SPEC section 18, relative to the largest sum in the network. The reference predicted one row at
# a time; a product over many rows adds in another order, and float32 rounds each sum by 6e-8 of its
# size. (The recorded values are themselves up to 2e-6 from the same networks in float64.)
TOLERANCE = 1e-6
CLASSES = ["p_BUY", "p_HOLD", "p_SELL"]


def reference_predictor(bundle: str) -> TorchPredictor:
    """The network alone: some of these strategies use indicators that features do not know yet."""
    folder = next((KTRDR / "bundles" / bundle).iterdir())
    metadata = json.loads((folder / "metadata_v3.json").read_text())
    config = Document("config.json", json.loads((folder / "config.json").read_text()))
    head = ModelHead(metadata["output_type"])
    names = tuple(metadata["resolved_features"])
    spec = read_network_spec(config, input_count=len(names), output_count=head.output_count)
    weights = read_weights((folder / "model.pt").read_bytes(), "model.pt")
    unused: Any = None
    info = ModelInfo(
        bundle, "1", "", spec.architecture, head, names, spec.sequence_length, unused, unused, {}
    )
    return TorchPredictor(info, build_network(spec, weights))


def recorded(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The features of every bar, and the outputs of every decided one; both by stamp."""
    place = json.loads((KTRDR / "features" / "index.json").read_text())[name]
    features = pd.read_parquet(KTRDR / place["file"])[place["columns_in_order"]]
    outputs = pd.read_parquet(KTRDR / "model_outputs" / f"{name}.parquet")
    return features, outputs.set_index("timestamp")


@needs_shared
@pytest.mark.parametrize(
    "bundle",
    ["rsi_bb_1h", "lstm_1h", "gru_1h", "reg_1h", "regime_1h", "kitchen_1h", "hybrid_1h"],
)
def test_outputs_equal_the_recorded_ones(bundle: str) -> None:
    predictor = reference_predictor(bundle)
    features, expected = recorded(f"{bundle}__2023-01-01__2023-12-31")
    assert tuple(features.columns) == predictor.info.features
    outputs = predictor.predict(features.to_numpy(np.float32))
    decided, recorded_values = decided_values(expected, predictor.info.head)
    outputs = outputs[features.index.get_indexer(decided)]
    assert len(outputs) > 5000
    scale = largest_sum(predictor, features.to_numpy(np.float32))
    found = as_recorded(outputs, predictor.info.head)
    assert (np.abs(found - recorded_values) <= TOLERANCE * scale).all()


@needs_shared
@pytest.mark.parametrize(
    "bundle",
    ["rsi_bb_1h", "lstm_1h", "gru_1h", "reg_1h", "regime_1h", "kitchen_1h", "hybrid_1h"],
)
def test_one_window_at_a_time_as_the_reference_asked_is_nearer_still(bundle: str) -> None:
    predictor = reference_predictor(bundle)
    head, length = predictor.info.head, predictor.info.sequence_length
    features, expected = recorded(f"{bundle}__2023-01-01__2023-12-31")
    values = features.to_numpy(np.float32).copy()
    decided, recorded_values = decided_values(expected, head)
    for row, stamp in list(enumerate(decided))[::40]:
        end = features.index.get_loc(stamp) + 1
        window = torch.from_numpy(values[end - length : end])
        # Past the slices of TorchPredictor: the bare network, with one window alone.
        inputs = window if predictor.info.architecture == "mlp" else window[None]
        with one_thread(), torch.inference_mode():
            outputs = predictor._network(inputs).numpy()
        assert np.abs(as_recorded(outputs, head) - recorded_values[row]).max() < TOLERANCE


@needs_shared
def test_rows_that_the_reference_could_not_decide_are_nan() -> None:
    predictor = reference_predictor("kitchen_1h")
    features, expected = recorded("kitchen_1h__2023-01-01__2023-12-31")
    outputs = predictor.predict(features.to_numpy(np.float32))[
        features.index.get_indexer(expected.index)
    ]
    undecided = expected["raw_signal"].isna().to_numpy()
    assert (np.isnan(outputs).all(axis=1) == undecided).all()


@needs_shared
def test_a_reference_model_with_another_width_is_refused() -> None:
    folder = next((KTRDR / "bundles" / "rsi_bb_1h").iterdir())
    config = Document("config.json", json.loads((folder / "config.json").read_text()))
    spec = read_network_spec(config, input_count=11, output_count=3)
    weights = read_weights((folder / "model.pt").read_bytes(), "model.pt")
    with pytest.raises(BundleInvalidError, match=r"expected \(32, 11\), found \(32, 10\)"):
        build_network(spec, weights)


def largest_sum(predictor: TorchPredictor, values: np.ndarray) -> float:
    """The largest value that any layer gives, at least 1; inside an lstm or gru all are below 1."""
    sizes = [1.0]
    for layer in predictor._network.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(lambda _, __, out: sizes.append(float(out.abs().max())))
    predictor.predict(np.nan_to_num(values))
    return max(sizes)


def decided_values(expected: pd.DataFrame, head: ModelHead) -> tuple[pd.Index, np.ndarray]:
    """The stamps that the reference decided on, and what it recorded there."""
    decided = expected[expected["raw_signal"].notna()]
    columns = ["predicted_return"] if head is ModelHead.REGRESSION else CLASSES
    return decided.index, decided[columns].to_numpy()


def as_recorded(outputs: np.ndarray, head: ModelHead) -> np.ndarray:
    """The reference reads any classifier as BUY, HOLD, SELL, hence its first three classes."""
    return outputs if head is ModelHead.REGRESSION else softmax(outputs)[:, :3]


def softmax(logits: np.ndarray) -> np.ndarray:
    """In float32, as torch.softmax: shifted by the maximum, so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)
