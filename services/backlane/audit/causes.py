"""Why a column differs, in words: which stage was first, and what it looked at."""

from collections.abc import Mapping, Sequence

import numpy as np

from backlane.audit.compare import Difference
from backlane.audit.stamp import BARS, FEATURES, SCORES, STAGES, iso_time
from backlane.backtest.switches import Switches
from backlane.features.names import strategy_features
from backlane.features.rules import Alignment
from backlane.inference.model_info import ModelInfo
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

NAMES_SHOWN_MAX = 4
_MINUTE_NS = 60 * 10**9


class Causes:
    """Finds the words for the differences of one audit."""

    def __init__(
        self, info: ModelInfo, switches: Switches, bars: Mapping[str, BarSeries], base: str
    ) -> None:
        self._info = info
        self._switches = switches
        self._bars = bars
        self._base = Timeframe.parse(base)
        self._timeframes = {each.name: each.timeframe for each in strategy_features(info.strategy)}

    def explain(self, difference: Difference, found: Sequence[Difference]) -> str:
        """Returns why it differs; `found` is everything that differed in the same replay."""
        earlier = [
            each
            for each in found
            if STAGES.index(each.stage) < STAGES.index(difference.stage)
            and each.first_ns <= difference.first_ns
        ]
        if earlier:
            stage = min((each.stage for each in earlier), key=STAGES.index)
            names = [each.column for each in earlier if each.stage == stage]
            return f"follows from {stage}: {_shown(names)}"
        if difference.stage == FEATURES:
            return self._feature(difference)
        if difference.stage == SCORES:
            return (
                "the features are the same and the model's outputs are not: its outputs depend on "
                "later rows, or on how many rows are asked"
            )
        if difference.stage == BARS:
            return "the first row of complete features depends on later bars"
        return "what it is computed from is the same: the simulation itself reads later bars"

    def _feature(self, difference: Difference) -> str:
        label = self._timeframes[difference.column]
        if label == self._base.label:
            return f"its indicator reads bars of {label} after the one it stands at"
        at_ns, alignment = difference.first_ns, self._switches.alignment
        close_ns = at_ns + self._base.length_ns
        series = self._bars[label]
        seen = int(np.searchsorted(series.open_time_ns, at_ns, "right")) - 1
        if alignment is Alignment.KNOWN_AT_CLOSE or seen < 0:
            return f"it shows bars of {label} that had not closed"
        opened_ns = int(series.open_time_ns[seen])
        early_ns = opened_ns + series.timeframe.length_ns - close_ns
        if early_ns <= 0:
            return (
                f"alignment {alignment.value} fills what is not known yet of {label} with values "
                "of later bars"
            )
        return (
            f"alignment {alignment.value} shows the {label} bar that opened at "
            f"{iso_time(opened_ns)} at the {self._base.label} bar that opened at "
            f"{iso_time(at_ns)}, {early_ns / _MINUTE_NS:g} minutes before it closed"
        )


def _shown(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")
