import hashlib
import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.market.bars import BarSeries
from backlane.market.digest import bars_digest
from backlane.market.timeframe import Timeframe
from tests.unit.market.bars import bars_at, every

HOURS = every("2024-01-02 00:00", 3600, 8)


def test_the_digest_is_the_documented_hash():
    bars = bars_at(HOURS[:2], volume=[1.0, 2.0])

    # Column by column, two bars each, little-endian: 8 bytes a value.
    content = b"backlane-bars-v1 TEST 1h 2\n" + struct.pack("<2q", *HOURS[:2])
    for column in ([10.0] * 2, [11.0] * 2, [9.0] * 2, [10.5] * 2, [1.0, 2.0]):
        content += struct.pack("<2d", *column)
    assert bars_digest(bars) == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_the_digest_is_that_of_a_view_or_a_strided_copy():
    bars = bars_at(HOURS)
    strided = BarSeries(
        "TEST",
        bars.timeframe,
        *(np.repeat(getattr(bars, name), 2)[::2] for name in ("open_time_ns", "open", "high")),
        *(np.repeat(getattr(bars, name), 2)[::2] for name in ("low", "close", "volume")),
    )

    assert bars_digest(strided) == bars_digest(bars) == bars_digest(bars.rows(0, 8))


@settings(deadline=None, derandomize=True, max_examples=50)
@given(
    column=st.sampled_from(["open_time_ns", "open", "high", "low", "close", "volume"]),
    row=st.integers(0, 7),
    bit=st.integers(0, 63),
)
def test_one_bit_changes_the_digest(column, row, bit):
    bars = bars_at(HOURS)
    before = bars_digest(bars)

    getattr(bars, column).view(np.uint64)[row] ^= np.uint64(1 << bit)

    assert bars_digest(bars) != before


def test_symbol_and_timeframe_are_part_of_the_digest():
    bars = bars_at(HOURS)
    columns = (bars.open_time_ns, bars.open, bars.high, bars.low, bars.close, bars.volume)

    digests = {
        bars_digest(BarSeries(symbol, Timeframe.parse(timeframe), *columns))
        for symbol in ("TEST", "OTHER")
        for timeframe in ("1h", "30m")
    }

    assert len(digests) == 4
