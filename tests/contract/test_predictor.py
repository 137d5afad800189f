"""The predictor in process and the one behind model_service keep the same promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from backlane.client.models import ModelsClient
from backlane.inference.predictor import Predictor
from backlane.sources.bundle import load_predictor, read_bundle
from backlane.testing.contracts.predictor import (
    LONG_ROW_COUNT,
    PredictorContract,
    random_rows,
    same_bits,
)
from tests.bundle_maker import BundleMaker
from tests.model_server import serving

MAKERS = {
    "mlp": BundleMaker(feature_count=10, hidden_layers=(32, 16)),
    "lstm": BundleMaker(architecture="lstm", feature_count=4, hidden_size=8, sequence_length=12),
    "gru": BundleMaker(
        architecture="gru",
        feature_count=3,
        layer_count=1,
        sequence_length=3,
        output_type="regression",
    ),
    "regime": BundleMaker(output_type="regime_classification", activation="tanh"),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for name, maker in MAKERS.items():
        maker.write(root / name / "1")
    return root


@pytest.fixture(scope="module")
def client(root: Path) -> Iterator[ModelsClient]:
    with serving(root) as address, ModelsClient(address) as client:
        yield client


@pytest.fixture(params=MAKERS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestTorchPredictor(PredictorContract):
    @pytest.fixture
    def predictor(self, root: Path, model: str) -> Predictor:
        return load_predictor(read_bundle(root / model / "1"))


class TestRemotePredictor(PredictorContract):
    @pytest.fixture
    def predictor(self, client: ModelsClient, model: str) -> Predictor:
        return client.predictor(f"models/{model}")

    def test_its_bits_are_those_of_the_predictor_in_process(
        self, predictor: Predictor, root: Path, model: str
    ) -> None:
        local = load_predictor(read_bundle(root / model / "1"))
        assert predictor.info == local.info
        features = random_rows(local, LONG_ROW_COUNT)
        features[500:600:7] = float("nan")
        assert same_bits(predictor.predict(features), local.predict(features))
