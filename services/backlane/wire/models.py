"""Models on the wire: ModelInfo and what it is made of, as messages and back."""

from collections.abc import Mapping
from datetime import UTC, datetime

from backlane.api.models.v1 import model_pb2 as pb
from backlane.api.models.v1 import models_service_pb2 as service_pb
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    ParameterValue,
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

_HEADS = {
    ModelHead.CLASSIFICATION: pb.MODEL_HEAD_CLASSIFICATION,
    ModelHead.REGRESSION: pb.MODEL_HEAD_REGRESSION,
    ModelHead.REGIME: pb.MODEL_HEAD_REGIME,
    ModelHead.CONTEXT: pb.MODEL_HEAD_CONTEXT,
}
_HEADS_BACK = {number: head for head, number in _HEADS.items()}
_STATES = {
    ModelState.UNLOADED: pb.Model.STATE_UNLOADED,
    ModelState.READY: pb.Model.STATE_READY,
    ModelState.FAILED: pb.Model.STATE_FAILED,
}
_STATES_BACK = {number: state for state, number in _STATES.items()}
_NORMALIZATION_KEYS = ("min", "max", "mean", "std")


def entry_to_proto(entry: ModelEntry) -> pb.Model:
    """The message for a bundle and where it stands."""
    state, info = _STATES[entry.state], entry.info
    if info is None:
        return pb.Model(name=entry.name, state=state, reason=entry.reason)
    message = pb.Model(
        name=info.name,
        digest=info.digest,
        state=state,
        reason=entry.reason,
        architecture=info.architecture,
        head=_HEADS[info.head],
        features=info.features,
        output_count=info.head.output_count,
        sequence_length=info.sequence_length,
        strategy=strategy_to_proto(info.strategy),
        decisions=decisions_to_proto(info.decisions),
        runtime=info.runtime,
        normalization={
            name: pb.Normalization(**scale) for name, scale in info.normalization.items()
        },
    )
    if info.created_at:
        message.create_time.FromJsonString(info.created_at)
    return message


def entry_from_proto(message: pb.Model) -> ModelEntry:
    """The bundle of a message, and where it stands."""
    info = model_from_proto(message) if message.digest else None
    return ModelEntry(message.name, _STATES_BACK[message.state], info, message.reason)


def model_from_proto(message: pb.Model) -> ModelInfo:
    """The bundle that a message describes; one that could be described."""
    name = ModelName.parse(message.name)
    return ModelInfo(
        model=name.model,
        version=name.version,
        digest=message.digest,
        architecture=message.architecture,
        head=_HEADS_BACK[message.head],
        features=tuple(message.features),
        sequence_length=message.sequence_length,
        strategy=strategy_from_proto(message.strategy),
        decisions=decisions_from_proto(message.decisions),
        runtime=dict(message.runtime),
        created_at=_created_at(message),
        normalization={
            name: _normalization_from_proto(message.normalization[name])
            for name in sorted(message.normalization)
        },
    )


def target_from_proto(
    message: service_pb.PredictRequest | service_pb.PredictStreamRequest.Open, *, field: str = ""
) -> PredictTarget:
    """The model that a request asks to predict; `field` is the path to `message`, with its dot.

    Raises what `ModelName.parse` raises, and InvalidRequestError for an unknown NaN policy.
    """
    name = ModelName.parse(message.name, field=f"{field}name")
    policy = message.nan_policy
    if policy not in service_pb.NanPolicy.values():
        description = f"{policy} is no NanPolicy; send 1 to propagate NaN, 2 to refuse it"
        raise InvalidRequestError(
            f"{field}nan_policy: {description}.",
            violations=(FieldViolation(f"{field}nan_policy", description),),
        )
    return PredictTarget(name, message.expected_digest, policy == service_pb.NAN_POLICY_REFUSE)


def opening_from_proto(message: service_pb.PredictStreamRequest | None) -> PredictTarget:
    """The model that the first message of a stream opens; None when the stream ended before one.

    Raises InvalidRequestError when it is no Open, and what `target_from_proto` raises.
    """
    if message is None or message.WhichOneof("payload") != "open":
        found = "none" if message is None else message.WhichOneof("payload") or "an empty one"
        description = f"the first message must carry open, which names the model; it was {found}"
        raise InvalidRequestError(
            f"A stream of predictions begins wrongly: {description}.",
            violations=(FieldViolation("open", description),),
        )
    return target_from_proto(message.open, field="open.")


def chunk_from_proto(message: service_pb.PredictStreamRequest) -> service_pb.Tensor:
    """The rows that a later message of a stream carries.

    Raises InvalidRequestError when it opens the stream once more, or is empty.
    """
    found = message.WhichOneof("payload")
    if found != "features":
        description = (
            "open may be sent once, as the first message; begin another stream for another model"
            if found == "open"
            else "a message after the first must carry features"
        )
        raise InvalidRequestError(
            f"A stream of predictions goes on wrongly: {description}.",
            violations=(FieldViolation(found or "features", description),),
        )
    return message.features


def strategy_to_proto(strategy: Strategy) -> pb.Strategy:
    """The message for a strategy; every order is kept."""
    return pb.Strategy(
        name=strategy.name,
        version=strategy.version,
        symbols=strategy.symbols,
        timeframes=strategy.timeframes,
        indicators=[_indicator_to_proto(indicator) for indicator in strategy.indicators],
        fuzzy_sets=[_fuzzy_set_to_proto(fuzzy_set) for fuzzy_set in strategy.fuzzy_sets],
        nn_inputs=[_input_to_proto(nn_input) for nn_input in strategy.nn_inputs],
    )


def strategy_from_proto(message: pb.Strategy) -> Strategy:
    """The strategy of a message."""
    return Strategy(
        name=message.name,
        version=message.version,
        symbols=tuple(message.symbols),
        timeframes=tuple(message.timeframes),
        indicators=tuple(_indicator_from_proto(indicator) for indicator in message.indicators),
        fuzzy_sets=tuple(_fuzzy_set_from_proto(fuzzy_set) for fuzzy_set in message.fuzzy_sets),
        nn_inputs=tuple(_input_from_proto(nn_input) for nn_input in message.nn_inputs),
    )


def decisions_to_proto(decisions: BundleDecisions) -> pb.Decisions:
    """The message for a bundle's decisions; what is None stays unset."""
    return pb.Decisions(
        confidence_threshold=decisions.confidence_threshold,
        position_awareness=decisions.position_awareness,
        allow_short_from_flat=decisions.allow_short_from_flat,
        min_signal_separation_hours=decisions.min_signal_separation_hours,
        round_trip_cost=decisions.round_trip_cost,
        min_edge_multiplier=decisions.min_edge_multiplier,
    )


def decisions_from_proto(message: pb.Decisions) -> BundleDecisions:
    """The decisions of a message; what is unset is None."""

    def real(field: str) -> float | None:
        return float(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]

    def flag(field: str) -> bool | None:
        return bool(getattr(message, field)) if message.HasField(field) else None  # type: ignore[arg-type]

    return BundleDecisions(
        confidence_threshold=real("confidence_threshold"),
        position_awareness=flag("position_awareness"),
        allow_short_from_flat=flag("allow_short_from_flat"),
        min_signal_separation_hours=real("min_signal_separation_hours"),
        round_trip_cost=real("round_trip_cost"),
        min_edge_multiplier=real("min_edge_multiplier"),
    )


def _created_at(message: pb.Model) -> str:
    if not message.HasField("create_time"):
        return ""
    made_at: datetime = message.create_time.ToDatetime(UTC)
    return made_at.isoformat().replace("+00:00", "Z")


def _normalization_from_proto(message: pb.Normalization) -> dict[str, float]:
    return {
        key: getattr(message, key)
        for key in _NORMALIZATION_KEYS
        if message.HasField(key)  # type: ignore[arg-type]
    }


def _indicator_to_proto(indicator: IndicatorSpec) -> pb.Indicator:
    values = {name: _value_to_proto(value) for name, value in indicator.parameters.items()}
    return pb.Indicator(id=indicator.id, type=indicator.type, parameters=values)


def _indicator_from_proto(message: pb.Indicator) -> IndicatorSpec:
    return IndicatorSpec(message.id, message.type, _values_from_proto(message.parameters))


def _value_to_proto(value: ParameterValue) -> pb.ParameterValue:
    match value:
        case bool():  # before int, of which it is one
            return pb.ParameterValue(bool_value=value)
        case int():
            return pb.ParameterValue(int_value=value)
        case float():
            return pb.ParameterValue(double_value=value)
        case _:
            return pb.ParameterValue(string_value=value)


def _values_from_proto(values: Mapping[str, pb.ParameterValue]) -> dict[str, ParameterValue]:
    """Sorted by name: a map on the wire has no order, and a result's hash must not depend on it."""
    return {name: getattr(values[name], _set_value(values[name])) for name in sorted(values)}


def _set_value(value: pb.ParameterValue) -> str:
    return value.WhichOneof("value") or "string_value"


def _fuzzy_set_to_proto(fuzzy_set: FuzzySetSpec) -> pb.FuzzySet:
    return pb.FuzzySet(
        id=fuzzy_set.id,
        indicator=fuzzy_set.indicator,
        memberships=[
            pb.MembershipFunction(name=term.name, type=term.type, parameters=term.parameters)
            for term in fuzzy_set.memberships
        ],
    )


def _fuzzy_set_from_proto(message: pb.FuzzySet) -> FuzzySetSpec:
    return FuzzySetSpec(
        id=message.id,
        indicator=message.indicator,
        memberships=tuple(
            MembershipSpec(term.name, term.type, tuple(term.parameters))
            for term in message.memberships
        ),
    )


def _input_to_proto(nn_input: NetworkInputSpec) -> pb.NetworkInput:
    message = pb.NetworkInput(timeframes=nn_input.timeframes, normalization=nn_input.normalization)
    if nn_input.fuzzy_set is not None:
        message.fuzzy_set = nn_input.fuzzy_set
    if nn_input.raw_indicator is not None:
        message.raw_indicator = nn_input.raw_indicator
    return message


def _input_from_proto(message: pb.NetworkInput) -> NetworkInputSpec:
    source = message.WhichOneof("source")
    return NetworkInputSpec(
        fuzzy_set=message.fuzzy_set if source == "fuzzy_set" else None,
        raw_indicator=message.raw_indicator if source == "raw_indicator" else None,
        timeframes=tuple(message.timeframes),
        normalization=message.normalization or "none",
    )
