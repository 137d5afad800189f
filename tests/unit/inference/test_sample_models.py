"""The bundles in models/ are what the script makes, and they decide all three ways."""

import importlib.util
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from backlane.features.build import build_features
from backlane.features.rules import FeatureRules
from backlane.market.timeframe import Timeframe
from backlane.sources.bundle import load_predictor, read_bundle, verify_bundle
from backlane.sources.bundle_paths import list_bundles
from backlane.sources.synthetic import aggregate, synthetic_bars

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "models"
NAMES = ("mtf_rsi_bb", "rsi_bb")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_sample_models", ROOT / "scripts" / "make_sample_models.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_making_them_again_gives_the_same_bytes(script: ModuleType, tmp_path: Path) -> None:
    for sample in script.SAMPLES:
        made = script.write(sample, tmp_path)
        kept = MODELS / sample.model / "1"
        names = sorted(path.name for path in kept.iterdir())
        assert sorted(path.name for path in made.iterdir()) == names
        for name in names:
            assert (made / name).read_bytes() == (kept / name).read_bytes(), name


def test_they_are_all_that_models_holds_and_each_is_good() -> None:
    listed = [str(name) for name in list_bundles(MODELS)]
    assert [f"models/{name}/versions/1" for name in NAMES] == listed
    for name in NAMES:
        report = verify_bundle(MODELS / name / "1", root=MODELS)
        assert report.info.digest in (MODELS / name / "1" / "README.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_the_readme_says_plainly_that_it_is_untrained(name: str) -> None:
    text = (MODELS / name / "1" / "README.md").read_text()
    assert "untrained" in text
    assert "it predicts nothing" in text.replace("\n", " ")


@pytest.mark.parametrize("name", NAMES)
def test_every_class_wins_on_synthetic_bars(name: str) -> None:
    bundle = read_bundle(MODELS / name / "1")
    fine = synthetic_bars(1, datetime(2023, 1, 2, tzinfo=UTC), 12_000, Timeframe.parse("5m"))
    bars = {"5m": fine, "1h": aggregate(fine, Timeframe.parse("1h"))}
    strategy = bundle.info.strategy
    assert strategy.timeframes[0] == "1h"
    matrix = build_features(
        strategy,
        {label: bars[label] for label in strategy.timeframes},
        names=bundle.info.features,
        rules=FeatureRules(),
    )
    outputs = load_predictor(bundle).predict(matrix.values)[matrix.valid_from :]
    outputs = outputs[np.isfinite(outputs).all(axis=1)]
    shares = np.bincount(outputs.argmax(axis=1), minlength=3) / len(outputs)
    assert (shares > 0.05).all(), shares
