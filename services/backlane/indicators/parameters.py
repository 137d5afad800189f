"""The parameters of each indicator: names, defaults and ranges, as strategy files write them.

Nothing here computes, so that strategies can be read where no compiler is loaded.
"""

from dataclasses import dataclass

from backlane.indicators.fields import choice, factor, flag, never, share, source, step, whole

SQUEEZE_ATR_PERIOD = 10
"""Bars of the range inside the squeeze, which no parameter sets, nor any of these below."""

MONEY_FLOW_MOMENTUM_BARS = 5
MONEY_FLOW_SIGNAL_SPAN = 9
LINE_CHANGE_BARS = 10
LINE_MOMENTUM_BARS = 21
LINE_MEAN_BARS = 50


@dataclass(frozen=True, slots=True)
class SmaParameters:
    """Simple moving average: `period` in bars."""

    period: int = whole(20, 2, 500)
    source: str = source()


@dataclass(frozen=True, slots=True)
class EmaParameters:
    """Exponential moving average: `period` in bars; `adjust` corrects the early weights."""

    period: int = whole(20, 1, 500)
    adjust: bool = flag(default=True)
    source: str = source()


@dataclass(frozen=True, slots=True)
class RsiParameters:
    """Relative strength index: `period` in bars."""

    period: int = whole(14, 2, 100)
    source: str = source()


@dataclass(frozen=True, slots=True)
class MacdParameters:
    """Moving average convergence divergence: the periods of its three means, in bars."""

    fast_period: int = whole(12, 1, 100)
    slow_period: int = whole(26, 1, 200)
    signal_period: int = whole(9, 1, 50)
    source: str = source()


@dataclass(frozen=True, slots=True)
class AtrParameters:
    """Average true range: `period` in bars."""

    period: int = whole(14, 1, 100)


@dataclass(frozen=True, slots=True)
class BollingerParameters:
    """Bollinger bands: `period` in bars, `multiplier` in standard deviations."""

    period: int = whole(20, 2, 200)
    multiplier: float = factor(2.0, above=0.0, maximum=10.0)
    source: str = source()


@dataclass(frozen=True, slots=True)
class WmaParameters:
    """Weighted moving average: `period` in bars."""

    period: int = whole(20, 2, 500)
    source: str = source()


@dataclass(frozen=True, slots=True)
class DistanceParameters:
    """Distance from a moving average: `period` in bars, SMA or EMA (with adjusted weights)."""

    period: int = whole(20, 1, 200)
    ma_type: str = choice("SMA", "SMA", "EMA")
    source: str = source()


@dataclass(frozen=True, slots=True)
class KeltnerParameters:
    """Keltner channels: the periods of the middle and of the range; `multiplier` in ranges."""

    period: int = whole(20, 2, 500)
    atr_period: int = whole(10, 2, 200)
    multiplier: float = factor(2.0, above=0.0, maximum=10.0)


@dataclass(frozen=True, slots=True)
class DonchianParameters:
    """Donchian channels: `period` in bars. `include_middle` changes nothing: it is always there."""

    period: int = whole(20, 2, 500)
    include_middle: bool = flag(default=True)


@dataclass(frozen=True, slots=True)
class SqueezeParameters:
    """Squeeze intensity: Bollinger bands against Keltner channels whose range has period 10."""

    bb_period: int = whole(20, 2, 100)
    bb_multiplier: float = factor(2.0, above=0.0, maximum=5.0)
    kc_period: int = whole(20, 2, 100)
    kc_multiplier: float = factor(2.0, above=0.0, maximum=5.0)
    source: str = source()


@dataclass(frozen=True, slots=True)
class SupertrendParameters:
    """Supertrend: `period` of the range in bars, `multiplier` in ranges."""

    period: int = whole(10, 2, 200)
    multiplier: float = factor(3.0, above=0.0, maximum=10.0)


@dataclass(frozen=True, slots=True)
class AdxParameters:
    """Average directional index: `period` of Wilder's means in bars."""

    period: int = whole(14, 2, 200)


@dataclass(frozen=True, slots=True)
class StochasticParameters:
    """Stochastic oscillator: the window, and the periods of the means of k and d, in bars."""

    k_period: int = whole(14, 1, 100)
    d_period: int = whole(3, 1, 20)
    smooth_k: int = whole(3, 1, 20)


@dataclass(frozen=True, slots=True)
class WilliamsParameters:
    """Williams %R: `period` in bars."""

    period: int = whole(14, 1, 100)


@dataclass(frozen=True, slots=True)
class CciParameters:
    """Commodity channel index: `period` in bars."""

    period: int = whole(20, 2, 100)


@dataclass(frozen=True, slots=True)
class ChangeParameters:
    """Rate of change and momentum: the distance `period` in bars."""

    period: int = whole(10, 1, 100)
    source: str = source()


@dataclass(frozen=True, slots=True)
class AroonParameters:
    """Aroon: `period` in bars. `include_oscillator` changes nothing: it is always there."""

    period: int = whole(14, 1, 200)
    include_oscillator: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class RviParameters:
    """Relative vigor index: the periods of its mean and of its signal, in bars."""

    period: int = whole(10, 4, 100)
    signal_period: int = whole(4, 1, 50)


@dataclass(frozen=True, slots=True)
class FisherParameters:
    """Fisher transform: the window, and the span of the mean, in bars."""

    period: int = whole(10, 2, 100)
    smoothing: int = whole(3, 1, 20)


@dataclass(frozen=True, slots=True)
class SarParameters:
    """Parabolic SAR: the acceleration at a reversal, its growth and its limit."""

    initial_af: float = step(0.02, minimum=0.001, maximum=0.1)
    step_af: float = step(0.02, minimum=0.001, maximum=0.1)
    max_af: float = step(0.2, minimum=0.01, maximum=1.0)


@dataclass(frozen=True, slots=True)
class IchimokuParameters:
    """Ichimoku: its three windows in bars. `displacement` moves lines on a chart, not here."""

    tenkan_period: int = whole(9, 1, 50)
    kijun_period: int = whole(26, 1, 100)
    senkou_b_period: int = whole(52, 1, 200)
    displacement: int = whole(26, 1, 100)


@dataclass(frozen=True, slots=True)
class NoParameters:
    """On-balance volume takes none."""


@dataclass(frozen=True, slots=True)
class VwapParameters:
    """Volume-weighted average price: `period` in bars, 0 for all bars so far."""

    period: int = whole(20, 0, 200)
    use_typical_price: bool = flag(default=True)


@dataclass(frozen=True, slots=True)
class MfiParameters:
    """Money flow index: `period` in bars."""

    period: int = whole(14, 1, 100)


@dataclass(frozen=True, slots=True)
class CmfParameters:
    """Chaikin money flow: `period` in bars."""

    period: int = whole(21, 2, 500)


@dataclass(frozen=True, slots=True)
class AdlineParameters:
    """Accumulation/distribution line. Smoothing makes ktrdr fail, so that it cannot be asked for.

    Without it, `smoothing_period` means nothing.
    """

    use_sma_smoothing: bool = never()
    smoothing_period: int = whole(21, 2, 200)


@dataclass(frozen=True, slots=True)
class VolumeRatioParameters:
    """Volume ratio: `period` of the mean volume in bars."""

    period: int = whole(20, 2, 100)


@dataclass(frozen=True, slots=True)
class ZigzagParameters:
    """Zigzag: the least move between two turning points, as a share of the price."""

    threshold: float = share(0.05)
    source: str = source()
