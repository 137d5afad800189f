"""Laws of reading and keeping bars."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backlane.market.bars import BarSeries
from backlane.market.digest import bars_digest
from backlane.market.finding import FindingCode
from backlane.market.quality import check_bars
from backlane.market.timeframe import Timeframe
from backlane.sources.catalog import Catalog
from backlane.sources.files import read_bars

LAW = settings(deadline=None, derandomize=True, max_examples=40)
HOUR = Timeframe.parse("1h")
HOUR_NS = HOUR.length_ns
NAMES = ("open", "high", "low", "close", "volume")
PRICE = st.floats(1e-8, 1e9, allow_nan=False, allow_infinity=False)
VOLUME = st.floats(0, 1e15, allow_nan=False)


@st.composite
def series(draw, min_size=1):
    rows = draw(
        st.lists(st.tuples(PRICE, PRICE, PRICE, PRICE, VOLUME), min_size=min_size, max_size=30)
    )
    first = draw(st.integers(-100_000, 500_000)) * HOUR_NS
    values = np.array(rows, np.float64)
    prices = np.sort(values[:, :4], axis=1)
    # Sorted: low, two between, high.
    open_, close = prices[:, 1].copy(), prices[:, 2].copy()
    times = first + np.arange(len(rows), dtype=np.int64) * HOUR_NS
    return BarSeries(
        "LAW",
        HOUR,
        times,
        open_,
        prices[:, 3].copy(),
        prices[:, 0].copy(),
        close,
        values[:, 4].copy(),
    )


def csv_of(bars: BarSeries) -> str:
    lines = ["timestamp,open,high,low,close,volume"]
    for row in range(len(bars)):
        stamp = np.datetime_as_string(np.datetime64(int(bars.open_time_ns[row]), "ns"), unit="s")
        values = ",".join(repr(float(getattr(bars, name)[row])) for name in NAMES)
        lines.append(f"{stamp}Z,{values}")
    return "\n".join(lines) + "\n"


def columns_of(bars: BarSeries) -> list[bytes]:
    return [getattr(bars, name).tobytes() for name in ("open_time_ns", *NAMES)]


@LAW
@given(bars=series())
def test_import_then_load_is_the_identity_to_the_bit(bars):
    with TemporaryDirectory() as folder:
        dataset = Catalog(Path(folder)).import_bars(bars, "a law")
        loaded = Catalog(Path(folder)).load("LAW", HOUR, expected_digest=dataset.digest)

    assert columns_of(loaded) == columns_of(bars)


@LAW
@given(bars=series())
def test_a_csv_with_shortest_digits_is_read_to_the_bit(bars):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        path.write_text(csv_of(bars))
        read = read_bars(path, "LAW", HOUR)

    assert columns_of(read.series) == columns_of(bars)


@LAW
@given(bars=series(), scale=st.sampled_from([1.0, 3.0, 1000.0, 100_000.0, 0.1]))
def test_a_scale_divides_each_price_once_and_leaves_the_volume(bars, scale):
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        path.write_text(csv_of(bars))
        read = read_bars(path, "LAW", HOUR, price_scale=scale).series

    for name in NAMES[:4]:
        expected = [float(value) / scale for value in getattr(bars, name)]
        assert getattr(read, name).tolist() == expected
    assert read.volume.tolist() == bars.volume.tolist()


@LAW
@given(bars=series(), row_group_size=st.integers(1, 40), codec=st.sampled_from(["NONE", "zstd"]))
def test_the_digest_does_not_depend_on_how_a_file_is_written(bars, row_group_size, codec):
    table = pa.table(
        {
            "date": pa.array(bars.open_time_ns, pa.timestamp("ns", "UTC")),
            **{name: getattr(bars, name) for name in NAMES},
        }
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bars.parquet"
        pyarrow.parquet.write_table(table, path, row_group_size=row_group_size, compression=codec)
        read = read_bars(path, "LAW", HOUR)

    assert bars_digest(read.series) == bars_digest(bars)


@LAW
@given(bars=series(min_size=2), data=st.data())
def test_any_other_order_of_the_rows_is_disorder(bars, data):
    order = data.draw(st.permutations(range(len(bars))))
    assume(list(order) != sorted(order))
    shuffled = BarSeries(
        bars.symbol,
        bars.timeframe,
        bars.open_time_ns[order],
        *(getattr(bars, name)[order] for name in NAMES),
    )

    report = check_bars(shuffled)

    assert report.finding(FindingCode.DISORDER) is not None
    assert report.finding(FindingCode.DUPLICATE) is None


@LAW
@given(bars=series(), data=st.data())
def test_a_repeated_row_is_a_duplicate_wherever_it_stands(bars, data):
    row = data.draw(st.integers(0, len(bars) - 1))
    at = data.draw(st.integers(0, len(bars)))
    order = np.insert(np.arange(len(bars)), at, row)
    repeated = BarSeries(
        bars.symbol,
        bars.timeframe,
        bars.open_time_ns[order],
        *(getattr(bars, name)[order] for name in NAMES),
    )

    duplicate = check_bars(repeated).finding(FindingCode.DUPLICATE)

    assert duplicate is not None
    assert duplicate.count == 1


@LAW
@given(bars=series(min_size=3), data=st.data())
def test_checking_a_part_finds_no_defect_that_the_whole_lacks(bars, data):
    start = data.draw(st.integers(0, len(bars) - 1))
    stop = data.draw(st.integers(start + 1, len(bars)))

    assert not check_bars(bars).is_refused
    assert not check_bars(bars.rows(start, stop)).is_refused
