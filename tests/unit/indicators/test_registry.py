from pathlib import Path

import numpy as np
import pytest

from backlane.indicators.fields import read_parameters
from backlane.indicators.registry import INDICATORS, find_indicator, known_indicators
from tests.unit.indicators.bars import bars_of

ROOT = Path(__file__).resolve().parents[3]


def test_names_and_aliases_mean_one_indicator_each():
    words = [word for kind in INDICATORS for word in (kind.name, *kind.aliases)]
    assert len(words) == len(set(words))
    assert all(word == word.lower() for word in words)
    assert list(known_indicators()) == sorted(kind.name for kind in INDICATORS)


def test_definitions_are_unique():
    assert len({kind.definition for kind in INDICATORS}) == len(INDICATORS)


def test_the_documentation_lists_every_indicator_with_its_names():
    rows = (ROOT / "docs" / "features.md").read_text().splitlines()
    for kind in INDICATORS:
        (row,) = [row for row in rows if f"`{kind.definition}`" in row]
        assert all(f"`{word}`" in row for word in (kind.name, *kind.aliases, *kind.outputs))


def test_names_are_found_in_any_case():
    assert find_indicator("RSIIndicator") is find_indicator("rsi")
    assert find_indicator("BBands") is find_indicator("bollingerbands")
    assert find_indicator("martian") is None


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
def test_the_documentation_says_from_which_bar_on_each_output_is_known(kind):
    rows = (ROOT / "docs" / "features.md").read_text().splitlines()
    (row,) = [row for row in rows if f"`{kind.definition}`" in row]
    documented = [int(cell) for cell in row.split(" | ")[4].split(", ")]
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(100)))
    outputs = kind.outputs_of(
        bars_of(close, high=close * 1.01, low=close * 0.98), kind.parameters()
    )
    known = [int(np.argmax(~np.isnan(values))) for values in outputs]
    assert known == (documented if len(documented) > 1 else documented * len(outputs))


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
def test_what_is_known_does_not_depend_on_what_warms_up(kind):
    rng = np.random.default_rng(2)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(100)))
    bars = bars_of(close, high=close * 1.01, low=close * 0.98)
    shown = kind.outputs_of(bars, kind.parameters(), warmup_fillers=True)
    for values, early in zip(kind.outputs_of(bars, kind.parameters()), shown, strict=True):
        # Means of what there is are summed in another order: the last places differ.
        last = values[-30:]
        np.testing.assert_allclose(last, np.where(np.isnan(last), np.nan, early[-30:]), rtol=1e-12)


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
def test_every_indicator_gives_what_its_row_says(kind):
    parameters, violations = read_parameters(kind.parameters, {}, path="x")
    assert violations == []
    rng = np.random.default_rng(1)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(600)))
    outputs = kind.outputs_of(bars_of(close, high=close * 1.01, low=close * 0.98), parameters)
    assert len(outputs) == max(1, len(kind.outputs))
    for values in outputs:
        assert values.dtype == np.float64
        assert values.shape == close.shape
        if not kind.looks_ahead:  # turning points are rare
            assert not np.isnan(values[kind.lookback_bars(parameters) - 1 :]).any()
    assert len(close) >= kind.lookback_bars(parameters) >= 1


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
def test_an_indicator_leaves_the_bars_as_they_are(kind):
    bars = bars_of(np.linspace(1.0, 2.0, 300))
    for column in (bars.open, bars.high, bars.low, bars.close, bars.volume):
        column.flags.writeable = False
    kind.outputs_of(bars, kind.parameters(), warmup_fillers=True)


def test_a_bare_reference_means_the_first_output():
    bollinger = find_indicator("bollingerbands")
    assert bollinger.output_index(None) == bollinger.output_index("upper") == 0
    assert bollinger.output_index("lower") == 2
    assert bollinger.output_index("width") is None
