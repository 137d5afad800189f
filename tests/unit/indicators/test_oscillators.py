import math

import numpy as np
import pytest

from backlane.indicators.oscillators import (
    commodity_channel,
    fisher_transform,
    relative_vigor,
    stochastic,
    williams_range,
)
from backlane.indicators.parameters import (
    CciParameters,
    FisherParameters,
    RviParameters,
    StochasticParameters,
    WilliamsParameters,
)
from backlane.indicators.registry import find_indicator
from tests.unit.indicators.bars import bars_of

BARS = bars_of([2.0, 3.0, 4.0, 4.0], high=[3.0, 4.0, 5.0, 5.0], low=[1.0, 2.0, 1.0, 3.0])
STOCHASTIC = StochasticParameters(k_period=2, d_period=2, smooth_k=2)


def test_stochastic_is_the_mean_place_in_the_range():
    k, d = stochastic(BARS, STOCHASTIC)
    # places: bar 1 (3 - 1) / (4 - 1) = 2/3; bars 2 and 3 (4 - 1) / (5 - 1) = 3/4, in percent
    # k: bar 2 (200/3 + 75) / 2 = 425/6, bar 3 75; d: bar 3 (425/6 + 75) / 2 = 875/12
    np.testing.assert_allclose(k, [np.nan, np.nan, 425 / 6, 75.0], rtol=1e-15)  # last place
    np.testing.assert_allclose(d, [np.nan, np.nan, np.nan, 875 / 12], rtol=1e-15)


def test_stochastic_shows_means_with_50_in_warm_up_only_where_fillers_are_asked_for():
    k, d = find_indicator("stochastic").outputs_of(BARS, STOCHASTIC, warmup_fillers=True)
    # k: 50, (50 + 200/3) / 2 = 175/3; d: 50, (50 + 175/3) / 2 = 325/6
    np.testing.assert_allclose(k[:2], [50.0, 175 / 3], rtol=1e-15)
    np.testing.assert_allclose(d[:2], [50.0, 325 / 6], rtol=1e-15)
    whole_k, whole_d = stochastic(BARS, STOCHASTIC)
    assert (k[3], d[3]) == (whole_k[3], whole_d[3])


def test_in_a_dead_market_the_price_is_in_the_middle():
    dead = bars_of([7.0] * 4)
    assert stochastic(dead, STOCHASTIC)[1][3] == 50.0
    assert williams_range(dead, WilliamsParameters(period=2))[0][3] == -50.0


def test_williams_range_falls_from_0_at_the_high():
    (place,) = williams_range(BARS, WilliamsParameters(period=2))
    # below the high by (4 - 3) of (4 - 1), then by (5 - 4) of (5 - 1)
    np.testing.assert_allclose(place, [np.nan, -100 / 3, -25.0, -25.0], rtol=1e-15)
    (filled,) = find_indicator("williamsr").outputs_of(
        BARS, WilliamsParameters(period=2), warmup_fillers=True
    )
    assert filled[0] == -50.0


def test_cci_is_the_distance_from_the_mean_in_mean_distances():
    bars = bars_of([1.0, 2.0, 6.0], high=[1.0, 3.0, 7.0], low=[1.0, 1.0, 5.0])
    (cci,) = commodity_channel(bars, CciParameters(period=3))
    # typical 1, 2, 6: mean 3, distances 2 + 1 + 3 = 6, mean 2: (6 - 3) / (0.015 x 2) = 100
    np.testing.assert_allclose(cci, [np.nan, np.nan, 100.0], rtol=1e-15)


def test_cci_of_a_dead_market_is_not_defined():
    assert np.isnan(commodity_channel(bars_of([7.0] * 4), CciParameters(period=2))[0]).all()


def test_rvi_is_the_body_of_bars_over_their_height():
    body = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    ten = np.full(5, 10.0)
    bars = bars_of(ten + body, open_=ten, high=ten + body, low=ten + body - 5.0)
    rvi, signal = relative_vigor(bars, RviParameters(period=1, signal_period=2))
    # heights 5; bodies: (4 + 2 x 3 + 2 x 2 + 1) / 6 = 2.5, (5 + 2 x 4 + 2 x 3 + 2) / 6 = 3.5
    np.testing.assert_allclose(rvi[3:], [0.5, 0.7], rtol=1e-15)
    assert signal[4] == pytest.approx(0.6, rel=1e-15)  # (0.5 + 0.7) / 2
    assert np.isnan(rvi[:3]).all()
    assert np.isnan(signal[:4]).all()


def test_fisher_stretches_the_place_in_the_range():
    bars = bars_of([2.0, 3.0, 3.0], high=[3.0, 4.0, 4.0], low=[1.0, 2.0, 2.0])
    fisher, signal = fisher_transform(bars, FisherParameters(period=2, smoothing=3))
    # bar 1: x = 2 (3 - 1) / (4 - 1) - 1 = 1/3, ln((4/3) / (2/3)) / 2 = ln(2) / 2
    # bar 2: x = 2 (3 - 2) / (4 - 2) - 1 = 0, ln(1) = 0; alpha 1/2: ln(2) / 4
    half = math.log(2) / 2
    np.testing.assert_allclose(fisher, [np.nan, half, half / 2], rtol=1e-14)  # a few roundings
    np.testing.assert_allclose(signal, [np.nan, np.nan, half], rtol=1e-14)


def test_fisher_is_cut_where_it_would_be_infinite():
    fisher, _ = fisher_transform(bars_of([1.0, 2.0]), FisherParameters(period=2))
    assert fisher[1] == pytest.approx(math.log(1.999 / 0.001) / 2, rel=1e-12)  # 1 - x cancels
