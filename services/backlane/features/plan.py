"""What has to be computed for a list of features: each indicator once for each timeframe."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backlane.errors import FieldViolation
from backlane.features.mistakes import Mistakes
from backlane.features.names import Feature, strategy_features
from backlane.features.outputs import OutputReference, looks_ahead_mistake, resolve_output
from backlane.features.rules import FeatureRules
from backlane.features.strategy import Strategy
from backlane.fuzzy.shapes import SHAPES, find_shape, term_gain
from backlane.indicators.fields import Parameters, read_parameters
from backlane.indicators.indicator import ALL_BARS, IndicatorType, Memory
from backlane.indicators.registry import find_indicator


@dataclass(frozen=True, slots=True)
class PlannedIndicator:
    """An indicator of the strategy with its parameters read."""

    id: str
    type: IndicatorType[Any]
    parameters: Parameters

    @property
    def minimum_bars(self) -> int:
        """The least number of bars that it is computed from."""
        return self.type.minimum_bars(self.parameters)

    def lookback_bars(self, features: Iterable[Feature] = ()) -> int:
        """Returns how many bars, the newest included, the features that are made of it depend on.

        That is ALL_BARS for what remembers the first bar: else its value would say where the run
        began. A steep term shows more of what a recursive mean still remembers. The scaling of raw
        values is left out: it is within the allowance of `settling`, unless a range was fitted that
        is much smaller than the values.
        """
        if self.type.memory is Memory.START:
            return ALL_BARS
        terms = (feature.membership for feature in features)
        gains = (term_gain(term.type, term.parameters) for term in terms if term is not None)
        return self.type.lookback_bars(self.parameters, max(gains, default=1.0))


@dataclass(frozen=True, slots=True)
class FeaturePlan:
    """The features in order, with what they refer to."""

    features: tuple[Feature, ...]
    indicators: Mapping[str, PlannedIndicator]

    def reference(self, feature: Feature) -> OutputReference:
        """Returns the output that a feature reads."""
        types = {key: item.type for key, item in self.indicators.items()}
        return resolve_output(feature.indicator, types)

    def by_indicator(
        self,
    ) -> Iterator[tuple[str, PlannedIndicator, list[tuple[int, Feature, int]]]]:
        """Gives each timeframe and indicator once, with its (column, feature, output index)."""
        groups: dict[tuple[str, str], list[tuple[int, Feature, int]]] = {}
        for column, feature in enumerate(self.features):
            reference = self.reference(feature)
            group = groups.setdefault((feature.timeframe, reference.indicator_id), [])
            group.append((column, feature, reference.output_index))
        for (timeframe, indicator_id), group in groups.items():
            yield timeframe, self.indicators[indicator_id], group


def plan_features(
    strategy: Strategy, rules: FeatureRules, features: tuple[Feature, ...] | None = None
) -> FeaturePlan:
    """Reads the indicators' parameters for `features`, by default all of the strategy's.

    Raises InvalidStrategyError for an indicator or parameter that is not known, and for a feature
    that the rules do not allow: one that looks ahead, or a shape that ktrdr does not have.
    """
    mistakes = Mistakes()
    indicators = {}
    for spec in strategy.indicators:
        path = f"indicators.{spec.id}"
        kind = find_indicator(spec.type)
        if kind is None:
            mistakes.extend(
                [FieldViolation(f"{path}.type", f"{spec.type!r} is no known indicator")]
            )
            continue
        lenient = rules.ignore_unknown_parameters
        parameters, violations = read_parameters(
            kind.parameters, spec.parameters, path=path, ignore_unknown=lenient
        )
        mistakes.extend(violations)
        if parameters is not None:
            indicators[spec.id] = PlannedIndicator(spec.id, kind, parameters)
    subject = f"Strategy {strategy.name!r}"
    mistakes.raise_any(subject)
    plan = FeaturePlan(strategy_features(strategy) if features is None else features, indicators)
    for feature in plan.features:
        _check_feature(feature, plan, rules, mistakes)
    mistakes.raise_any(subject)
    return plan


def _check_feature(
    feature: Feature, plan: FeaturePlan, rules: FeatureRules, mistakes: Mistakes
) -> None:
    indicator = plan.indicators[plan.reference(feature).indicator_id]
    if indicator.type.looks_ahead and not rules.reference_indicators:
        mistakes.add(f"features.{feature.name}", looks_ahead_mistake(indicator.type))
    shape = find_shape(feature.membership.type) if feature.membership else None
    if shape is not None and not shape.is_in_ktrdr and rules.reference_indicators:
        known = ", ".join(shape.name for shape in SHAPES if shape.is_in_ktrdr)
        description = f"is a term of shape {shape.name}, which ktrdr does not have: use {known}"
        mistakes.add(f"features.{feature.name}", description)
