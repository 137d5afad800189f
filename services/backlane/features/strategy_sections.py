"""The sections of a strategy file that make features: indicators, fuzzy sets, inputs.

Each function takes the section as plain data and notes what is wrong with it, under its path.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlane.errors import InvalidRequestError
from backlane.features.mistakes import Mistakes
from backlane.features.names import ambiguous_names, feature_count
from backlane.features.outputs import looks_ahead_mistake, resolve_output
from backlane.features.rules import FeatureRules
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.fuzzy.shapes import SHAPES, find_shape, parameter_mistake
from backlane.indicators.fields import read_parameters, unknown_parameters
from backlane.indicators.indicator import IndicatorType
from backlane.indicators.registry import find_indicator, known_indicators
from backlane.market.timeframe import Timeframe

NORMALIZATIONS = ("none", "minmax", "zscore")

ALL_TIMEFRAMES = "all"
STRATEGY_FEATURES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class FeatureSections:
    """The three sections as specs; `types` has every indicator that could be resolved, by id."""

    indicators: tuple[IndicatorSpec, ...]
    fuzzy_sets: tuple[FuzzySetSpec, ...]
    nn_inputs: tuple[NetworkInputSpec, ...]
    types: Mapping[str, IndicatorType[Any]]


def read_sections(
    content: Mapping[str, object],
    timeframes: tuple[str, ...],
    mistakes: Mistakes,
    rules: FeatureRules,
) -> FeatureSections:
    """Reads indicators, fuzzy_sets and nn_inputs of a file or of a bundle's metadata."""
    indicators = _read_indicators(content.get("indicators"), mistakes, rules)
    found = ((spec.id, find_indicator(spec.type)) for spec in indicators)
    types = {key: kind for key, kind in found if kind is not None}
    defined = {spec.id for spec in indicators}
    fuzzy_sets = _read_fuzzy_sets(content.get("fuzzy_sets"), types, defined, mistakes)
    reader = _InputReader(types, defined, {item.id for item in fuzzy_sets}, timeframes, mistakes)
    sections = FeatureSections(indicators, fuzzy_sets, reader.read(content.get("nn_inputs")), types)
    if not rules.reference_indicators:
        _refuse_look_ahead(sections, mistakes)
    _warn_unused(sections, mistakes)
    return sections


def check_names(strategy: Strategy, mistakes: Mistakes) -> None:
    """Notes names that two different features would share, and more features than are computed."""
    count = feature_count(strategy)
    if count > STRATEGY_FEATURES_MAX:
        description = f"give {count:,} features: at most {STRATEGY_FEATURES_MAX:,} are computed"
        mistakes.add("nn_inputs", description)
        return
    for name in ambiguous_names(strategy):
        mistakes.add("nn_inputs", f"give two different features the name {name!r}: rename a term")


def check_timeframe(label: str, path: str, mistakes: Mistakes) -> None:
    """Notes a label that is no timeframe."""
    try:
        Timeframe.parse(label)
    except InvalidRequestError as error:
        mistakes.add(path, error.message)


def _read_indicators(
    section: object, mistakes: Mistakes, rules: FeatureRules
) -> tuple[IndicatorSpec, ...]:
    definitions = mistakes.mapping(section, "indicators")
    return tuple(_read_indicator(key, item, mistakes, rules) for key, item in definitions.items())


def _read_indicator(
    key: str, definition: object, mistakes: Mistakes, rules: FeatureRules
) -> IndicatorSpec:
    path = f"indicators.{key}"
    given = mistakes.mapping(definition, path)
    type_name = mistakes.text(given.pop("type", None), f"{path}.type")
    if given.pop("data_source", None) is not None:
        mistakes.add(f"{path}.data_source", "is not supported: indicators read the bars alone")
    kind = find_indicator(type_name)
    if type_name and kind is None:
        known = ", ".join(known_indicators())
        mistakes.add(f"{path}.type", f"{type_name!r} is no known indicator: use {known}")
    if kind is not None:
        lenient = rules.ignore_unknown_parameters
        _, violations = read_parameters(kind.parameters, given, path=path, ignore_unknown=lenient)
        mistakes.extend(violations)
        for name in unknown_parameters(kind.parameters, given) if lenient else ():
            mistakes.warn(f"{path}.{name}", f"is unknown to {kind.name} and ignored")
    scalars = {k: v for k, v in given.items() if isinstance(v, int | float | str | bool)}
    return IndicatorSpec(key, kind.name if kind else type_name, scalars)


def _read_fuzzy_sets(
    section: object,
    types: Mapping[str, IndicatorType[Any]],
    defined: set[str],
    mistakes: Mistakes,
) -> tuple[FuzzySetSpec, ...]:
    fuzzy_sets = []
    for key, definition in mistakes.mapping(section, "fuzzy_sets").items():
        path = f"fuzzy_sets.{key}"
        terms = mistakes.mapping(definition, path)
        reference = mistakes.text(terms.pop("indicator", None), f"{path}.indicator")
        _check_reference(reference, types, defined, f"{path}.indicator", mistakes)
        if not terms:
            mistakes.add(path, "has no term: add at least one, as in low: [0, 25, 50]")
        memberships = tuple(
            _read_membership(name, term, f"{path}.{name}", mistakes) for name, term in terms.items()
        )
        fuzzy_sets.append(FuzzySetSpec(key, reference, memberships))
    return tuple(fuzzy_sets)


def _read_membership(
    name: str, definition: object, path: str, mistakes: Mistakes
) -> MembershipSpec:
    if isinstance(definition, list | tuple):
        definition = {"type": "triangular", "parameters": definition}
    content = mistakes.mapping(definition, path)
    type_name = mistakes.text(content.get("type", "triangular"), f"{path}.type")
    parameters = _numbers(content.get("parameters"), f"{path}.parameters", mistakes)
    shape = find_shape(type_name)
    if shape is None:
        known = ", ".join(shape.name for shape in SHAPES)
        mistakes.add(f"{path}.type", f"{type_name!r} is no membership function: use {known}")
    elif parameters is not None:
        wrong = parameter_mistake(shape, parameters)
        if wrong is not None:
            mistakes.add(f"{path}.parameters", wrong)
    return MembershipSpec(name, shape.name if shape else type_name, parameters or ())


def _numbers(value: object, path: str, mistakes: Mistakes) -> tuple[float, ...] | None:
    items = value if isinstance(value, list | tuple) else None
    if items is None or not all(
        isinstance(item, int | float) and not isinstance(item, bool) for item in items
    ):
        mistakes.add(path, f"must be a list of numbers, as in [0, 25, 50], not {value!r}")
        return None
    try:
        return tuple(float(item) for item in items)
    except OverflowError:
        return (math.inf,) * len(items)


def _check_reference(
    reference: str,
    types: Mapping[str, IndicatorType[Any]],
    defined: set[str],
    path: str,
    mistakes: Mistakes,
) -> None:
    # An indicator of unknown type is one mistake already; its outputs cannot be checked.
    unresolved = defined - types.keys()
    if not reference or reference in unresolved or reference.rpartition(".")[0] in unresolved:
        return
    try:
        resolve_output(reference, types)
    except ValueError as error:
        mistakes.add(path, str(error))


@dataclass(frozen=True, slots=True)
class _InputReader:
    """Reads nn_inputs against what the sections before it define."""

    types: Mapping[str, IndicatorType[Any]]
    defined: set[str]
    fuzzy_sets: set[str]
    timeframes: tuple[str, ...]
    mistakes: Mistakes

    def read(self, section: object) -> tuple[NetworkInputSpec, ...]:
        if not isinstance(section, list | tuple) or not section:
            self.mistakes.add("nn_inputs", "must be a list with at least one input")
            return ()
        if self.mistakes.has_too_many(section, "nn_inputs"):
            return ()
        return tuple(self._read_input(item, f"nn_inputs[{i}]") for i, item in enumerate(section))

    def _read_input(self, item: object, path: str) -> NetworkInputSpec:
        content = self.mistakes.mapping(item, path)
        fuzzy_set, raw = content.get("fuzzy_set"), content.get("raw_indicator")
        if (fuzzy_set is None) == (raw is None):
            self.mistakes.add(path, "needs either fuzzy_set or raw_indicator, and only one of them")
        timeframes = self._read_timeframes(content.get("timeframes"), f"{path}.timeframes")
        if fuzzy_set is not None:
            return self._read_fuzzy(fuzzy_set, content, timeframes, path)
        reference = "" if raw is None else self.mistakes.text(raw, f"{path}.raw_indicator")
        checked = f"{path}.raw_indicator"
        _check_reference(reference, self.types, self.defined, checked, self.mistakes)
        normalization = content.get("normalization") or "none"
        if normalization not in NORMALIZATIONS:
            known = ", ".join(NORMALIZATIONS)
            message = f"{normalization!r} is no normalization: use {known}"
            self.mistakes.add(f"{path}.normalization", message)
        return NetworkInputSpec(
            raw_indicator=reference, timeframes=timeframes, normalization=str(normalization)
        )

    def _read_fuzzy(
        self, value: object, content: Mapping[str, object], timeframes: tuple[str, ...], path: str
    ) -> NetworkInputSpec:
        fuzzy_set = self.mistakes.text(value, f"{path}.fuzzy_set")
        if fuzzy_set and fuzzy_set not in self.fuzzy_sets:
            known = ", ".join(sorted(self.fuzzy_sets)) or "an id under fuzzy_sets (there is none)"
            self.mistakes.add(f"{path}.fuzzy_set", f"{fuzzy_set!r} is not defined: use {known}")
        if content.get("normalization") is not None:
            self.mistakes.add(
                f"{path}.normalization",
                "is for raw_indicator alone, degrees are in [0, 1]: remove it",
            )
        return NetworkInputSpec(fuzzy_set=fuzzy_set, timeframes=timeframes)

    def _read_timeframes(self, value: object, path: str) -> tuple[str, ...]:
        if value == ALL_TIMEFRAMES:
            return ()
        labels = self.mistakes.texts(value, path)
        if not labels and isinstance(value, list | tuple):
            self.mistakes.add(path, "is empty: write all, or a list of timeframes")
        for index, label in enumerate(labels):
            if label not in self.timeframes:
                known = ", ".join(self.timeframes) or "a timeframe of training_data"
                message = f"{label!r} is not among the strategy's timeframes: use {known}"
                self.mistakes.add(f"{path}[{index}]", message)
        return labels


def _refuse_look_ahead(sections: FeatureSections, mistakes: Mistakes) -> None:
    of_sets = {item.id: item.indicator for item in sections.fuzzy_sets}
    for index, item in enumerate(sections.nn_inputs):
        key = "raw_indicator" if item.fuzzy_set is None else "fuzzy_set"
        reference = item.raw_indicator or of_sets.get(item.fuzzy_set or "", "")
        kind = sections.types.get(reference)
        if kind is not None and kind.looks_ahead:
            mistakes.add(f"nn_inputs[{index}].{key}", looks_ahead_mistake(kind))


def _warn_unused(sections: FeatureSections, mistakes: Mistakes) -> None:
    references = {item.indicator for item in sections.fuzzy_sets}
    references |= {item.raw_indicator for item in sections.nn_inputs if item.raw_indicator}
    used = references | {reference.rpartition(".")[0] for reference in references}
    for spec in sections.indicators:
        if spec.id not in used:
            mistakes.warn(f"indicators.{spec.id}", "is used by no fuzzy set and no input")
    inputs = {item.fuzzy_set for item in sections.nn_inputs}
    for fuzzy_set in sections.fuzzy_sets:
        if fuzzy_set.id not in inputs:
            mistakes.warn(f"fuzzy_sets.{fuzzy_set.id}", "is used by no input")
