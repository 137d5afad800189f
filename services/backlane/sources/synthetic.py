"""Bars from a seed, for a first try without any market data, and longer bars out of shorter ones.

The price is a random walk in log space whose volatility changes from day to day and within the
day; it resembles EURUSD in level, digits and speed, and it means nothing: no pattern in it can be
learnt. The week is 24x5, from Monday 00:00 to Saturday 00:00 UTC.
"""

from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from backlane.errors import FieldViolation, InvalidRequestError, LimitExceededError
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

SYNTHETIC_SYMBOL = "SYNTHETIC_EURUSD"
MAX_SYNTHETIC_BARS = 5_000_000
FIRST_PRICE = 1.1
PRICE_DECIMALS = 5
DAILY_VOLATILITY = 0.005
BARS_PER_DAY_VOLUME = 60_000.0
_STEPS_PER_BAR = 6
_CALM_DAYS = 20
_DAY_NS = 86400 * 10**9
_WEEK_NS = 7 * _DAY_NS
_OPEN_NS = 5 * _DAY_NS
# 1970-01-01 was a Thursday; weeks begin on Monday 1970-01-05.
_FIRST_MONDAY_NS = 4 * _DAY_NS

Floats = NDArray[np.float64]


def synthetic_bars(seed: int, start: datetime, bar_count: int, timeframe: Timeframe) -> BarSeries:
    """Returns `bar_count` bars of SYNTHETIC_EURUSD from `start` (aware) on; the same for a seed.

    A shorter series is the beginning of a longer one with the same seed and start. Every week is
    complete: gaps are weekends. Raises InvalidRequestError for a naive start, fewer bars than 1 or
    a timeframe that does not divide a day, LimitExceededError beyond MAX_SYNTHETIC_BARS.
    """
    _check_arguments(start, bar_count, timeframe)
    times = _week_times(start, bar_count, timeframe.length_ns)
    returns_seed, volatility_seed, volume_seed = np.random.SeedSequence(seed).spawn(3)
    activity = _activity(times)
    volatility = activity * _daily_volatility(times, np.random.default_rng(volatility_seed))
    share = timeframe.length_ns / _DAY_NS
    prices = _walk(volatility * np.sqrt(share), np.random.default_rng(returns_seed))
    noise = np.random.default_rng(volume_seed).lognormal(0.0, 0.3, bar_count)
    return BarSeries(
        SYNTHETIC_SYMBOL,
        timeframe,
        times,
        prices[:, 0].copy(),
        prices.max(axis=1),
        prices.min(axis=1),
        prices[:, -1].copy(),
        np.floor(1.0 + BARS_PER_DAY_VOLUME * share * activity**2 * noise),
    )


def aggregate(series: BarSeries, timeframe: Timeframe) -> BarSeries:
    """Returns the longer bars that the shorter ones make: exactly, nothing is invented.

    A bar covers [k, k + 1) timeframes since 1970 in UTC (weeks: since a Monday) and holds the first
    open, the highest high, the lowest low, the last close and the sum of the volumes; a span
    without bars gives none. The first and last bar are made of the bars that are there. Raises
    InvalidRequestError unless the timeframe is a multiple of the series' own.
    """
    if timeframe.length_ns % series.timeframe.length_ns or len(series) == 0:
        message = f"{len(series)} bars of {series.timeframe} do not make bars of {timeframe}."
        raise InvalidRequestError(message, violations=(FieldViolation("timeframe", message),))
    origin = _FIRST_MONDAY_NS if timeframe.length_ns % _WEEK_NS == 0 else 0
    bucket = (series.open_time_ns - origin) // timeframe.length_ns
    firsts = np.flatnonzero(np.diff(bucket, prepend=bucket[0] - 1))
    lasts = np.append(firsts[1:], len(series)) - 1
    return BarSeries(
        series.symbol,
        timeframe,
        bucket[firsts] * timeframe.length_ns + origin,
        series.open[firsts],
        np.maximum.reduceat(series.high, firsts),
        np.minimum.reduceat(series.low, firsts),
        series.close[lasts],
        np.add.reduceat(series.volume, firsts),
    )


def _check_arguments(start: datetime, bar_count: int, timeframe: Timeframe) -> None:
    violations = []
    if start.tzinfo is None:
        violations.append(FieldViolation("start", f"{start} has no time zone: give one in UTC."))
    if bar_count < 1:
        violations.append(FieldViolation("bar_count", f"{bar_count} is less than one bar."))
    if _DAY_NS % timeframe.length_ns:
        violations.append(FieldViolation("timeframe", f"{timeframe} does not divide a day."))
    if violations:
        text = " ".join(violation.description for violation in violations)
        raise InvalidRequestError(text, violations=tuple(violations))
    if bar_count > MAX_SYNTHETIC_BARS:
        raise LimitExceededError(
            f"{bar_count} synthetic bars are more than {MAX_SYNTHETIC_BARS}.",
            metadata={"limit": "MAX_SYNTHETIC_BARS", "value": str(bar_count)},
        )


def _week_times(start: datetime, bar_count: int, length_ns: int) -> NDArray[np.int64]:
    """Returns the first open times of the 24x5 week at or after `start`."""
    elapsed = start.astimezone(UTC) - datetime(1970, 1, 5, tzinfo=UTC)
    since_ns = ((elapsed.days * 86400 + elapsed.seconds) * 10**6 + elapsed.microseconds) * 1000
    bars_per_week = _OPEN_NS // length_ns
    week, within_ns = divmod(since_ns, _WEEK_NS)
    first = week * bars_per_week + min(-(-within_ns // length_ns), bars_per_week)
    weeks, slots = np.divmod(np.arange(first, first + bar_count), bars_per_week)
    times: NDArray[np.int64] = _FIRST_MONDAY_NS + weeks * _WEEK_NS + slots * length_ns
    return times


def _activity(times: NDArray[np.int64]) -> Floats:
    """Returns how lively the market is, 1 on average: quiet at night, lively after noon."""
    hour = (times % _DAY_NS) / (_DAY_NS / 24)
    lively: Floats = 1.0 - 0.45 * np.cos((hour - 2.0) * (np.pi / 12))
    return lively


def _daily_volatility(times: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """Returns each bar's volatility per square root of a day, calm and stormy by turns."""
    days = times // _DAY_NS - times[0] // _DAY_NS
    mood = rng.standard_normal(int(days[-1]) + _CALM_DAYS)
    # The mean of the last 20 moods, so that days resemble each other.
    sums = np.cumsum(np.append(0.0, mood))
    smooth = (sums[_CALM_DAYS:] - sums[:-_CALM_DAYS]) / np.sqrt(_CALM_DAYS)
    volatility: Floats = DAILY_VOLATILITY * np.exp(0.35 * smooth[days])
    return volatility


def _walk(volatility: Floats, rng: np.random.Generator) -> Floats:
    """Returns the prices within each bar, shape (bars, steps), rounded as a broker quotes them."""
    steps = rng.standard_normal((len(volatility), _STEPS_PER_BAR))
    steps *= volatility[:, None] / np.sqrt(_STEPS_PER_BAR)
    path = FIRST_PRICE * np.exp(np.cumsum(steps.ravel()))
    tick = 10.0**-PRICE_DECIMALS
    rounded: Floats = np.maximum(np.round(path, PRICE_DECIMALS), tick)
    return rounded.reshape(steps.shape)
