"""What goes over the wire comes back as it was."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backlane.api.models.v1 import models_service_pb2 as pb
from backlane.errors import InvalidRequestError, PathEscapesRootError
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.inference.model_info import (
    BundleDecisions,
    ModelEntry,
    ModelHead,
    ModelInfo,
    ModelState,
)
from backlane.inference.model_name import ModelName, PredictTarget
from backlane.wire.models import (
    chunk_from_proto,
    decisions_from_proto,
    decisions_to_proto,
    entry_from_proto,
    entry_to_proto,
    model_from_proto,
    opening_from_proto,
    strategy_from_proto,
    strategy_to_proto,
    target_from_proto,
)

STRATEGY = Strategy(
    name="demo",
    version="3.0",
    symbols=("EURUSD", "GBPUSD"),
    timeframes=("1h", "5m"),
    indicators=(
        IndicatorSpec(
            "bb", "bbands", {"period": 20, "multiplier": 2.5, "source": "close", "adjust": True}
        ),
        IndicatorSpec("rsi", "rsi", {"period": 14}),
    ),
    fuzzy_sets=(
        FuzzySetSpec(
            "bb_up",
            "bb.upper",
            (
                MembershipSpec("low", "triangular", (0.9, 1.0, 1.1)),
                MembershipSpec("high", "gaussian", (1.12, 0.03)),
            ),
        ),
    ),
    nn_inputs=(
        NetworkInputSpec(fuzzy_set="bb_up", timeframes=("5m", "1h")),
        NetworkInputSpec(raw_indicator="rsi", normalization="minmax"),
    ),
)
INFO = ModelInfo(
    model="demo",
    version="1h_v2",
    digest="sha256:ab",
    architecture="lstm",
    head=ModelHead.REGRESSION,
    features=("5m_bb_up_low", "1h_rsi_raw"),
    sequence_length=20,
    strategy=STRATEGY,
    decisions=BundleDecisions(None, False, True, 0.0, 0.003, 1.5),
    runtime={"torch": "2.13.0+cpu"},
    created_at="2026-01-02T03:04:05.250000Z",
    normalization={"1h_rsi_raw": {"min": 0.0, "max": 100.0}},
)


@pytest.mark.parametrize("state", ModelState)
def test_a_bundle_survives_the_wire(state: ModelState) -> None:
    entry = ModelEntry(INFO.name, state, INFO, "why" if state is ModelState.FAILED else "")
    assert entry_from_proto(entry_to_proto(entry)) == entry
    assert model_from_proto(entry_to_proto(entry)) == INFO


@pytest.mark.parametrize("head", ModelHead)
def test_every_head_survives_and_has_its_columns(head: ModelHead) -> None:
    info = dataclasses.replace(INFO, head=head, created_at="")
    message = entry_to_proto(ModelEntry(info.name, ModelState.READY, info))
    assert model_from_proto(message) == info
    assert message.output_count == head.output_count


def test_a_bundle_that_cannot_be_described_survives() -> None:
    entry = ModelEntry("models/a/versions/1", ModelState.FAILED, None, "config.json is no JSON")
    assert entry_from_proto(entry_to_proto(entry)) == entry


def test_parameters_keep_their_types() -> None:
    parameters = strategy_from_proto(strategy_to_proto(STRATEGY)).indicators[0].parameters
    assert [(name, type(value)) for name, value in sorted(parameters.items())] == [
        ("adjust", bool),
        ("multiplier", float),
        ("period", int),
        ("source", str),
    ]


@given(
    st.builds(
        BundleDecisions,
        st.none() | st.floats(0, 1),
        st.none() | st.booleans(),
        st.none() | st.booleans(),
        st.none() | st.floats(0, 1e4),
        st.none() | st.floats(1e-6, 1),
        st.none() | st.floats(1e-6, 10),
    )
)
def test_decisions_keep_what_is_unset_apart_from_zero(decisions: BundleDecisions) -> None:
    assert decisions_from_proto(decisions_to_proto(decisions)) == decisions


finite = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(alphabet="abz_.", min_size=1, max_size=5)


@given(
    st.builds(
        Strategy,
        names,
        names,
        st.lists(names, max_size=2).map(tuple),
        st.lists(names, max_size=3).map(tuple),
        st.lists(
            st.builds(
                IndicatorSpec,
                names,
                names,
                st.dictionaries(
                    names,
                    st.integers(-(2**63), 2**63 - 1) | finite | names | st.booleans(),
                    max_size=3,
                ),
            ),
            max_size=2,
        ).map(tuple),
        st.just(()),
        st.just(()),
    )
)
def test_any_strategy_survives_the_wire(strategy: Strategy) -> None:
    back = strategy_from_proto(strategy_to_proto(strategy))
    assert back == strategy
    for before, after in zip(strategy.indicators, back.indicators, strict=True):
        for name, value in before.parameters.items():
            assert type(after.parameters[name]) is type(value)
            if isinstance(value, float):
                assert math.copysign(1, after.parameters[name]) == math.copysign(1, value)


def test_a_request_says_which_model_and_what_to_do_with_nan() -> None:
    request = pb.PredictRequest(
        name="models/a", expected_digest="sha256:1", nan_policy=pb.NAN_POLICY_REFUSE
    )
    assert target_from_proto(request) == PredictTarget(ModelName("a"), "sha256:1", True)
    assert not target_from_proto(pb.PredictRequest(name="models/a")).refuse_nan


def test_an_unknown_nan_policy_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="7 is no NanPolicy") as caught:
        target_from_proto(pb.PredictRequest(name="models/a", nan_policy=7))
    assert caught.value.violations[0].field == "nan_policy"


def test_a_stream_opens_once_and_first() -> None:
    opening = pb.PredictStreamRequest(open=pb.PredictStreamRequest.Open(name="models/a"))
    chunk = pb.PredictStreamRequest(features=pb.Tensor(shape=[0, 1]))
    assert opening_from_proto(opening).name == ModelName("a")
    assert chunk_from_proto(chunk).shape == [0, 1]
    for first in (None, chunk, pb.PredictStreamRequest()):
        with pytest.raises(InvalidRequestError, match="first message must carry open"):
            opening_from_proto(first)
    with pytest.raises(InvalidRequestError, match="open may be sent once"):
        chunk_from_proto(opening)
    with pytest.raises(InvalidRequestError, match="must carry features"):
        chunk_from_proto(pb.PredictStreamRequest())


def test_a_name_that_climbs_is_refused_in_a_stream_too() -> None:
    opening = pb.PredictStreamRequest(open=pb.PredictStreamRequest.Open(name="models/../a"))
    with pytest.raises(PathEscapesRootError):
        opening_from_proto(opening)
