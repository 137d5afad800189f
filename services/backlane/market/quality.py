"""Checks bars before anything is computed from them: order, prices, volume, spacing.

A backtest is only as true as its bars, so what cannot be true is refused; what is merely odd is
reported. Nothing is changed. Times are UTC.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from backlane.market.bars import BarSeries
from backlane.market.finding import Finding, FindingCode, QualityReport, Severity
from backlane.market.spacing import check_spacing, stamp_text

__all__ = ["Finding", "FindingCode", "QualityReport", "Severity", "check_bars"]

# Scaled files hold floats such as 130583.99999999999 for 130584: an open that passes its high by
# less than this fraction is such a rounding, not a contradiction.
ROUNDING_FRACTION = 1e-9
# Prices that are all whole, with so many digits, are as a rule points: 127801 for 1.27801.
LEAST_POINTS_PRICE = 10_000.0
_DECIMALS, _YEN_DECIMALS = 5, 3


def check_bars(bars: BarSeries, *, now_ns: int | None = None) -> QualityReport:
    """Returns everything that is wrong or remarkable about the bars.

    `bars` are candidates: unlike everywhere else, they may be unordered and hold NaN. Bars that
    open after `now_ns` (UTC) are reported when it is given. Takes time linear in the bars when
    they are in order.
    """
    if len(bars) == 0:
        return QualityReport.of(0, [Finding(FindingCode.EMPTY, 1, "", "There are no bars.")])
    findings = [
        *_check_order(bars),
        *_check_prices(bars),
        *_check_points(bars),
        *_check_volume(bars),
        *check_spacing(_distinct_times(bars), bars.timeframe),
    ]
    if now_ns is not None:
        findings += _check_future(bars, now_ns)
    return QualityReport.of(len(bars), findings)


def _distinct_times(bars: BarSeries) -> NDArray[np.int64]:
    times = bars.open_time_ns
    return times if bool((np.diff(times) > 0).all()) else np.unique(times)


def _check_order(bars: BarSeries) -> Iterator[Finding]:
    times = bars.open_time_ns
    steps = np.diff(times)
    if bool((steps > 0).all()):
        return
    order = np.argsort(times, kind="stable")
    repeated = np.sort(order[1:][np.diff(times[order]) == 0])
    if len(repeated):
        yield Finding(
            FindingCode.DUPLICATE,
            len(repeated),
            _row_text(bars, int(repeated[0])),
            f"Rows repeat an open time that an earlier row has, {_conflict_text(bars, order)}: "
            "keep one row for each time.",
        )
    backward = np.flatnonzero(steps < 0) + 1
    if len(backward):
        row = int(backward[0])
        newest_first = len(backward) >= len(steps) - len(repeated)
        yield Finding(
            FindingCode.DISORDER,
            len(backward),
            f"{_row_text(bars, row)} comes after {stamp_text(times[row - 1])}",
            "The file lists the newest bar first: turn it round."
            if newest_first
            else "Rows are older than the row before them: sort the file by time.",
        )


def _conflict_text(bars: BarSeries, order: NDArray[np.int64]) -> str:
    """Says whether repeated times come with the same values; `order` sorts the rows by time."""
    repeats = np.diff(bars.open_time_ns[order]) == 0
    differs = np.zeros(len(repeats), dtype=np.bool_)
    for column in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        values = column[order]
        differs |= values[1:] != values[:-1]
    conflict_count = int((repeats & differs).sum())
    return f"{conflict_count} of them with other values" if conflict_count else "with its values"


def _check_prices(bars: BarSeries) -> Iterator[Finding]:
    prices = {"open": bars.open, "high": bars.high, "low": bars.low, "close": bars.close}
    stacked = np.stack(list(prices.values()))
    infinite = ~np.isfinite(stacked)
    yield from _price_finding(
        bars,
        FindingCode.PRICE_NOT_FINITE,
        infinite,
        "Rows hold a price that is empty, NaN or infinite: fill or remove them at the source.",
    )
    yield from _price_finding(
        bars,
        FindingCode.PRICE_NOT_POSITIVE,
        ~infinite & (stacked <= 0),
        "Rows hold a price of zero or less, at which nothing can be bought.",
    )
    yield from _check_range(bars)


def _price_finding(
    bars: BarSeries, code: FindingCode, mask: NDArray[np.bool_], message: str
) -> Iterator[Finding]:
    """Yields the finding for `mask`, of shape (4, bars) in the order open, high, low, close."""
    rows = np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return
    row = int(rows[0])
    name = ("open", "high", "low", "close")[int(mask[:, row].argmax())]
    value = float(getattr(bars, name)[row])
    yield Finding(code, len(rows), f"{_row_text(bars, row)}: {name} {value!r}", message)


def _check_points(bars: BarSeries) -> Iterator[Finding]:
    """Warns of prices that look like a vendor's points: off by 100,000, and nobody notices."""
    stacked = np.stack([bars.open, bars.high, bars.low, bars.close])
    if not bool(np.isfinite(stacked).all()) or float(np.median(bars.close)) < LEAST_POINTS_PRICE:
        return
    if bool((np.abs(stacked - np.round(stacked)) > ROUNDING_FRACTION * np.abs(stacked)).any()):
        return
    decimals = _YEN_DECIMALS if "JPY" in bars.symbol.upper() else _DECIMALS
    price = float(bars.close[0])
    yield Finding(
        FindingCode.PRICES_IN_POINTS,
        len(bars),
        f"{_row_text(bars, 0)}: close {price:.0f}",
        f"Prices are whole numbers, as when a vendor writes points. If {price:.0f} means "
        f"{price / 10**decimals:.{decimals}f}, read the file with --price-scale {10**decimals}; "
        f"if it means {price:.0f}, nothing is wrong.",
    )


def _check_range(bars: BarSeries) -> Iterator[Finding]:
    inverted = bars.high < bars.low
    if bool(inverted.any()):
        yield _range_finding(
            bars,
            FindingCode.HIGH_BELOW_LOW,
            inverted,
            "Rows have a high below their low: the columns are swapped or the bars are wrong.",
        )
    top, bottom = np.maximum(bars.open, bars.close), np.minimum(bars.open, bars.close)
    # Rows with an infinite price or NaN are counted elsewhere.
    comparable = np.isfinite(top) & np.isfinite(bars.high) & np.isfinite(bars.low) & ~inverted
    outside = comparable & ((top > bars.high) | (bottom < bars.low))
    if not bool(outside.any()):
        return
    rounding = ROUNDING_FRACTION * np.abs(bars.high)
    beyond = outside & ((top > bars.high + rounding) | (bottom < bars.low - rounding))
    if bool(beyond.any()):
        yield _range_finding(
            bars,
            FindingCode.OPEN_CLOSE_OUTSIDE_RANGE,
            beyond,
            "Rows have an open or close outside low..high: one of the four prices is wrong.",
        )
    if bool((outside & ~beyond).any()):
        yield _range_finding(
            bars,
            FindingCode.RANGE_ROUNDING,
            outside & ~beyond,
            "Rows have an open or close outside low..high by a rounding of the file "
            f"(less than {ROUNDING_FRACTION:g} of the price); they are kept as they are.",
        )


def _range_finding(
    bars: BarSeries, code: FindingCode, mask: NDArray[np.bool_], message: str
) -> Finding:
    row = int(mask.argmax())
    example = (
        f"{_row_text(bars, row)}: open {float(bars.open[row])!r}, high {float(bars.high[row])!r}, "
        f"low {float(bars.low[row])!r}, close {float(bars.close[row])!r}"
    )
    return Finding(code, int(mask.sum()), example, message)


def _check_volume(bars: BarSeries) -> Iterator[Finding]:
    volume = bars.volume
    cases = (
        (
            FindingCode.VOLUME_NOT_FINITE,
            ~np.isfinite(volume),
            "Rows have a volume that is empty, NaN or infinite.",
        ),
        (FindingCode.NEGATIVE_VOLUME, volume < 0, "Rows have a volume below zero."),
        (
            FindingCode.ZERO_VOLUME,
            volume == 0,
            "Bars in which nothing was traded, or whose volume the vendor does not know.",
        ),
    )
    for code, mask, message in cases:
        if bool(mask.any()):
            row = int(mask.argmax())
            example = f"{_row_text(bars, row)}: volume {float(volume[row])!r}"
            yield Finding(code, int(mask.sum()), example, message)


def _check_future(bars: BarSeries, now_ns: int) -> Iterator[Finding]:
    ahead = bars.open_time_ns > now_ns
    if bool(ahead.any()):
        yield Finding(
            FindingCode.FUTURE_STAMP,
            int(ahead.sum()),
            _row_text(bars, int(ahead.argmax())),
            f"Bars open after now, {stamp_text(now_ns)}: look at the time zone and at the dates.",
        )


def _row_text(bars: BarSeries, row: int) -> str:
    return f"row {row + 1}, {stamp_text(bars.open_time_ns[row])}"
