"""A strategy, v3: which indicators, linguistic variables and inputs make the feature matrix."""

from collections.abc import Mapping
from dataclasses import dataclass

ParameterValue = int | float | str | bool


@dataclass(frozen=True, slots=True)
class IndicatorSpec:
    """One indicator: its id inside the strategy, its type (`rsi`), its parameters as given."""

    id: str
    type: str
    parameters: Mapping[str, ParameterValue]


@dataclass(frozen=True, slots=True)
class MembershipSpec:
    """One term of a linguistic variable; `type` is the name of a shape (`fuzzy.shapes`)."""

    name: str
    type: str
    parameters: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FuzzySetSpec:
    """One linguistic variable over `indicator`, which is `id` or `id.output`; terms in file order.

    A bare id means the first output of the indicator: for Bollinger bands that is the upper one.
    """

    id: str
    indicator: str
    memberships: tuple[MembershipSpec, ...]


@dataclass(frozen=True, slots=True)
class NetworkInputSpec:
    """One input: exactly one of `fuzzy_set` and `raw_indicator`.

    `timeframes` empty means all of the strategy's; `normalization` is none, minmax or zscore.
    """

    fuzzy_set: str | None = None
    raw_indicator: str | None = None
    timeframes: tuple[str, ...] = ()
    normalization: str = "none"


@dataclass(frozen=True, slots=True)
class Strategy:
    """What the features of a model are computed from. `timeframes` has the base timeframe first."""

    name: str
    version: str
    symbols: tuple[str, ...]
    timeframes: tuple[str, ...]
    indicators: tuple[IndicatorSpec, ...]
    fuzzy_sets: tuple[FuzzySetSpec, ...]
    nn_inputs: tuple[NetworkInputSpec, ...]
