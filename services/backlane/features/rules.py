"""The switches of feature computing: light, so that requests can name them without numpy."""

from dataclasses import dataclass
from enum import Enum


class Alignment(Enum):
    """When a bar of another timeframe becomes visible at a bar of the base timeframe."""

    KNOWN_AT_CLOSE = "known_at_close"  # once it has closed: what was really known
    STAMP_FORWARD_FILL = "stamp_forward_fill"  # ktrdr-head: by open time, looks ahead
    EXACT_STAMP = "exact_stamp"  # ktrdr-m3: only at the same open time


@dataclass(frozen=True, slots=True)
class FeatureRules:
    """How features are computed; the defaults are what we hold to be right.

    `trapezoid_edge`: degree 1 at the edge of a trapezoid with a == b or c == d (ktrdr: 0).
    `warmup_fillers`: neutral values that look real during warm-up (ktrdr) in place of NaN.
    `reference_indicators`: what ktrdr's indicators give by mistake, and zigzag as an input (ktrdr),
    in place of what their definitions say; terms only of the shapes that ktrdr has.
    `ignore_unknown_parameters`: drop unknown indicator parameters (ktrdr) in place of refusing.
    `drop_extra_features`: drop features of the strategy that the model does not use (ktrdr) in
    place of refusing.
    """

    alignment: Alignment = Alignment.KNOWN_AT_CLOSE
    trapezoid_edge: bool = True
    warmup_fillers: bool = False
    reference_indicators: bool = False
    ignore_unknown_parameters: bool = False
    drop_extra_features: bool = False


DEFAULT_RULES = FeatureRules()
