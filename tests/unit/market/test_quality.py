from dataclasses import replace

import numpy as np
import pytest

from backlane.errors import DataRefusedError
from backlane.market.finding import Finding, FindingCode, QualityReport, Severity
from backlane.market.quality import ROUNDING_FRACTION, check_bars
from tests.unit.market.bars import bars_at, every, ns

HOURS = every("2024-01-02 00:00", 3600, 6)


def changed(name: str, row: int, value: float):
    whole = {"open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5, "volume": 100.0}
    values = np.full(len(HOURS), whole[name])
    values[row] = value
    return bars_at(HOURS, **{name: values})


def codes(report: QualityReport) -> list[FindingCode]:
    return [found.code for found in report.findings]


def test_whole_bars_have_no_finding():
    assert check_bars(bars_at(HOURS)) == QualityReport(6, ())


def test_no_bars_are_refused():
    assert codes(check_bars(bars_at([]))) == [FindingCode.EMPTY]


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("close", np.nan, FindingCode.PRICE_NOT_FINITE),
        ("open", np.inf, FindingCode.PRICE_NOT_FINITE),
        ("low", 0.0, FindingCode.PRICE_NOT_POSITIVE),
        ("low", -1.0, FindingCode.PRICE_NOT_POSITIVE),
        ("high", 8.0, FindingCode.HIGH_BELOW_LOW),
        ("close", 11.5, FindingCode.OPEN_CLOSE_OUTSIDE_RANGE),
        ("open", 8.5, FindingCode.OPEN_CLOSE_OUTSIDE_RANGE),
        ("volume", -1.0, FindingCode.NEGATIVE_VOLUME),
        ("volume", np.nan, FindingCode.VOLUME_NOT_FINITE),
    ],
)
def test_an_impossible_value_is_refused_with_its_row(name, value, code):
    report = check_bars(changed(name, 2, value))

    assert codes(report) == [code]
    assert report.is_refused
    assert report.findings[0].count == 1
    assert report.findings[0].first_example.startswith("row 3, 2024-01-02T02:00:00Z: ")


def test_zero_volume_is_a_warning():
    report = check_bars(changed("volume", 0, 0.0))

    assert codes(report) == [FindingCode.ZERO_VOLUME]
    assert not report.is_refused


@pytest.mark.parametrize(
    ("excess", "code"),
    [
        # The high is 11, so the rounding that is forgiven ends at 11e-9.
        (10e-9, FindingCode.RANGE_ROUNDING),
        (12e-9, FindingCode.OPEN_CLOSE_OUTSIDE_RANGE),
    ],
)
def test_a_close_above_the_high_is_a_rounding_only_within_a_billionth(excess, code):
    assert ROUNDING_FRACTION == 1e-9
    assert codes(check_bars(changed("close", 1, 11.0 + excess))) == [code]


def test_duplicates_are_counted_beyond_the_first_and_named_by_row():
    times = [HOURS[0], HOURS[1], HOURS[1], HOURS[1], HOURS[2], HOURS[3]]

    report = check_bars(bars_at(times))

    assert report.finding(FindingCode.DUPLICATE) == Finding(
        FindingCode.DUPLICATE,
        2,
        "row 3, 2024-01-02T01:00:00Z",
        "Rows repeat an open time that an earlier row has, with its values: keep one row for "
        "each time.",
    )
    assert report.finding(FindingCode.DISORDER) is None


def test_a_duplicate_far_from_its_first_is_found():
    report = check_bars(bars_at([*HOURS, HOURS[0]]))

    duplicate = report.finding(FindingCode.DUPLICATE)
    assert duplicate is not None
    assert (duplicate.count, duplicate.first_example) == (1, "row 7, 2024-01-02T00:00:00Z")


def test_a_row_older_than_the_one_before_is_disorder():
    report = check_bars(bars_at([HOURS[0], HOURS[2], HOURS[1], *HOURS[3:]]))

    disorder = report.finding(FindingCode.DISORDER)
    assert disorder is not None
    assert disorder.count == 1
    assert disorder.first_example == (
        "row 3, 2024-01-02T01:00:00Z comes after 2024-01-02T02:00:00Z"
    )


def test_a_file_with_the_newest_bar_first_is_told_so():
    disorder = check_bars(bars_at(HOURS[::-1])).finding(FindingCode.DISORDER)

    assert disorder is not None
    assert disorder.count == 5
    assert "newest bar first" in disorder.message


def test_bars_of_the_future_are_a_warning_when_the_time_is_told():
    report = check_bars(bars_at(HOURS), now_ns=ns("2024-01-02 03:30"))

    future = report.finding(FindingCode.FUTURE_STAMP)
    assert future is not None
    assert (future.count, future.first_example) == (2, "row 5, 2024-01-02T04:00:00Z")
    assert future.severity is Severity.WARN


def test_refusing_names_every_refusing_finding_and_no_warning():
    bars = bars_at([HOURS[0], HOURS[0], HOURS[1]], high=[8.0, 11.0, 11.0], volume=[0.0, 1.0, 1.0])

    with pytest.raises(DataRefusedError) as refused:
        check_bars(bars).raise_if_refused("x.csv")

    assert "x.csv is refused" in refused.value.message
    assert "duplicate: 1" in refused.value.message
    assert "high_below_low: 1" in refused.value.message
    assert "zero_volume" not in refused.value.message
    assert refused.value.metadata == {"source": "x.csv", "duplicate": "1", "high_below_low": "1"}


def test_findings_stand_in_the_order_of_their_gravity():
    report = QualityReport.of(
        1,
        [
            Finding(FindingCode.WEEKEND_GAP, 1, "", ""),
            Finding(FindingCode.GAP, 1, "", ""),
            Finding(FindingCode.DUPLICATE, 1, "", ""),
        ],
    )

    assert [found.severity for found in report.findings] == ["refuse", "warn", "info"]


@pytest.mark.parametrize(
    ("symbol", "price", "says"),
    [
        ("GBPUSD", 127801.0, "If 127801 means 1.27801, read the file with --price-scale 100000"),
        ("GBPUSD", 127800.99999999999, "If 127801 means 1.27801"),
        ("USDJPY", 151234.0, "If 151234 means 151.234, read the file with --price-scale 1000"),
        ("NIKKEI225", 39_000.0, "if it means 39000, nothing is wrong"),
    ],
)
def test_whole_prices_of_many_digits_warn_of_points(symbol, price, says):
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(len(HOURS), price))
    report = check_bars(replace(bars_at(HOURS, **prices), symbol=symbol))

    assert codes(report) == [FindingCode.PRICES_IN_POINTS]
    assert says in report.findings[0].message
    assert not report.is_refused


@pytest.mark.parametrize("price", [9999.0, 127801.5, 1.27801])
def test_smaller_prices_and_prices_with_decimals_do_not(price):
    prices = dict.fromkeys(("open", "high", "low", "close"), np.full(len(HOURS), price))
    assert codes(check_bars(bars_at(HOURS, **prices))) == []


def test_duplicates_with_other_values_are_counted():
    times = [HOURS[0], HOURS[1], HOURS[1], HOURS[1], HOURS[2], HOURS[3]]
    report = check_bars(bars_at(times, close=[10.5, 10.5, 10.5, 10.6, 10.5, 10.5]))

    duplicate = report.finding(FindingCode.DUPLICATE)
    assert duplicate is not None
    assert duplicate.count == 2
    assert "1 of them with other values" in duplicate.message
