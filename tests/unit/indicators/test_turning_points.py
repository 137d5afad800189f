import numpy as np

from backlane.indicators.parameters import ZigzagParameters
from backlane.indicators.turning_points import zigzag
from tests.unit.indicators.bars import bars_of


def test_zigzag_keeps_the_extremes_of_moves():
    close = [100.0, 105.0, 111.0, 120.0, 115.0, 107.0, 112.0, 119.0]
    (points,) = zigzag(bars_of(close), ZigzagParameters(threshold=0.1))
    # 111 is 11 % above 100; the move runs on to 120; 107 is 10.8 % below that, 119 11.2 % above
    nan = np.nan
    np.testing.assert_array_equal(points, [100.0, nan, nan, 120.0, nan, 107.0, nan, 119.0])


def test_zigzag_takes_a_point_back_when_the_move_runs_on():
    (before,) = zigzag(bars_of([100.0, 111.0]), ZigzagParameters(threshold=0.1))
    (after,) = zigzag(bars_of([100.0, 111.0, 112.0]), ZigzagParameters(threshold=0.1))
    assert before[1] == 111.0
    assert np.isnan(after[1])
