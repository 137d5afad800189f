"""The networks of the reference give what the reference recorded, from its own features."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from backlane.decisions.scores import classification_scores, regression_scores
from backlane.errors import BundleInvalidError
from backlane.inference.document import Document
from backlane.inference.model_info import ModelHead
from backlane.inference.network_spec import read_network_spec
from backlane.inference.networks import build_network
from backlane.inference.torch_predictor import one_thread
from backlane.sources.weights_file import read_weights
from tests.golden.vectors import (
    CODES,
    KTRDR,
    bundle_folder,
    folders,
    output_tolerance,
    predictor_of,
    read_json,
)
from tests.shared import needs_shared

READS = ("model_outputs/*.parquet", "features/*.parquet", "features/index.json")

pytestmark = needs_shared

CLASSES = ["p_BUY", "p_HOLD", "p_SELL"]
NAMES = [path.stem for path in sorted((KTRDR / "model_outputs").glob("*.parquet"))]


def recorded(name: str) -> tuple[str, pd.DataFrame, pd.DataFrame]:
    """The bundle, the features of every bar, the outputs of every decided one; both by stamp.

    A fourth part of the name is the cost model of the decisions, which no feature depends on.
    """
    bundle, start, end = name.split("__")[:3]
    place = read_json(KTRDR / "features" / "index.json")[f"{bundle}__{start}__{end}"]
    features = pd.read_parquet(KTRDR / place["file"])[place["columns_in_order"]]
    outputs = pd.read_parquet(KTRDR / "model_outputs" / f"{name}.parquet").set_index("timestamp")
    return bundle, features, outputs


def edge_of(name: str) -> float:
    """The predicted return to exceed: in the name, `__0.001x1`, else the bundle's own."""
    bundle, *rest = name.split("__")
    if len(rest) == 3:
        cost, multiplier = rest[2].split("x")
        return float(cost) * float(multiplier)
    costs = read_json(bundle_folder(bundle) / "config.json")["decisions"]["cost_model"]
    return costs["round_trip_cost"] * costs["min_edge_multiplier"]


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_the_recorded_ones(name: str) -> None:
    bundle, features, expected = recorded(name)
    predictor = predictor_of(bundle)
    head = predictor.info.head
    assert tuple(features.columns) == predictor.info.features
    outputs = predictor.predict(features.to_numpy(np.float32))
    outputs = outputs[features.index.get_indexer(expected.index)]
    # Where the reference could not decide, the outputs are NaN.
    undecided = expected["raw_signal"].isna().to_numpy()
    assert (np.isnan(outputs).all(axis=1) == undecided).all()
    columns = ["predicted_return"] if head is ModelHead.REGRESSION else CLASSES
    found = as_recorded(outputs[~undecided], head)
    wanted = expected[~undecided]
    assert np.abs(found - wanted[columns].to_numpy()).max() <= output_tolerance(bundle)
    if head is ModelHead.REGRESSION:
        scores = regression_scores(outputs[~undecided], edge=edge_of(name))
    else:
        scores = classification_scores(outputs[~undecided], sum_one_is_probability=True)
    np.testing.assert_array_equal(scores.raw_decision, wanted["raw_signal"].map(CODES))
    # A regression's confidence is its return over the edge, and grows its error with it.
    scale = 1.0 / (3 * edge_of(name)) if head is ModelHead.REGRESSION else 1.0
    distance = np.abs(scores.confidence - wanted["confidence"].to_numpy())
    assert distance.max() <= max(scale, 1.0) * output_tolerance(bundle)


@pytest.mark.parametrize("name", NAMES)
def test_one_window_at_a_time_gives_the_same(name: str) -> None:
    """As the reference asks: the bare network with one window alone, past TorchPredictor."""
    bundle, features, expected = recorded(name)
    predictor = predictor_of(bundle)
    head, length = predictor.info.head, predictor.info.sequence_length
    values = features.to_numpy(np.float32).copy()
    columns = ["predicted_return"] if head is ModelHead.REGRESSION else CLASSES
    decided = expected[expected["raw_signal"].notna()]
    for stamp, row in decided.iloc[::40].iterrows():
        end = features.index.get_loc(stamp) + 1
        window = torch.from_numpy(values[end - length : end])
        inputs = window if predictor.info.architecture == "mlp" else window[None]
        with one_thread(), torch.inference_mode():
            outputs = predictor._network(inputs).numpy()
        wanted = row[columns].to_numpy(np.float64)
        assert np.abs(as_recorded(outputs, head)[0] - wanted).max() <= output_tolerance(bundle)


@pytest.mark.parametrize("bundle", [p.parent.name for p in folders("bundles", "metadata_v3.json")])
def test_a_reference_model_with_another_width_is_refused(bundle: str) -> None:
    folder = bundle_folder(bundle)
    config = Document("config.json", json.loads((folder / "config.json").read_text()))
    width = len(read_json(folder / "metadata_v3.json")["resolved_features"])
    outputs = predictor_of(bundle).info.head.output_count
    spec = read_network_spec(config, input_count=width + 1, output_count=outputs)
    weights = read_weights((folder / "model.pt").read_bytes(), "model.pt")
    with pytest.raises(BundleInvalidError, match=rf"expected \(\d+, {width + 1}\), found"):
        build_network(spec, weights)


def as_recorded(outputs: np.ndarray, head: ModelHead) -> np.ndarray:
    """The reference reads any classifier as BUY, HOLD, SELL, hence its first three classes."""
    return outputs if head is ModelHead.REGRESSION else softmax(outputs)[:, :3]


def softmax(logits: np.ndarray) -> np.ndarray:
    """In float32, as torch.softmax: shifted by the maximum, so that nothing overflows."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Any = shifted / shifted.sum(axis=1, keepdims=True)
    return result
