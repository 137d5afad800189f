"""Laws of features: no look-ahead, degrees in [0, 1], alignment by definition, one result."""

import hashlib
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import fields
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.errors import InvalidStrategyError
from backlane.features.align import visible_rows
from backlane.features.build import build_features
from backlane.features.history import warmup_bars
from backlane.features.names import feature_names
from backlane.features.rules import Alignment, FeatureRules
from backlane.features.strategy import (
    FuzzySetSpec,
    IndicatorSpec,
    MembershipSpec,
    NetworkInputSpec,
    Strategy,
)
from backlane.fuzzy.membership import fuzzify
from backlane.fuzzy.shapes import SHAPES, Shape
from backlane.indicators.fields import Number, OneOf, WholeNumber
from backlane.indicators.indicator import IndicatorType, Memory
from backlane.indicators.registry import INDICATORS
from backlane.indicators.windows import BLOCK_BARS
from backlane.market.bars import BarSeries
from backlane.market.timeframe import Timeframe

MINUTE_NS = 60 * 10**9


INPUTS = tuple(kind for kind in INDICATORS if not kind.looks_ahead)
MIXES = (("5m",), ("5m", "15m"), ("5m", "1h"), ("1h", "4h"), ("1h", "1d"), ("4h", "1h"))
"""Timeframes together, the base first; the last is a base with a shorter one."""


def term_of(shape: Shape) -> MembershipSpec:
    """Returns a term of any shape: rising parameters, which all shapes take so far."""
    parameters = tuple(np.linspace(20.0, 80.0, len(shape.parameter_names)))
    assert shape.mistake(parameters) is None, f"say here what parameters {shape.name} takes"
    return MembershipSpec(shape.name, shape.name, parameters)


def strategy_of(
    kinds: Sequence[IndicatorType[Any]], timeframes: tuple[str, ...] = ("5m", "15m")
) -> Strategy:
    """Returns a strategy with every output of these indicators, raw and in every shape of term."""
    indicators = tuple(IndicatorSpec(kind.name, kind.name, {}) for kind in kinds)
    outputs = [
        f"{kind.name}.{output}" if output else kind.name
        for kind in kinds
        for output in kind.outputs or ("",)
    ]
    upright = MembershipSpec("upright", "trapezoidal", (0.0, 0.0, 30.0, 100.0))
    terms = (upright, *map(term_of, SHAPES))
    fuzzy_sets = tuple(FuzzySetSpec(f"set_{name}", name, terms) for name in outputs)
    raw = [NetworkInputSpec(raw_indicator=name) for name in outputs]
    fuzzy = [NetworkInputSpec(fuzzy_set=item.id) for item in fuzzy_sets]
    return Strategy("all", "3.0", ("T",), timeframes, indicators, fuzzy_sets, (*raw, *fuzzy))


STRATEGY = strategy_of(INPUTS)
NAMES = feature_names(STRATEGY)


def bars_with_gaps(label: str, span_minutes: int, rng: np.random.Generator) -> BarSeries:
    """Returns bars of a random walk that stands still at times, with a tenth of them missing."""
    timeframe = Timeframe.parse(label)
    times = np.arange(0, span_minutes * MINUTE_NS, timeframe.length_ns, dtype=np.int64)
    times = times[rng.random(len(times)) > 0.1]
    moves = 0.02 * rng.standard_normal(len(times)) * (rng.random(len(times)) > 0.3)
    close = 50.0 * np.exp(np.cumsum(moves))
    open_ = np.concatenate([close[:1], close[:-1]])
    wick = np.abs(moves) / 2
    high, low = np.maximum(open_, close) * (1 + wick), np.minimum(open_, close) * (1 - wick)
    volume = rng.integers(0, 5, len(times)).astype(np.float64)
    return BarSeries("T", timeframe, times, open_, high, low, close, volume)


def market(
    seed: int, span_minutes: int = 2400, timeframes: Sequence[str] = STRATEGY.timeframes
) -> dict[str, BarSeries]:
    rng = np.random.default_rng(seed)
    return {label: bars_with_gaps(label, span_minutes, rng) for label in timeframes}


def digest(seed: int) -> str:
    """Returns a digest of every feature of a market, under every alignment."""
    content = hashlib.sha256()
    for alignment in Alignment:
        rules = FeatureRules(alignment=alignment)
        values = build_features(STRATEGY, market(seed), names=NAMES, rules=rules).values
        content.update(values.tobytes())
    return content.hexdigest()


LEAST_BARS = 160
"""Of the longest timeframe: half of them, a tenth missing, are enough for every indicator."""


@pytest.mark.parametrize("mix", MIXES, ids="+".join)
@pytest.mark.parametrize("alignment", [Alignment.KNOWN_AT_CLOSE, Alignment.EXACT_STAMP])
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.5, 1.0))
def test_the_future_changes_no_earlier_feature(
    alignment: Alignment, mix: tuple[str, ...], seed: int, share: float
):
    """STAMP_FORWARD_FILL looks ahead on purpose: see tests/property/test_run_laws.py."""
    rules = FeatureRules(alignment=alignment)
    strategy = strategy_of(INPUTS, mix)
    names = feature_names(strategy)
    longest_ns = max(Timeframe.parse(label).length_ns for label in mix)
    bars = market(seed, LEAST_BARS * longest_ns // MINUTE_NS, mix)
    base = bars[mix[0]]
    kept = max(1, int(len(base) * share))
    if alignment is Alignment.KNOWN_AT_CLOSE:
        now_ns = base.close_time_ns[kept - 1]
        known = {label: series.close_time_ns <= now_ns for label, series in bars.items()}
    else:  # by open times, this alignment shows a longer bar that opens with the base bar
        now_ns = base.open_time_ns[kept - 1]
        known = {label: series.open_time_ns <= now_ns for label, series in bars.items()}
    past = {label: series.rows(0, int(known[label].sum())) for label, series in bars.items()}

    then = build_features(strategy, past, names=names, rules=rules).values
    later = build_features(strategy, bars, names=names, rules=rules).values

    assert then.tobytes() == later[:kept].tobytes()


@pytest.mark.parametrize(
    "kind", [kind for kind in INDICATORS if kind.looks_ahead], ids=lambda kind: kind.name
)
def test_what_looks_ahead_is_no_input(kind: IndicatorType[Any]):
    strategy = strategy_of([kind])
    with pytest.raises(InvalidStrategyError, match="values change when later bars come"):
        build_features(strategy, market(1), names=feature_names(strategy), rules=FeatureRules())


def parameters_of(kind: IndicatorType[Any]) -> st.SearchStrategy[Any]:
    """Returns parameters of an indicator, anywhere in their ranges, but periods up to 40."""
    drawn: dict[str, st.SearchStrategy[Any]] = {}
    for item in fields(kind.parameters):
        accepts = item.metadata["accepts"]
        if isinstance(accepts, WholeNumber):
            drawn[item.name] = st.integers(accepts.minimum, min(accepts.maximum, 40))
        elif isinstance(accepts, Number):
            drawn[item.name] = st.floats(accepts.low, accepts.high).filter(accepts.accepts)
        elif isinstance(accepts, OneOf):
            drawn[item.name] = st.sampled_from(accepts.words)
        else:
            drawn[item.name] = st.booleans().filter(accepts.accepts)
    return st.builds(kind.parameters, **drawn)


@pytest.mark.parametrize("kind", INPUTS, ids=lambda kind: kind.name)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 2**32), kept=st.integers(1, 200))
def test_the_future_changes_no_earlier_value_of_an_indicator(kind, data, seed: int, kept: int):
    bars = bars_with_gaps("5m", 1200, np.random.default_rng(seed))
    parameters = data.draw(parameters_of(kind))
    is_early = data.draw(st.booleans())
    then = kind.outputs_of(bars.rows(0, kept), parameters, warmup_fillers=is_early)
    later = kind.outputs_of(bars, parameters, warmup_fillers=is_early)
    for past, whole in zip(then, later, strict=True):
        assert past.tobytes() == whole[: len(past)].tobytes()


RANGES = {
    ("rsi", None): (0, 100),
    ("stochastic", "k"): (0, 100),
    ("stochastic", "d"): (0, 100),
    ("williamsr", None): (-100, 0),
    ("aroon", "up"): (0, 100),
    ("aroon", "down"): (0, 100),
    ("aroon", "oscillator"): (-100, 100),
    ("adx", "adx"): (0, 100),
    ("adx", "plus_di"): (0, 100),
    ("adx", "minus_di"): (0, 100),
    ("mfi", None): (0, 100),
    ("cmf", "cmf"): (-1, 1),
    ("cmf", "mf_multiplier"): (-1, 1),
    ("cmf", "above_zero"): (0, 1),
    ("cmf", "below_zero"): (0, 1),
    ("adline", "mf_multiplier"): (-1, 1),
    ("rvi", "rvi"): (-1, 1),
    ("rvi", "signal"): (-1, 1),
    ("fishertransform", "fisher"): (-3.81, 3.81),  # ln(1.999 / 0.001) / 2
    ("supertrend", "direction"): (-1, 1),
    ("squeezeintensity", None): (0, 1),
    ("bollingerbandwidth", None): (0, math.inf),
    ("atr", None): (0, math.inf),
    ("volumeratio", None): (0, math.inf),
}
"""What the formula of an output bounds; a few roundings may lead out of it."""


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_values_are_finite_and_within_their_range(kind, data, seed: int):
    bars = bars_with_gaps("5m", 1200, np.random.default_rng(seed))
    # A width or ratio of a volume that may be 0 has no bounds; a source of prices is meant here.
    parameters = data.draw(parameters_of(kind).filter(lambda p: not reads_volume(p)))
    for name, values in zip(
        kind.outputs or (None,), kind.outputs_of(bars, parameters), strict=True
    ):
        low, high = RANGES.get((kind.name, name), (-math.inf, math.inf))
        known = values[~np.isnan(values)]
        assert np.isfinite(known).all()
        assert (known >= low - 1e-9).all()
        assert (known <= high + 1e-9).all()


def reads_volume(parameters: Any) -> bool:
    return getattr(parameters, "source", "") == "volume"


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_more_history_than_the_warm_up_changes_no_feature_that_a_float32_shows(seed: int):
    # Where an indicator remembers its first bar, no warm-up is enough.
    strategy = strategy_of([kind for kind in INPUTS if kind.memory is not Memory.START])
    names = feature_names(strategy)
    bars = market(seed, span_minutes=15 * 1000)
    needed = warmup_bars(strategy)
    row = len(bars["5m"]) - 1
    start_ns = int(bars["5m"].open_time_ns[row])
    short = {}
    for label, series in bars.items():
        first = int(np.searchsorted(series.open_time_ns, start_ns, "left"))
        assert first >= needed[label]
        short[label] = series.rows(first - needed[label], len(series))

    whole = build_features(strategy, bars, names=names, rules=FeatureRules()).values[row]
    enough = build_features(strategy, short, names=names, rules=FeatureRules()).values[-1]

    # What is forgotten weighs 2^-24 of a price near 50 or of an oscillator up to 100, and a few
    # times that where means are nested.
    np.testing.assert_allclose(enough, whole, rtol=2.0**-22, atol=100 * 2.0**-22)


@given(
    open_minutes=st.lists(st.integers(0, 300), unique=True, max_size=40),
    other_minutes=st.lists(st.integers(0, 300), unique=True, max_size=40),
    labels=st.tuples(st.sampled_from(["1m", "5m", "1h"]), st.sampled_from(["1m", "5m", "1h"])),
)
def test_a_bar_is_visible_from_its_close(open_minutes, other_minutes, labels):
    def series(label: str, minutes: list[int]) -> BarSeries:
        times = np.array(sorted(minutes), dtype=np.int64) * MINUTE_NS
        ones = np.ones(len(times))
        return BarSeries("T", Timeframe.parse(label), times, ones, ones, ones, ones, ones)

    base, other = series(labels[0], open_minutes), series(labels[1], other_minutes)
    rows = visible_rows(base, other, Alignment.KNOWN_AT_CLOSE)
    for bar, close_ns in enumerate(base.close_time_ns):
        closed = [i for i, time_ns in enumerate(other.close_time_ns) if time_ns <= close_ns]
        assert rows[bar] == max(closed, default=-1)


def shape_parameters(shape: Shape) -> st.SearchStrategy[list[float]]:
    """Returns what a shape accepts, in any order or rising."""
    numbers = st.floats(-1e6, 1e6, allow_subnormal=False)
    count = len(shape.parameter_names)
    drawn = st.lists(numbers, min_size=count, max_size=count)
    rising = st.tuples(numbers, st.lists(st.floats(0.0, 1e6), min_size=count, max_size=count))
    corners = rising.map(lambda pair: list(accumulate(pair[1][1:], initial=pair[0])))
    return st.one_of(drawn, drawn.map(lambda given: [abs(x) for x in given]), corners).filter(
        lambda given: shape.mistake(given) is None
    )


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
@settings(deadline=None)
@given(data=st.data(), edge=st.booleans())
def test_degrees_lie_between_0_and_1_and_look_at_their_value_alone(shape, data, edge: bool):
    parameters = data.draw(shape_parameters(shape))
    values = data.draw(st.lists(st.floats(allow_nan=False), min_size=1, max_size=20))
    inside = np.array([*values, *parameters])
    degrees = fuzzify(inside, shape.name, parameters, trapezoid_edge=edge)
    assert ((degrees >= 0.0) & (degrees <= 1.0)).all()
    for value, degree in zip(inside, degrees, strict=True):
        alone = fuzzify(np.array([value, np.nan]), shape.name, parameters, trapezoid_edge=edge)
        assert alone[0] == degree
        assert np.isnan(alone[1])


@pytest.mark.parametrize("kind", INDICATORS, ids=lambda kind: kind.name)
@settings(max_examples=5, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**32), power=st.sampled_from([-9, 1, 5]))
def test_in_another_currency_an_indicator_scales_with_the_price_or_not_at_all(
    kind, data, seed: int, power: int
):
    """To the bit, as powers of two cost none."""
    bars = bars_with_gaps("5m", 1200, np.random.default_rng(seed))
    unit = 2.0**power
    prices = (bars.open * unit, bars.high * unit, bars.low * unit, bars.close * unit)
    dearer = BarSeries(bars.symbol, bars.timeframe, bars.open_time_ns, *prices, bars.volume)
    parameters = data.draw(parameters_of(kind))
    is_early = data.draw(st.booleans())
    before = kind.outputs_of(bars, parameters, warmup_fillers=is_early)
    after = kind.outputs_of(dearer, parameters, warmup_fillers=is_early)
    for values, scaled in zip(before, after, strict=True):
        assert scaled.tobytes() in (values.tobytes(), (values * unit).tobytes())


@given(offset=st.integers(1, BLOCK_BARS + 3), seed=st.integers(0, 100))
@settings(max_examples=20)
def test_windows_do_not_know_where_the_series_starts(offset: int, seed: int):
    bars = market(seed, span_minutes=5 * (BLOCK_BARS + 400))["5m"]
    later = bars.rows(min(offset, len(bars) - 100), len(bars))
    for kind in INDICATORS:
        if kind.memory is not Memory.WINDOW:
            continue
        parameters = kind.parameters()
        lookback = kind.lookback_bars(parameters)
        whole = kind.outputs_of(bars, parameters)
        for full, cut in zip(whole, kind.outputs_of(later, parameters), strict=True):
            settled = len(cut) - lookback + 1
            assert full[-settled:].tobytes() == cut[-settled:].tobytes()


@pytest.mark.slow
def test_compiled_and_uncompiled_code_give_the_same_bits():
    script = "from tests.property.test_features import digest; print(digest(7))"
    # Overflow to infinity warns in plain Python, and is what the compiled code does silently.
    arguments = [sys.executable, "-W", "ignore", "-c", script]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": "services:."}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digest(7)
