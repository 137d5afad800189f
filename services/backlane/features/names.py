"""The features of a strategy: their names and order."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backlane.errors import FeatureMismatchError
from backlane.features.strategy import (
    FuzzySetSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)


@dataclass(frozen=True, slots=True)
class Feature:
    """One column: an indicator's output on one timeframe, fuzzified or raw.

    `indicator` is `id` or `id.output`. `membership` is None for a raw value.
    """

    name: str
    timeframe: str
    indicator: str
    membership: MembershipSpec | None
    normalization: str = "none"


def strategy_features(strategy: Strategy) -> tuple[Feature, ...]:
    """Returns the columns in order: by input, then by timeframe, then by term.

    A fuzzy column is `{timeframe}_{fuzzy_set}_{term}`, a raw one `{timeframe}_{indicator}_raw`. An
    input that is listed twice gives its columns twice.
    """
    fuzzy_sets = {fuzzy_set.id: fuzzy_set for fuzzy_set in strategy.fuzzy_sets}
    return tuple(
        feature
        for nn_input in strategy.nn_inputs
        for timeframe in nn_input.timeframes or strategy.timeframes
        for feature in _input_features(fuzzy_sets, nn_input, timeframe)
    )


def feature_count(strategy: Strategy) -> int:
    """Returns how many columns there are, without making them."""
    terms = {fuzzy_set.id: len(fuzzy_set.memberships) for fuzzy_set in strategy.fuzzy_sets}
    return sum(
        len(nn_input.timeframes or strategy.timeframes)
        * (1 if nn_input.raw_indicator is not None else terms.get(nn_input.fuzzy_set or "", 0))
        for nn_input in strategy.nn_inputs
    )


def feature_names(strategy: Strategy) -> tuple[str, ...]:
    """Returns the names of the columns, in order."""
    return tuple(feature.name for feature in strategy_features(strategy))


def select_features(
    strategy: Strategy, names: Sequence[str], *, drop_extra: bool
) -> tuple[Feature, ...]:
    """Returns the columns that a model with the inputs `names` wants, in that order.

    Raises FeatureMismatchError with both lists when the strategy lacks a name, or has one more and
    `drop_extra` is False.
    """
    by_name = {feature.name: feature for feature in strategy_features(strategy)}
    missing = [name for name in names if name not in by_name]
    extra = [name for name in by_name if name not in set(names)]
    if missing or (extra and not drop_extra):
        raise _mismatch(strategy, names, missing, extra)
    return tuple(by_name[name] for name in names)


def _input_features(
    fuzzy_sets: Mapping[str, FuzzySetSpec], nn_input: NetworkInputSpec, timeframe: str
) -> list[Feature]:
    if nn_input.raw_indicator is not None:
        name = f"{timeframe}_{nn_input.raw_indicator}_raw"
        raw = Feature(name, timeframe, nn_input.raw_indicator, None, nn_input.normalization)
        return [raw]
    fuzzy_set = fuzzy_sets.get(nn_input.fuzzy_set or "")
    if fuzzy_set is None:
        return []
    return [
        Feature(f"{timeframe}_{fuzzy_set.id}_{term.name}", timeframe, fuzzy_set.indicator, term)
        for term in fuzzy_set.memberships
    ]


def ambiguous_names(strategy: Strategy) -> tuple[str, ...]:
    """Returns the names that stand for two different columns, as set `a_b` with term `c` can."""
    distinct = Counter(feature.name for feature in set(strategy_features(strategy)))
    return tuple(name for name, count in distinct.items() if count > 1)


def _mismatch(
    strategy: Strategy, names: Sequence[str], missing: list[str], extra: list[str]
) -> FeatureMismatchError:
    computed = ", ".join(feature_names(strategy))
    wanted = ", ".join(names)
    parts = []
    if missing:
        parts.append(f"The strategy does not give {', '.join(missing)}.")
    if extra:
        parts.append(f"The model does not know {', '.join(extra)}.")
    message = (
        f"The features of strategy {strategy.name!r} are not those of the model. {' '.join(parts)} "
        f"Use the strategy that the model was trained with. "
        f"The model takes [{wanted}]; the strategy gives [{computed}]."
    )
    metadata = {"model_features": wanted, "strategy_features": computed}
    return FeatureMismatchError(message, metadata=metadata)
