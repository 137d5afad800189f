"""Fills by limit, by volume and by session."""

from datetime import UTC, date, datetime

import numpy as np
import pytest

from backlane.execution.fill_models import (
    FillStatus,
    VolumeLimit,
    limit_fills,
    session_fills,
    volume_fills,
)
from backlane.execution.nyse_calendar import is_at_close, is_in_session, session_utc_s
from backlane.execution.target_orders import order_quantity, orders_from_targets, target_quantity


def test_limits_fill_where_the_bar_reaches_them() -> None:
    fills = limit_fills(
        is_buy=np.array([True, True, False, False, True]),
        quantity=np.full(5, 10.0),
        price=np.full(5, 100.0),
        limit_price=np.array([99.0, 97.0, 101.0, 103.0, np.nan]),
        is_limit=np.array([True, True, True, True, False]),
        low=np.full(5, 98.0),
        high=np.full(5, 102.0),
    )
    assert fills.quantity.tolist() == [10.0, 0.0, 10.0, 0.0, 10.0]
    assert fills.price.tolist() == [99.0, 100.0, 101.0, 100.0, 100.0]
    assert fills.statuses() == ["filled", "rejected", "filled", "rejected", "filled"]


def test_a_limit_order_without_a_limit_is_rejected() -> None:
    one = np.ones(1)
    fills = limit_fills(one > 0, one, one, one * np.nan, one > 0, one, one)
    assert fills.statuses() == [FillStatus.REJECTED]


def test_volume_bounds_what_fills() -> None:
    limit = VolumeLimit(participation_max=0.05, min_quantity=10.0, fallback_fraction=0.5)
    fills = volume_fills(
        quantity=np.array([1_500.0, 800.0, 1_500.0, 40.0]),
        price=np.full(4, 50.0),
        daily_volume=np.array([1e6, 1e6, 5_000.0, np.nan]),
        limit=limit,
    )
    # 5 % of 1e6 at 50 are 1,000 units; of 5,000 they are 5, not worth a fill; unknown: half
    assert fills.quantity.tolist() == [1_000.0, 800.0, 0.0, 20.0]
    assert fills.remaining.tolist() == [500.0, 0.0, 1_500.0, 20.0]
    assert fills.statuses() == ["partial", "filled", "rejected", "partial"]


def test_sessions_reject_what_comes_outside() -> None:
    fills = session_fills(np.array([True, False]), np.array([3.0, 4.0]), np.ones(2))
    assert fills.remaining.tolist() == [0.0, 4.0]


HOLIDAYS = [
    # from the exchange's published calendars
    date(2012, 10, 29),
    date(2021, 4, 2),
    date(2021, 7, 5),
    date(2021, 12, 24),
    date(2022, 6, 20),
    date(2023, 1, 2),
    date(2024, 3, 29),
    date(2025, 1, 9),
    date(2025, 4, 18),
    date(2025, 5, 26),
    date(2025, 9, 1),
    date(2025, 11, 27),
    date(2026, 7, 3),
]


@pytest.mark.parametrize("day", HOLIDAYS, ids=str)
def test_holidays_have_no_session(day: date) -> None:
    assert session_utc_s(day) is None


@pytest.mark.parametrize(
    ("day", "opens", "closes"),
    [
        (date(2021, 6, 18), "13:30", "20:00"),  # no holiday before 2022
        (date(2021, 12, 31), "14:30", "21:00"),  # New Year's Day is a Saturday
        (date(2022, 11, 25), "14:30", "18:00"),
        (date(2023, 7, 3), "13:30", "17:00"),
        (date(2024, 12, 24), "14:30", "18:00"),
        (date(2023, 3, 10), "14:30", "21:00"),
        (date(2023, 3, 13), "13:30", "20:00"),
        (date(2006, 10, 30), "14:30", "21:00"),  # before 2007 October ended it
    ],
    ids=str,
)
def test_sessions_in_utc(day: date, opens: str, closes: str) -> None:
    session = session_utc_s(day)
    assert session is not None
    shown = [datetime.fromtimestamp(each, UTC).strftime("%H:%M") for each in session]
    assert shown == [opens, closes]


def test_bounds_of_a_session_belong_to_it() -> None:
    session = session_utc_s(date(2023, 3, 13))
    assert session is not None
    stamps = np.array([session[0], session[1], session[1] + 1, session[0] - 1]) * 10**9
    assert is_in_session(stamps).tolist() == [True, True, False, False]
    near = np.array([session[1] + 60, session[1] - 60, session[1] + 61]) * 10**9
    assert is_at_close(near).tolist() == [True, True, False]


def test_targets_become_orders() -> None:
    targets, held = np.array([12.0, 0.0, 5.0, np.nan]), np.array([10.0, 4.0, 5.0 + 1e-7, 3.0])
    assert orders_from_targets(targets, held).tolist() == [2.0, -4.0, 0.0, 0.0]


def test_no_decision_is_not_flat() -> None:
    held = np.array([10.0, -4.0])
    assert orders_from_targets(None, held).tolist() == [0.0, 0.0]
    assert orders_from_targets(np.zeros(2), held).tolist() == [-10.0, 4.0]


def test_a_target_is_a_share_of_the_capital() -> None:
    assert target_quantity(0.3, 100_000.0, 60.0) == 500.0
    assert target_quantity(-0.3, 100_000.0, 60.0) == -500.0
    assert target_quantity(0.3, -1.0, 60.0) == 0.0
    assert order_quantity(1e-6, 0.0) == 0.0
    assert order_quantity(5.0, 4.0) == 1.0
