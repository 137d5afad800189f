"""How much history a strategy needs, and which bars a compatible run may see."""

from collections.abc import Mapping

from backlane.errors import NotEnoughBarsError
from backlane.features.plan import plan_features
from backlane.features.rules import DEFAULT_RULES, Alignment, FeatureRules
from backlane.features.strategy import Strategy
from backlane.market.bars import BarSeries

LEAST_COMMON_BARS = 50
LEAST_COMMON_DAYS = 7
_DAY_NS = 86_400 * 10**9


def warmup_bars(strategy: Strategy, *, rules: FeatureRules = DEFAULT_RULES) -> dict[str, int]:
    """Returns how many bars of each timeframe to load from before the first base bar's open time.

    With that many, the features of that base bar are what they would be with endless history:
    exactly for windows; for recursive means up to what no float32 shows (`bars_to_settle`); and
    what remembers its first bar asks for ALL_BARS. Every timeframe of the strategy has an entry.
    Raises InvalidStrategyError as `plan_features`.
    """
    needed = dict.fromkeys(strategy.timeframes, 1)
    for timeframe, indicator, group in plan_features(strategy, rules).by_indicator():
        lookback = indicator.lookback_bars(feature for _, feature, _ in group)
        needed[timeframe] = max(needed[timeframe], lookback)
    base = strategy.timeframes[0]
    # The base bar itself is the newest of its window. Of another timeframe, the newest bar before
    # that time may still be open at the base bar's close, so that the one before it is seen.
    return {label: count - 1 if label == base else count + 1 for label, count in needed.items()}


def bars_in_scope(bars: Mapping[str, BarSeries], rules: FeatureRules) -> dict[str, BarSeries]:
    """Returns the bars that features and simulation may use, as views.

    Under KNOWN_AT_CLOSE these are all. ktrdr, with two timeframes or more, cuts all of them to the
    common window, the base timeframe included: from the latest first open time to the earliest last
    one. Raises NotEnoughBarsError when that leaves fewer than 50 bars of one, or 7 days.
    """
    if rules.alignment is Alignment.KNOWN_AT_CLOSE or len(bars) < 2:
        return dict(bars)
    empty = [label for label, series in bars.items() if not len(series)]
    if empty:
        raise _too_short(f"There are no bars of {', '.join(empty)}.")
    first_ns = max(int(series.open_time_ns[0]) for series in bars.values())
    last_ns = min(int(series.open_time_ns[-1]) for series in bars.values())
    cut = {label: series.between(first_ns, last_ns) for label, series in bars.items()}
    for label, series in cut.items():
        if len(series) < LEAST_COMMON_BARS:
            raise _too_short(
                f"Of {label}, {len(series)} bars lie in the window that all timeframes share, and "
                f"{LEAST_COMMON_BARS} are needed."
            )
    days = (last_ns - first_ns) // _DAY_NS
    if days < LEAST_COMMON_DAYS:
        raise _too_short(
            f"The window that all timeframes share has {days} whole days, and {LEAST_COMMON_DAYS} "
            "are needed."
        )
    return cut


def _too_short(reason: str) -> NotEnoughBarsError:
    return NotEnoughBarsError(f"{reason} Take a longer range, or import more bars.")
