"""What the JSON files of a bundle say, made one: features, head, network, decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from backlane.errors import BundleInvalidError
from backlane.features.names import Feature, strategy_features
from backlane.features.rules import FeatureRules
from backlane.features.strategy_file import strategy_from_bundle
from backlane.inference.document import Document
from backlane.inference.model_info import BundleDecisions, ModelHead, ModelInfo
from backlane.inference.network_spec import FEATURE_COUNT_MAX, NetworkSpec, read_network_spec

# Hours; ten years, beyond which a separation is surely a mistake of unit.
_SEPARATION_MAX_HOURS = 87_600.0
_SHOWN_NAMES_MAX = 40
_OUTPUT_FORMATS = ("classification", "regression")
_SCALE_KEYS = {"minmax": ("min", "max"), "zscore": ("mean", "std"), "none": ()}
# What a profile forbids it refuses when features are computed; here no profile is known yet.
_AS_WRITTEN = FeatureRules(ignore_unknown_parameters=True, reference_indicators=True)


@dataclass(frozen=True, slots=True)
class BundleDocuments:
    """The parsed JSON files of one bundle; `features` is None when there is no features.json."""

    metadata: Document
    config: Document
    features: Document | None


@dataclass(frozen=True, slots=True)
class BundleIdentity:
    """What is known of a bundle besides its content: where it lies, its digest, what runs it."""

    model: str
    version: str
    digest: str
    runtime: Mapping[str, str]


def describe_bundle(
    documents: BundleDocuments, identity: BundleIdentity
) -> tuple[ModelInfo, NetworkSpec]:
    """Returns what a backtest must know of the bundle, and the network that its weights must fit.

    Raises BundleInvalidError where the files contradict the format or each other, and
    InvalidStrategyError where the strategy inside breaks its grammar.
    """
    metadata, config = documents.metadata, documents.config
    names = metadata.names("resolved_features", count_max=FEATURE_COUNT_MAX)
    _check_feature_count(documents.features, names)
    head = _read_head(metadata, config)
    spec = read_network_spec(config, input_count=len(names), output_count=head.output_count)
    _check_agreement(metadata, "model_type", spec.architecture)
    if spec.sequence_length > 1:
        _check_agreement(metadata, "sequence_length", spec.sequence_length)
    strategy = strategy_from_bundle(metadata.values, rules=_AS_WRITTEN)
    features = strategy_features(strategy)
    _check_feature_order(metadata, names, features)
    info = ModelInfo(
        model=identity.model,
        version=identity.version,
        digest=identity.digest,
        architecture=spec.architecture,
        head=head,
        features=names,
        sequence_length=spec.sequence_length,
        strategy=strategy,
        decisions=_read_decisions(config.section("decisions")),
        runtime=dict(identity.runtime),
        created_at=_read_created_at(metadata),
        normalization=_read_normalization(metadata.section("normalization_params"), features),
    )
    return info, spec


def _check_feature_count(features: Document | None, names: tuple[str, ...]) -> None:
    if features is None:
        return
    count = features.whole("feature_count", minimum=1, maximum=FEATURE_COUNT_MAX)
    if count is not None and count != len(names):
        raise BundleInvalidError(
            f"{features.path('feature_count')} is {count}, but metadata_v3.json lists "
            f"{len(names)} resolved_features; export the bundle again so that both agree.",
            metadata={"feature_count": str(count), "resolved_features": str(len(names))},
        )


def _check_feature_order(
    metadata: Document, names: tuple[str, ...], features: tuple[Feature, ...]
) -> None:
    """Refuses names that the strategy does not give, or gives in another order.

    A column at the wrong place feeds the network garbage, and nothing else would notice. Features
    that the strategy gives and the network does not take may stay: the profile decides on them.
    """
    given = iter(feature.name for feature in features)
    for name in names:
        if name not in given:  # consumes `given` up to the name
            resolved, computed = _listed(names), _listed([feature.name for feature in features])
            raise BundleInvalidError(
                f"{metadata.path('resolved_features')}: {name!r} is not where the strategy of the "
                f"bundle gives it. resolved_features: [{resolved}]; the strategy gives "
                f"[{computed}].",
                metadata={"feature": name, "resolved": resolved, "computed": computed},
            )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES_MAX])
    more = len(names) - _SHOWN_NAMES_MAX
    return f"{shown} and {more} more" if more > 0 else shown


def _check_agreement(metadata: Document, key: str, configured: str | int) -> None:
    """Refuses a metadata value that says something else than config.json."""
    found = metadata.values.get(key)
    if found is not None and found != configured:
        raise metadata.refuse(key, found, f"{configured!r}, which is what config.json describes")


def _read_head(metadata: Document, config: Document) -> ModelHead:
    """The head that `output_type` names; config.json may repeat it, not differ.

    Decisions of another kind would read a class for a return, or the other way round.
    """
    heads = tuple(head.value for head in ModelHead)
    head = ModelHead(metadata.choice("output_type", heads, ModelHead.CLASSIFICATION.value))
    model, decisions = config.section("model"), config.section("decisions")
    for section in (model, decisions):
        if section is None or section.values.get("output_format") is None:
            continue
        output_format = section.choice("output_format", _OUTPUT_FORMATS, "")
        if (output_format == "regression") != (head is ModelHead.REGRESSION):
            accepted = f"what output_type says: {head.value}"
            raise section.refuse("output_format", output_format, accepted)
    if model is None:
        return head
    class_count = model.values.get("num_classes")
    if class_count is not None and class_count != head.output_count:
        accepted = f"{head.output_count}, as a {head.value} head has"
        raise model.refuse("num_classes", class_count, accepted)
    return head


def _read_decisions(decisions: Document | None) -> BundleDecisions:
    if decisions is None:
        return BundleDecisions()
    filters, costs = decisions.section("filters"), decisions.section("cost_model")
    return BundleDecisions(
        confidence_threshold=decisions.real("confidence_threshold", minimum=0, maximum=1),
        position_awareness=decisions.flag("position_awareness"),
        allow_short_from_flat=decisions.flag("allow_short_from_flat"),
        min_signal_separation_hours=None
        if filters is None
        else filters.real("min_signal_separation", minimum=0, maximum=_SEPARATION_MAX_HOURS),
        round_trip_cost=None if costs is None else costs.positive("round_trip_cost"),
        min_edge_multiplier=None if costs is None else costs.positive("min_edge_multiplier"),
    )


def _read_created_at(metadata: Document) -> str:
    text = metadata.text("created_at")
    if not text:
        return ""
    try:
        made_at = datetime.fromisoformat(text)
    except ValueError as error:
        raise metadata.refuse("created_at", text, "a time such as 2026-01-01T00:00:00Z") from error
    if made_at.tzinfo is None:
        made_at = made_at.replace(tzinfo=UTC)
    return made_at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _read_normalization(
    scales: Document | None, features: tuple[Feature, ...]
) -> dict[str, dict[str, float]]:
    """The numbers that scale each raw input; the strategy says how: minmax, zscore or none."""
    if scales is None:
        return {}
    methods = {feature.name: feature.normalization for feature in features}
    read: dict[str, dict[str, float]] = {}
    for name in scales.values:
        entry = scales.section(name)
        if entry is None or name not in methods:
            raise scales.refuse(name, scales.values[name], "numbers for a feature of the strategy")
        method = entry.choice("method", _SCALE_KEYS, methods[name])
        if method != methods[name]:
            raise entry.refuse("method", method, f"{methods[name]}, as nn_inputs says")
        if method != "none":
            read[name] = {key: _required_real(entry, key) for key in _SCALE_KEYS[method]}
    return read


def _required_real(entry: Document, key: str) -> float:
    value = entry.real(key)
    if value is None:
        raise entry.refuse(key, None, "a finite number")
    return value
