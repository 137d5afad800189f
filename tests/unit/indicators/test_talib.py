"""Indicators against TA-Lib, where the definitions coincide (`oracles`).

TA-Lib is an independent implementation in C. It updates running sums, which keeps some 1e-12 of
their size. Where it begins a recursive mean otherwise, the two are compared once both have
forgotten it.
"""

from pathlib import Path

import numpy as np
import pytest

from backlane.indicators.fields import read_parameters
from backlane.indicators.indicator import Memory
from backlane.indicators.registry import INDICATORS, find_indicator
from backlane.market.bars import BarSeries
from tests.unit.indicators.bars import bars_of
from tests.unit.indicators.oracles import ORACLES, WITHOUT_ORACLE, Oracle

ROOT = Path(__file__).resolve().parents[3]
BAR_COUNT = 2000


def random_walk() -> BarSeries:
    rng = np.random.default_rng(11)
    close = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(BAR_COUNT)))
    open_ = np.concatenate([close[:1], close[:-1]])
    high = np.maximum(open_, close) * (1 + 0.01 * rng.random(BAR_COUNT))
    low = np.minimum(open_, close) * (1 - 0.01 * rng.random(BAR_COUNT))
    volume = rng.integers(1, 1000, BAR_COUNT).astype(np.float64)
    return bars_of(close, open_=open_, high=high, low=low, volume=volume)


BARS = random_walk()


@pytest.mark.parametrize("oracle", ORACLES, ids=lambda oracle: oracle.indicator)
def test_every_output_of_an_indicator_equals_that_of_talib(oracle: Oracle):
    talib = pytest.importorskip("talib", reason="TA-Lib comes with the extra `dev`")
    kind = find_indicator(oracle.indicator)
    parameters, violations = read_parameters(kind.parameters, oracle.given, path="p")
    assert violations == []
    is_fading = kind.memory is Memory.FADING
    # Recursive means are compared where 2^-24 of their past is left, others at once.
    first = kind.lookback_bars(parameters) if is_fading else 0
    tolerance = 1e-6 if is_fading else 1e-10
    outputs = kind.outputs_of(BARS, parameters)
    for values, wanted in zip(outputs, oracle.outputs(talib, BARS), strict=True):
        settled, expected = values[first:], wanted[first:]
        known = ~np.isnan(expected)
        assert known.sum() > BAR_COUNT // 2
        scale = float(np.abs(expected[known]).max())
        # STOCH shows k only together with d: where TA-Lib has a value, we have it, too.
        np.testing.assert_allclose(settled[known], expected[known], rtol=0, atol=tolerance * scale)


def test_every_indicator_has_an_oracle_or_a_reason_for_none():
    listed = [*(oracle.indicator for oracle in ORACLES), *WITHOUT_ORACLE]
    assert sorted(listed) == sorted(kind.name for kind in INDICATORS)
    assert all(WITHOUT_ORACLE.values())


def table() -> str:
    """Returns the table of docs/features.md, section "Agreement with TA-Lib"."""
    rows = [
        f"| `{o.indicator}` | {', '.join(f'`{f}`' for f in o.functions.split(', '))} | {o.remark} |"
        for o in ORACLES
    ]
    rows += [f"| `{name}` | none | {reason} |" for name, reason in WITHOUT_ORACLE.items()]
    return "\n".join(["| type | TA-Lib | |", "|---|---|---|", *rows])


def test_the_documentation_has_the_table_of_oracles():
    assert table() in (ROOT / "docs" / "features.md").read_text(), (
        f"put this into docs/features.md, section Agreement with TA-Lib:\n{table()}"
    )
