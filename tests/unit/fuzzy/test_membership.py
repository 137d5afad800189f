import math

import numpy as np
import pytest

from backlane.fuzzy.membership import fuzzify
from backlane.fuzzy.shapes import SHAPES, find_shape, parameter_mistake, term_gain


def degrees(shape: str, parameters: list[float], values: list[float], edge: bool = True):
    return fuzzify(np.array(values), shape, parameters, trapezoid_edge=edge).tolist()


def test_a_triangle_rises_to_its_peak_and_falls():
    # (15 - 10) / (20 - 10) = 0.5; (40 - 25) / (40 - 20) = 0.75
    assert degrees("triangular", [10, 20, 40], [5, 10, 15, 20, 25, 40, 50]) == [
        0, 0, 0.5, 1, 0.75, 0, 0,
    ]  # fmt: skip


def test_a_triangle_with_an_upright_side_is_1_at_it():
    assert degrees("triangular", [0, 0, 10], [-1, 0, 5]) == [0, 1, 0.5]
    assert degrees("triangular", [0, 10, 10], [5, 10, 11]) == [0.5, 1, 0]
    assert degrees("triangular", [5, 5, 5], [4, 5, 6]) == [0, 1, 0]


def test_a_trapezoid_is_1_on_its_plateau():
    # (2.5 - 0) / (10 - 0) = 0.25; (40 - 35) / (40 - 20) = 0.25
    assert degrees("trapezoidal", [0, 10, 20, 40], [0, 2.5, 10, 15, 20, 35, 40]) == [
        0, 0.25, 1, 1, 1, 0.25, 0,
    ]  # fmt: skip


def test_the_edge_of_a_trapezoid_belongs_to_it_unless_told_otherwise():
    shoulder = [0, 0, 20, 40]
    assert degrees("trapezoidal", shoulder, [0, 1], edge=True) == [1, 1]
    assert degrees("trapezoidal", shoulder, [0, 1], edge=False) == [0, 1]
    assert degrees("trapezoidal", [60, 80, 100, 100], [100, 99], edge=True) == [1, 1]
    assert degrees("trapezoidal", [60, 80, 100, 100], [100, 99], edge=False) == [0, 1]


def test_a_gaussian_falls_by_the_square_of_the_distance():
    one, near, far = degrees("gaussian", [50, 10], [50, 60, 30])
    assert one == 1.0
    assert near == math.exp(-0.5)  # one width away
    assert far == math.exp(-2.0)  # two widths away: 2^2 / 2


def test_a_sigmoid_is_a_half_at_its_center_and_rises_or_falls():
    # 1 / (1 + exp(-2 ln 3)) = 1 / (1 + 1/9) = 0.9, and 0.1 as far on the other side
    slope = math.log(3)
    assert degrees("sigmoid", [50, slope], [50, 52, 48]) == pytest.approx([0.5, 0.9, 0.1])
    assert degrees("sigmoid", [50, -slope], [50, 52, 48]) == pytest.approx([0.5, 0.1, 0.9])


def test_a_bell_is_1_at_its_center_and_a_half_at_its_width():
    # 1 / (1 + 2^4) = 1/17 two widths away, 1 / (1 + (1/2)^4) = 16/17 half a width away
    assert degrees("bell", [10, 2, 50], [50, 60, 40, 70, 55]) == pytest.approx(
        [1.0, 0.5, 0.5, 1 / 17, 16 / 17], rel=1e-15
    )  # last place


def test_no_number_is_too_large_for_a_shape():
    assert degrees("sigmoid", [0, 1e300], [1e300, -1e300, 0]) == [1.0, 0.0, 0.5]
    assert degrees("bell", [1e-300, 1e6, 0], [1e300, 0]) == [0.0, 1.0]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_nan_stays_nan_and_infinity_has_degree_0_or_is_on_the_upper_side(shape):
    parameters = [1.0, 2.0, 3.0, 4.0][: len(shape.parameter_names)]
    values = np.array([np.nan, np.inf, -np.inf])
    result = fuzzify(values, shape.name, parameters, trapezoid_edge=True)
    assert np.isnan(result[0])
    assert result[1:].tolist() == [1.0 if shape.name == "sigmoid" else 0.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "parameters", "text"),
    [
        ("triangular", [1, 2], "takes 3 parameters [a, b, c], not 2"),
        ("triangular", [3, 2, 4], "must not fall"),
        ("trapezoidal", [1, 3, 2, 4], "must not fall"),
        ("gaussian", [0, 0], "width above 0"),
        ("gaussian", [0, -1], "width above 0"),
        ("gaussian", [math.nan, 1], "not finite"),
        ("sigmoid", [50, 0], "slope other than 0"),
        ("sigmoid", [50], "takes 2 parameters [center, slope], not 1"),
        ("bell", [0, 2, 50], "a and b above 0"),
        ("bell", [10, -1, 50], "a and b above 0"),
        ("triangular", [0, 1, math.inf], "not finite"),
    ],
)
def test_wrong_parameters_are_told(shape: str, parameters: list[float], text: str):
    assert text in parameter_mistake(find_shape(shape), parameters)


def test_names_are_found_in_any_case_and_with_the_suffix_of_the_class():
    assert find_shape("TriangularMF") is find_shape("triangular")
    assert find_shape("sigmoidal") is None


@pytest.mark.parametrize(
    ("shape", "parameters", "slope", "size"),
    [
        ("triangular", [35, 50, 65], 1 / 15, 65),
        ("triangular", [0, 0, 10], 1 / 10, 10),  # the upright side is a step
        ("triangular", [5, 5, 5], 0.0, 5),
        ("trapezoidal", [-100, 10, 90, 95], 1 / 5, 100),
        ("trapezoidal", [0, 10, 11, 31], 1 / 10, 31),  # the top, 1 wide, is no side
        ("gaussian", [50, 5], math.exp(-0.5) / 5, 55),  # one width from the center
        ("sigmoid", [50, -0.5], 0.5 / 4, 52),  # in the middle
        ("bell", [2, 1, 10], 3 * math.sqrt(3) / 8 / 2, 12),  # 1 / (1 + z^2), at z = 1 / sqrt(3)
    ],
)
def test_the_gain_of_a_term_is_its_steepest_slope_times_its_size(shape, parameters, slope, size):
    assert term_gain(shape, parameters) == pytest.approx(slope * size, rel=1e-12)  # last places
    step = 0.001
    values = np.arange(-200.0, 200.0, step)
    slopes = np.abs(np.diff(fuzzify(values, shape, parameters, trapezoid_edge=True))) / step
    smooth = slopes[slopes < 100.0]  # the others are steps
    # Chords are flatter than the steepest tangent, by the curvature times the step.
    assert smooth.max(initial=0.0) == pytest.approx(slope, rel=1e-3, abs=1e-9)
