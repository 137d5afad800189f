"""Signals inside a cycle, trusted as far as a meta-model does; one of them a real bundle."""

import numpy as np
import pytest

from backlane.cycle.context import BookFacts, context_at
from backlane.cycle.cycle_result import CycleUniverse, StrategySignals
from backlane.cycle.meta_model_stage import ConfidentSignals
from backlane.errors import InvalidRequestError, TensorMismatchError
from backlane.panel.panel import Panel
from backlane.signals.meta_model import (
    LogisticModel,
    LogisticTerm,
    MetaModelRules,
    MetaModelUse,
    PredictedConfidence,
    weigh_triggers,
)
from backlane.signals.triggers import TriggerKind, TriggerSignal
from backlane.sources.bundle import load_predictor, read_bundle
from tests.bundle_maker import BundleMaker

SYMBOLS = ("A", "B", "C", "D")
MODEL = LogisticModel(0.0, (LogisticTerm("x", 1.0),))
X = np.array([[9.0, 9.0, 9.0, 9.0], [np.log(4.0), -np.log(4.0), -np.log(4.0), 0.0]])
"""In the last row confidences of 0.8, 0.2, 0.2 and 0.5."""


def _context():
    close = np.full((2, 4), 100.0)
    time_ns = np.array([1, 2], np.int64)
    panel = Panel(SYMBOLS, time_ns, time_ns, close, close, close, close, None)
    return context_at(panel, {}, 2, book=BookFacts.of_cash(4, 1000.0))


def _said(**changes):
    given = {
        "direction": np.array([1, 1, -1, 0], np.int8),
        "score": np.array([0.5, 0.5, 0.4, 0.1]),
        "weights": np.array([0.5, 0.3, -0.2, np.nan]),
    }
    return StrategySignals("S", **{**given, **changes})


def _run(rules, said, features=None, model=MODEL):
    stage = ConfidentSignals(lambda *_: (said,), model, rules)
    universe = CycleUniverse(np.ones(4, bool))
    return stage(_context(), universe, {"S.x": X} if features is None else features)[0]


def test_a_long_that_is_not_trusted_becomes_flat():
    made = _run(MetaModelRules(), _said(standing=np.array([0.5, 0.3, -0.2, 0.7])))
    assert made.direction.tolist() == [1, 0, -1, 0]
    assert made.score.tolist() == [0.5, 0.5, 0.4, 0.1]
    assert made.weights.tolist()[:3] == [0.5, 0.0, -0.2]
    assert np.isnan(made.weights[3])
    assert made.standing.tolist() == [0.5, 0.0, -0.2, 0.7]


def test_scaling_multiplies_scores_and_the_weights_of_longs():
    rules = MetaModelRules(MetaModelUse.SCALE, max_confidence=0.6)
    made = _run(rules, _said())
    assert made.direction.tolist() == [1, 1, -1, 0]
    assert made.score == pytest.approx([0.3, 0.1, 0.08, 0.05])
    assert made.weights[:3] == pytest.approx([0.3, 0.06, -0.2])


def _trigger(symbol):
    return TriggerSignal(symbol, TriggerKind.BREAKOUT, 0.7, 0.8, 100.0, 0.03, 0.5)


def test_triggers_are_dropped_or_scaled():
    said = StrategySignals("S", triggers=tuple(map(_trigger, SYMBOLS)))
    kept = _run(MetaModelRules(), said).triggers
    assert [each.symbol for each in kept] == ["A", "D"]
    scaled = _run(MetaModelRules(MetaModelUse.SCALE), said).triggers
    assert [each.confidence for each in scaled] == pytest.approx([0.64, 0.16, 0.16, 0.4])


def test_what_nothing_is_known_about_is_not_entered():
    for use in MetaModelUse:
        assert weigh_triggers([_trigger("A")], {}, MetaModelRules(use)) == ()
        assert weigh_triggers([_trigger("A")], {"A": np.nan}, MetaModelRules(use)) == ()


def test_a_feature_that_is_missing_is_named():
    with pytest.raises(ValueError, match="feature x of the meta-model"):
        _run(MetaModelRules(), _said(), features={"S.y": X})


def test_every_mistake_in_the_rules_is_listed():
    with pytest.raises(InvalidRequestError) as caught:
        MetaModelRules(min_confidence=1.5, max_confidence=-0.1)
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["min_confidence", "max_confidence"]


@pytest.fixture(scope="module")
def predictors(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    makers = {
        "mlp": BundleMaker(feature_count=3, hidden_layers=(8,)),
        "lstm": BundleMaker(architecture="lstm", feature_count=3, hidden_size=4, sequence_length=5),
        "regression": BundleMaker(feature_count=3, output_type="regression"),
    }
    for name, maker in makers.items():
        maker.write(root / name / "1")
    return {name: load_predictor(read_bundle(root / name / "1")) for name in makers}


def _grids(names, rows=30):
    random = np.random.default_rng(4)
    grids = {name: random.normal(size=(rows, 4)) for name in names}
    grids[names[0]][10, 2] = np.nan
    return grids


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_a_bundle_gives_each_instrument_its_probability_of_buy(predictors, name):
    predictor = predictors[name]
    model = PredictedConfidence(predictor)
    grids = _grids(model.features)
    found = model.confidence(grids)
    rows = np.stack([grids[each][:, 1] for each in model.features], axis=1).astype(np.float32)
    logits = predictor.predict(np.ascontiguousarray(rows)).astype(float)
    powers = np.exp(logits)
    expected = powers[:, 0] / powers.sum(axis=1)
    assert found[:, 1] == pytest.approx(expected, rel=1e-6, nan_ok=True)  # float32 logits
    assert np.isnan(found[10, 2])
    assert np.isfinite(found[-1]).all()


@pytest.mark.parametrize("name", ["mlp", "lstm"])
def test_a_cycle_asks_about_no_more_rows_than_it_needs(predictors, name):
    model = PredictedConfidence(predictors[name])
    grids = _grids(model.features)
    whole = model.confidence(grids)[-1]
    rows = model.history_rows
    assert rows == {"mlp": 1, "lstm": 5}[name]
    last = model.confidence({key: values[-rows:] for key, values in grids.items()})[-1]
    assert last.tolist() == whole.tolist()
    made = _run(MetaModelRules(min_confidence=float(whole[0])), _said(), grids, model)
    assert made.direction[0] == 1


def test_a_model_that_classifies_nothing_is_refused(predictors):
    with pytest.raises(TensorMismatchError, match="must be a classification"):
        PredictedConfidence(predictors["regression"])
