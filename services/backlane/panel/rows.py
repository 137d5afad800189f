"""Builds a panel out of rows, one for each instrument and time; says what is wrong with them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from backlane.market.finding import Finding, FindingCode
from backlane.market.spacing import stamp_text
from backlane.panel.panel import Panel

PRICES = ("open", "high", "low", "close")


def panel_from_rows(
    time_ns: NDArray[np.int64],
    symbol: NDArray[np.object_],
    prices: Mapping[str, NDArray[np.float64]],
    volume: NDArray[np.float64] | None,
) -> Panel:
    """Returns the panel of rows that `check_rows` finds nothing in; every array is (rows,).

    Instruments are sorted by name, times as they grow; where an instrument has no row, it has no
    bar. A bar is known at its stamp: the stamp is that of the close.
    """
    symbols, column = np.unique(symbol.astype(str), return_inverse=True)
    times, row = np.unique(time_ns, return_inverse=True)

    def grid(values: NDArray[np.float64]) -> NDArray[np.float64]:
        placed = np.full((len(times), len(symbols)), np.nan)
        placed[row, column] = values
        return placed

    grids = {name: grid(prices[name]) for name in PRICES}
    return Panel(
        tuple(symbols.tolist()),
        times,
        times,
        **grids,
        volume=None if volume is None else grid(volume),
    )


def check_rows(
    time_ns: NDArray[np.int64],
    symbol: NDArray[np.object_],
    prices: Mapping[str, NDArray[np.float64]],
    volume: NDArray[np.float64] | None,
) -> list[Finding]:
    """Returns every reason not to trust the rows; each names how many, and the first of them."""

    def found(code: FindingCode, bad: NDArray[np.bool_], message: str) -> list[Finding]:
        if not bad.any():
            return []
        first = int(bad.argmax())
        example = f"row {first + 1}: {symbol[first]} at {stamp_text(int(time_ns[first]))}"
        return [Finding(code, int(bad.sum()), example, message)]

    matrix = np.stack([prices[name] for name in PRICES])
    opened, high, low, close = matrix
    is_finite = np.asarray(np.isfinite(matrix).all(axis=0))
    is_low = np.asarray((matrix <= 0).any(axis=0))
    outside = (np.maximum(opened, close) > high) | (np.minimum(opened, close) < low)
    findings = [
        *found(FindingCode.DUPLICATE, _repeated(time_ns, symbol), "An instrument has two bars."),
        *found(FindingCode.PRICE_NOT_FINITE, ~is_finite, "A price is missing or infinite."),
        *found(
            FindingCode.PRICE_NOT_POSITIVE,
            is_finite & is_low,
            "A price is zero or below: units cannot be sized by it.",
        ),
        *found(FindingCode.HIGH_BELOW_LOW, high < low, "The high is below the low."),
        *found(
            FindingCode.OPEN_CLOSE_OUTSIDE_RANGE,
            outside & (high >= low),
            "Open or close lies outside of low and high.",
        ),
    ]
    if volume is not None:
        missing = ~np.isfinite(volume)
        findings += found(FindingCode.VOLUME_NOT_FINITE, missing, "A volume is missing.")
        findings += found(FindingCode.NEGATIVE_VOLUME, volume < 0, "A volume is below zero.")
    return findings


def _repeated(time_ns: NDArray[np.int64], symbol: NDArray[np.object_]) -> NDArray[np.bool_]:
    """Marks the rows whose instrument and time stood in a row before."""
    _, column = np.unique(symbol.astype(str), return_inverse=True)
    order = np.lexsort((np.arange(len(time_ns)), time_ns, column))
    same = (np.diff(column[order]) == 0) & (np.diff(time_ns[order]) == 0)
    repeated = np.zeros(len(time_ns), dtype=bool)
    repeated[order[1:][same]] = True
    return repeated
