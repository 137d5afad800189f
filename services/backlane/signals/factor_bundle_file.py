"""Reads a bundle of factors from plain data, as a YAML parser gives it (SPEC B3)."""

import math

from backlane.features.mistakes import Mistakes
from backlane.signals.multifactor import FactorBundle, WeightedFactor, Winsorizing

DIRECTIONS = ("positive", "negative")
FACTORS_MAX = 256


def parse_factor_bundle(content: object) -> FactorBundle:
    """Returns the bundle that a file describes.

    It has `factors`, a list of name, weight and direction (positive, the default, or negative), and
    may have `options`: winsorize, winsorize_limits, zscore. `winsorize: true` takes the limits of
    each time; those of the whole sample look ahead (SPEC Q12), and no file can ask for them. Other
    keys, such as universe and horizon_days, describe the bundle and change nothing. Raises
    InvalidStrategyError with one violation for each mistake.
    """
    mistakes = Mistakes()
    root = mistakes.mapping(content, "bundle")
    mistakes.raise_any("The factor bundle")
    factors = _read_factors(root.get("factors"), mistakes)
    options = mistakes.mapping(root.get("options", {}), "options")
    is_winsorized = _flag(options, "winsorize", mistakes)
    is_standardized = _flag(options, "zscore", mistakes)
    limits = _read_limits(options.get("winsorize_limits", [0.01, 0.99]), mistakes)
    mistakes.raise_any("The factor bundle")
    winsorizing = Winsorizing.PER_TIME if is_winsorized else Winsorizing.NONE
    try:
        return FactorBundle(factors, winsorizing, limits, is_standardized)
    except ValueError as error:
        mistakes.add("factors", f"do not make a bundle: {error}")
        mistakes.raise_any("The factor bundle")
        raise


def _read_factors(value: object, mistakes: Mistakes) -> tuple[WeightedFactor, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= FACTORS_MAX:
        mistakes.add("factors", f"must be a list of 1 to {FACTORS_MAX} factors")
        return ()
    factors = []
    for index, item in enumerate(value):
        path = f"factors[{index}]"
        entry = mistakes.mapping(item, path)
        name = mistakes.text(entry.get("name"), f"{path}.name")
        weight = _number(entry.get("weight"), f"{path}.weight", mistakes)
        direction = entry.get("direction", DIRECTIONS[0])
        if direction not in DIRECTIONS:
            mistakes.add(f"{path}.direction", f"must be one of {', '.join(DIRECTIONS)}")
        factors.append(WeightedFactor(name, weight, direction == DIRECTIONS[1]))
    return tuple(factors)


def _read_limits(value: object, mistakes: Mistakes) -> tuple[float, float]:
    path = "options.winsorize_limits"
    if not isinstance(value, list) or len(value) != 2:
        mistakes.add(path, "must be two quantiles, such as [0.01, 0.99]")
        return (0.0, 1.0)
    low, high = (_number(each, f"{path}[{at}]", mistakes) for at, each in enumerate(value))
    return (low, high)


def _flag(options: dict[str, object], name: str, mistakes: Mistakes) -> bool:
    value = options.get(name, True)
    if not isinstance(value, bool):
        mistakes.add(f"options.{name}", "must be true or false")
        return True
    return value


def _number(value: object, path: str, mistakes: Mistakes) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        mistakes.add(path, "must be a finite number")
        return 0.0
    return float(value)
