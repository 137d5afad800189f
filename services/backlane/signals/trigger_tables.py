"""What the compiled scan for triggers reads and writes: its cells, and the rules as tables."""

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from backlane.signals.price_regime import REGIMES
from backlane.signals.triggers import ReversalQualifier, ScanChoice, TriggerKind, TriggerRules

KINDS = tuple(TriggerKind)
"""The kinds by their code less 1, as cells hold them; code 0 is no trigger."""
QUALIFIERS = tuple(ReversalQualifier)
"""The qualifiers by their bit."""
DETECTORS = 4
"""Price move, volume spike, breakout or reversal, momentum: what may fire at once."""


class Evidence(IntEnum):
    """Columns of what the qualifiers of a reversal were read from; NaN where there is nothing."""

    BOUNCE = 0
    TREND_SLOPE = 1
    PREVIOUS_RSI = 2
    RSI = 3
    PREVIOUS_PIVOT_LOW = 4
    LAST_PIVOT_LOW = 5
    VWAP = 6


CELL = np.dtype(
    [
        ("kind", "i1"),  # 0, or the place in KINDS + 1
        ("passes", "?"),  # the guards: neither an outlier nor too quiet
        ("qualifiers", "u1"),  # bits, by the place in QUALIFIERS
        ("evidence", "i4"),  # row of the evidence, -1 for none
        ("strength", "f8"),
        ("confidence", "f8"),
        ("price", "f8"),
        ("price_change", "f8"),
        ("volume_ratio", "f8"),
        ("volatility", "f8"),
        ("largest_move", "f8"),  # what price moves are looked for in, NaN with too few bars
        ("last_move", "f8"),
    ],
    align=True,
)
"""What a scan found for one instrument at one time; NaN for what it does not say."""

RULES = np.dtype(
    [
        ("is_first_match", "?"),
        ("only_upside", "?"),
        ("has_atr_filter", "?"),
        ("lookback_bars", "i8"),
        ("outlier_period", "i8"),
        ("outlier_deviation", "f8"),
        ("outlier_volume_ratio", "f8"),
        ("trend_period", "i8"),
        ("trend_slope_bars", "i8"),
        ("trend_slope_min", "f8"),
        ("bounce_min", "f8"),
    ],
    align=True,
)


def rules_record(rules: TriggerRules) -> NDArray[np.void]:
    """Returns the rules as the compiled scan reads them, shape (1,)."""
    record = np.zeros(1, RULES)
    for name in RULES.names or ():
        record[name] = (
            rules.choice is ScanChoice.FIRST_MATCH
            if name == "is_first_match"
            else getattr(rules, name)
        )
    return record


def relaxed_moves(rules: TriggerRules) -> NDArray[np.float64]:
    """Returns the thresholds of the fallback's price moves, (regimes, 2); infinite without it."""
    has_fallback = rules.has_fallback and rules.choice is ScanChoice.STRONGEST
    kept = 1.0 - rules.fallback_relaxation if has_fallback else math.inf
    moves: NDArray[np.float64] = threshold_table(rules)[:, :2] * kept
    return np.where(np.isnan(moves), math.inf, moves)


def threshold_table(rules: TriggerRules) -> NDArray[np.float64]:
    """Returns the thresholds, shape (regimes, 4), in the order of RegimeThresholds."""
    chosen = [rules.of(regime) for regime in REGIMES]
    return np.array(
        [(each.sharp_move, each.hourly_move, each.volume_ratio, each.atr_ratio) for each in chosen]
    )


@dataclass(frozen=True, slots=True, eq=False)
class ScanTables:
    """Rules as the compiled scan reads them: `thresholds` (regimes, 4), `relaxed` (regimes, 2)."""

    thresholds: NDArray[np.float64]
    relaxed: NDArray[np.float64]
    record: NDArray[np.void]

    @property
    def arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.void]]:
        """All three, as a compiled function takes them."""
        return self.thresholds, self.relaxed, self.record


def scan_tables(rules: TriggerRules) -> ScanTables:
    """Returns the tables of some rules."""
    return ScanTables(threshold_table(rules), relaxed_moves(rules), rules_record(rules))
