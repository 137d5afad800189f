import math

import numpy as np
import pytest

from backlane.fuzzy.membership import fuzzify
from backlane.fuzzy.shapes import SHAPES, find_shape, parameter_mistake


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


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_nan_stays_nan_and_infinity_has_degree_0(shape):
    parameters = [1.0, 2.0, 3.0, 4.0][: len(shape.parameter_names)]
    values = np.array([np.nan, np.inf, -np.inf])
    result = fuzzify(values, shape.name, parameters, trapezoid_edge=True)
    assert np.isnan(result[0])
    assert result[1:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("shape", "parameters", "text"),
    [
        ("triangular", [1, 2], "takes 3 parameters [a, b, c], not 2"),
        ("triangular", [3, 2, 4], "must not fall"),
        ("trapezoidal", [1, 3, 2, 4], "must not fall"),
        ("gaussian", [0, 0], "width above 0"),
        ("gaussian", [0, -1], "width above 0"),
        ("gaussian", [math.nan, 1], "not finite"),
        ("triangular", [0, 1, math.inf], "not finite"),
    ],
)
def test_wrong_parameters_are_told(shape: str, parameters: list[float], text: str):
    assert text in parameter_mistake(find_shape(shape), parameters)


def test_names_are_found_in_any_case_and_with_the_suffix_of_the_class():
    assert find_shape("TriangularMF") is find_shape("triangular")
    assert find_shape("sigmoidal") is None
