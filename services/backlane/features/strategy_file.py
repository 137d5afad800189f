"""Reads strategies, v3: from a strategy file's content, or from a bundle's metadata.

Both take plain data, as a YAML or JSON parser gives it. Every mistake is found in one pass and told
with its path, what is wrong and what to write: nothing is guessed, dropped or left for later.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from backlane.features.mistakes import Mistakes
from backlane.features.rules import DEFAULT_RULES, FeatureRules
from backlane.features.strategy import Strategy
from backlane.features.strategy_decisions import check_decisions
from backlane.features.strategy_sections import (
    FeatureSections,
    check_names,
    check_timeframe,
    read_sections,
)

DEFAULT_VERSION = "3.0"
DEFAULT_HISTORY_BARS = 200
LEAST_HISTORY_BARS = 50


@dataclass(frozen=True, slots=True)
class ParsedStrategy:
    """A strategy file: what makes the features, and the sections for others as they stand.

    `base_timeframe` is `strategy.timeframes[0]`. `model`, `decisions` and `training` are plain
    data, of which `strategy_decisions` has checked some. `warnings` are sentences about what is
    allowed but hardly meant.
    """

    strategy: Strategy
    base_timeframe: str
    model: Mapping[str, object]
    decisions: Mapping[str, object]
    training: Mapping[str, object]
    history_required_bars: int
    warnings: tuple[str, ...]


def parse_strategy(content: object, *, rules: FeatureRules = DEFAULT_RULES) -> ParsedStrategy:
    """Reads the content of a v3 strategy file.

    Unknown top-level keys are ignored. With `rules.ignore_unknown_parameters`, unknown parameters
    of indicators give a warning and stay in the strategy, so that a later strict reader sees them.
    Raises InvalidStrategyError with one violation for each mistake.
    """
    mistakes = Mistakes()
    root = mistakes.mapping(content, "strategy")
    mistakes.raise_any("The strategy")
    _refuse_other_versions(root, mistakes)
    name = mistakes.text(root.get("name"), "name")
    training_data = mistakes.mapping(root.get("training_data"), "training_data")
    symbols = _read_symbols(training_data, mistakes)
    timeframes = _read_timeframes(training_data, mistakes)
    history = _read_history(training_data, mistakes)
    sections = read_sections(root, timeframes, mistakes, rules)
    free = {key: mistakes.mapping(root.get(key), key) for key in _FREE_SECTIONS}
    check_decisions(free["decisions"], free["training"], mistakes)
    version = str(root.get("version", DEFAULT_VERSION))
    strategy = _assemble(name, version, symbols, timeframes, sections, mistakes)
    return ParsedStrategy(
        strategy=strategy,
        base_timeframe=timeframes[0],
        history_required_bars=history,
        warnings=tuple(mistakes.warnings),
        **free,
    )


_FREE_SECTIONS = ("model", "decisions", "training")


def strategy_from_bundle(
    metadata: Mapping[str, object], *, rules: FeatureRules = DEFAULT_RULES
) -> Strategy:
    """Builds the strategy that a bundle's metadata_v3.json describes.

    Reads indicators, fuzzy_sets, nn_inputs, training_symbols, training_timeframes (the base first),
    strategy_name and strategy_version. Raises InvalidStrategyError with one violation for each
    mistake; `rules` as in `parse_strategy`.
    """
    mistakes = Mistakes()
    name = mistakes.text(metadata.get("strategy_name"), "strategy_name")
    symbols = mistakes.texts(metadata.get("training_symbols"), "training_symbols")
    timeframes = mistakes.texts(metadata.get("training_timeframes"), "training_timeframes")
    if not timeframes:
        mistakes.add("training_timeframes", "is empty: the base timeframe must stand there first")
    for index, label in enumerate(timeframes):
        check_timeframe(label, f"training_timeframes[{index}]", mistakes)
    sections = read_sections(metadata, timeframes, mistakes, rules)
    version = str(metadata.get("strategy_version", DEFAULT_VERSION))
    return _assemble(name, version, symbols, timeframes, sections, mistakes)


def _refuse_other_versions(content: Mapping[str, object], mistakes: Mistakes) -> None:
    if isinstance(content.get("indicators"), Mapping) and "nn_inputs" in content:
        return
    mistakes.add(
        "indicators",
        "and nn_inputs are not those of a v3 strategy: write indicators as a mapping of ids and "
        "list the inputs of the network under nn_inputs; older files must be migrated first",
    )
    mistakes.raise_any("The strategy")


def _assemble(
    name: str,
    version: str,
    symbols: tuple[str, ...],
    timeframes: tuple[str, ...],
    sections: FeatureSections,
    mistakes: Mistakes,
) -> Strategy:
    subject = f"Strategy {name!r}" if name else "The strategy"
    mistakes.raise_any(subject)
    strategy = Strategy(
        name,
        version,
        symbols,
        timeframes,
        sections.indicators,
        sections.fuzzy_sets,
        sections.nn_inputs,
    )
    check_names(strategy, mistakes)
    mistakes.raise_any(subject)
    return strategy


def _read_symbols(training_data: Mapping[str, object], mistakes: Mistakes) -> tuple[str, ...]:
    path = "training_data.symbols"
    section = mistakes.mapping(training_data.get("symbols"), path)
    mode = section.get("mode")
    if mode == "single":
        symbol = mistakes.text(section.get("symbol"), f"{path}.symbol")
        return (symbol,) if symbol else ()
    if mode == "multi_symbol":
        key = "list" if "list" in section else "symbols"
        symbols = mistakes.texts(section.get(key), f"{path}.{key}")
        if not symbols:
            mistakes.add(f"{path}.{key}", "is empty: list at least one symbol")
        return symbols
    mistakes.add(f"{path}.mode", f"{mode!r} is unknown: use single or multi_symbol")
    return ()


def _read_timeframes(training_data: Mapping[str, object], mistakes: Mistakes) -> tuple[str, ...]:
    """Returns the timeframes in file order, but the base timeframe first."""
    path = "training_data.timeframes"
    section = mistakes.mapping(training_data.get("timeframes"), path)
    mode = section.get("mode")
    if mode == "single":
        label = mistakes.text(section.get("timeframe"), f"{path}.timeframe")
        if label:
            check_timeframe(label, f"{path}.timeframe", mistakes)
        return (label,)
    if mode != "multi_timeframe":
        mistakes.add(f"{path}.mode", f"{mode!r} is unknown: use single or multi_timeframe")
        return ()
    key = "list" if "list" in section else "timeframes"
    labels = mistakes.texts(section.get(key), f"{path}.{key}")
    if len(set(labels)) < 2 or len(set(labels)) < len(labels):
        mistakes.add(f"{path}.{key}", "needs at least two timeframes, each one once")
    for index, label in enumerate(labels):
        check_timeframe(label, f"{path}.{key}[{index}]", mistakes)
    base = section.get("base_timeframe", labels[0] if labels else None)
    if base not in labels:
        known = ", ".join(labels)
        message = f"{base!r} is not in {key}: add it there, or use one of {known}"
        mistakes.add(f"{path}.base_timeframe", message)
        return labels
    return (str(base), *(label for label in labels if label != base))


def _read_history(training_data: Mapping[str, object], mistakes: Mistakes) -> int:
    value = training_data.get("history_required", DEFAULT_HISTORY_BARS)
    if isinstance(value, int) and not isinstance(value, bool) and value >= LEAST_HISTORY_BARS:
        return value
    message = (
        f"{value!r} cannot be used: write a whole number of bars, {LEAST_HISTORY_BARS} or more"
    )
    mistakes.add("training_data.history_required", message)
    return DEFAULT_HISTORY_BARS
