"""Numbers and times as the page writes them."""

import numpy as np
import pandas as pd
import pytest

from backlane.report import formats


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.money(1234.5), "1,234.50"),
        (formats.money(-1234.5), "−1,234.50"),  # noqa: RUF001
        (formats.money(-0.001), "0.00"),
        (formats.money(float("nan")), "–"),  # noqa: RUF001
        (formats.money(float("inf")), "–"),  # noqa: RUF001
        (formats.percent(-0.0125), "−1.25%"),  # noqa: RUF001
        (formats.quantity(23003.0), "23,003"),
        (formats.quantity(0.5), "0.5"),
        (formats.quantity(1000.0), "1,000"),
        (formats.in_unit(2.0, "count"), "2"),
        (formats.in_unit(0.25, "fraction"), "25.00%"),
        (formats.in_unit(1.5, "hours"), "1.50 h"),
        (formats.in_unit(1.23456789, "furlongs"), "1.23457"),
        (formats.in_unit(None, "ratio"), "–"),  # noqa: RUF001
    ],
)
def test_numbers_are_short_and_aligned(text: str, expected: str):
    assert text == expected


@pytest.mark.parametrize(
    ("price", "decimals"), [(1.08679, 5), (150.123, 3), (43_251.0, 2), (0.0068, 8)]
)
def test_a_price_shows_six_digits(price: float, decimals: int):
    assert formats.price_decimals(np.array([price])) == decimals


def test_prices_that_are_none_have_two_decimals():
    assert formats.price_decimals(np.array([np.nan, 0.0])) == 2


def test_times_are_utc_with_seconds_only_where_there_are_any():
    assert formats.timestamp("2023-01-04T01:00:00Z") == "2023-01-04 01:00"
    assert formats.timestamp(pd.Timestamp("2023-01-04T01:00:05+01:00")) == "2023-01-04 00:00:05"
    assert formats.timestamp(pd.NaT) == "–"  # noqa: RUF001
    assert formats.time_ns(1_672_531_200_000_000_000) == "2023-01-01 00:00"
    assert formats.time_ns(10**30) == "–"  # noqa: RUF001
