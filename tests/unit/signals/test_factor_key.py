"""What makes another key, what the digests of a panel cover, and how far back a value looks."""

from dataclasses import replace

import numpy as np
import pytest

from backlane.panel.panel import Panel
from backlane.signals.event_windows import DAY_NS
from backlane.signals.factor_key import (
    FACTOR_HISTORY_BARS,
    FactorKey,
    PanelDigests,
    core_factor_key,
    first_row_needed,
    panel_rows,
    year_starts,
)
from backlane.signals.factors import FACTORS
from tests.unit.signals.panels import daily_panel

KEY = {"code": "v1", "symbols": ("A", "B"), "history_bars": 5}
# Days since 1970: 364 is the last of 1970, 365 the first of 1971.
DAYS = [362, 363, 364, 365, 366, 730]


def panel(**changes) -> Panel:
    close = np.arange(12.0).reshape(6, 2) + 10
    return replace(daily_panel(close, volume=close, days=DAYS), **changes)


def test_any_part_of_a_key_makes_another_one():
    made = FactorKey.of("core", {"fast": 3, "slow": 8}, **KEY)
    others = [
        FactorKey.of("core2", {"fast": 3, "slow": 8}, **KEY),
        FactorKey.of("core", {"fast": 4, "slow": 8}, **KEY),
        FactorKey.of("core", {"fast": 3, "slow": 8}, **{**KEY, "code": "v2"}),
        FactorKey.of("core", {"fast": 3, "slow": 8}, **{**KEY, "symbols": ("B", "A")}),
        FactorKey.of("core", {"fast": 3, "slow": 8}, **{**KEY, "history_bars": None}),
    ]
    assert len({made.digest, *(each.digest for each in others)}) == 6
    assert FactorKey.of("core", {"slow": 8, "fast": 3}, **KEY) == made


@pytest.mark.parametrize("group", ["", "../core", "Core", "a/b", "a" * 65, ".core"])
def test_a_group_is_the_name_of_a_folder(group):
    with pytest.raises(ValueError, match="no group of factors"):
        FactorKey.of(group, {}, **KEY)


def test_a_parameter_that_is_no_number_and_a_history_below_zero_are_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        FactorKey.of("core", {"fast": float("nan")}, **KEY)
    with pytest.raises(ValueError, match="history_bars -1"):
        FactorKey.of("core", {}, **{**KEY, "history_bars": -1})


def test_every_factor_has_a_history_and_nothing_else_is_one():
    assert set(FACTOR_HISTORY_BARS) == set(FACTORS)
    with pytest.raises(ValueError, match="'rv_21' is no factor"):
        core_factor_key("rv_21", ("A",), "v1")


def test_years_begin_where_the_stamps_change_theirs():
    assert year_starts(np.array(DAYS) * DAY_NS).tolist() == [0, 3, 5]
    assert year_starts(np.empty(0, np.int64)).tolist() == []


def test_panels_that_begin_alike_have_the_same_digests_as_far_as_they_do():
    whole, other = panel(), panel()
    other.close[4, 1] += 1e-9
    digests, others = PanelDigests(whole), PanelDigests(other)
    assert [digests.of_first(n) == others.of_first(n) for n in range(7)] == [True] * 5 + [False] * 2
    cut = PanelDigests(panel_rows(whole, 0, 4))
    assert cut.of_first(4) == digests.of_first(4) != digests.of_first(3)


@pytest.mark.parametrize("name", ["time_ns", "known_ns", "open", "high", "low", "close", "volume"])
def test_every_array_of_a_panel_counts(name):
    whole = panel()
    changed = getattr(whole, name).copy()
    changed[1] += 1
    other = replace(whole, **{name: changed})
    assert PanelDigests(other).of_first(6) != PanelDigests(whole).of_first(6)


def test_no_volume_is_not_a_volume_of_zero():
    without, zero = panel(volume=None), panel(volume=np.zeros((6, 2)))
    assert PanelDigests(without).of_first(6) != PanelDigests(zero).of_first(6)


@pytest.mark.parametrize(
    ("history_bars", "expected"), [(0, 5), (1, 4), (2, 1), (3, 0), (9, 0), (None, 0)]
)
def test_the_history_counts_the_bars_that_an_instrument_has(history_bars, expected):
    # The instrument has bars at rows 0, 1, 4 and 5.
    close = np.array([[1.0], [2.0], [np.nan], [np.nan], [3.0], [4.0]])
    assert first_row_needed(daily_panel(close), 5, history_bars) == expected


def test_an_instrument_that_has_no_bar_any_more_needs_no_history():
    # One has bars at rows 0 to 3, the other at row 0 alone.
    close = np.array([[1.0, 9.0], [2.0, np.nan], [3.0, np.nan], [4.0, np.nan]])
    assert first_row_needed(daily_panel(close), 3, 1) == 2
