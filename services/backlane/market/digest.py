"""The identity of bars: a hash of what they say, whatever file they were read from."""

import hashlib

import numpy as np

from backlane.market.bars import BarSeries

_FORMAT = "backlane-bars-v1"


def bars_digest(series: BarSeries) -> str:
    """Returns `sha256:` and 64 hex digits over the symbol, the timeframe and every bar.

    Hashed is the ASCII line `backlane-bars-v1 <symbol> <timeframe> <bar count>` with its newline,
    then the columns open time (int64 nanoseconds), open, high, low, close and volume (float64),
    each whole and little-endian. Two files with the same bars have the same digest, be they CSV or
    Parquet; a change of one bit of one price changes it.
    """
    header = f"{_FORMAT} {series.symbol} {series.timeframe.label} {len(series)}\n"
    state = hashlib.sha256(header.encode("ascii"))
    state.update(np.ascontiguousarray(series.open_time_ns, dtype="<i8").data)
    for column in (series.open, series.high, series.low, series.close, series.volume):
        state.update(np.ascontiguousarray(column, dtype="<f8").data)
    return f"sha256:{state.hexdigest()}"
