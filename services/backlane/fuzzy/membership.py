"""Membership functions: the shapes that turn a number into a degree in [0, 1].

Every function takes float64 of shape (values,) and gives the same shape. A NaN stays NaN. An
infinite value has degree 0, but in a sigmoid, which is 1 on one side.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from backlane.jit import compiled

Values = NDArray[np.float64]

_LEAST_WIDTH = float(np.finfo(np.float64).eps)
"""Narrower sides than this count as this wide, so that no division is by zero."""


@compiled
def triangular(values: Values, a: float, b: float, c: float) -> Values:
    """Returns 1 at b, falling linearly to 0 at a and at c; a <= b <= c."""
    degrees = np.empty(len(values))
    rise = max(b - a, _LEAST_WIDTH)
    fall = max(c - b, _LEAST_WIDTH)
    for i in range(len(values)):
        x = values[i]
        if np.isnan(x):
            degrees[i] = np.nan
        elif x == b:
            degrees[i] = 1.0
        elif x <= a or x >= c:
            degrees[i] = 0.0
        elif x < b:
            degrees[i] = (x - a) / rise
        else:
            degrees[i] = (c - x) / fall
    return degrees


@compiled
def trapezoidal(values: Values, a: float, b: float, c: float, d: float, edge: bool) -> Values:
    """Returns 1 from b to c, falling linearly to 0 at a and at d; a <= b <= c <= d.

    Where a side is upright (a == b or c == d), its foot is its top, too: degree 1 with `edge`, else
    0, as in ktrdr, where `[0, 0, 20, 40]` is 0 at the very 0 that an oscillator saturates at.
    """
    degrees = np.empty(len(values))
    rise = max(b - a, _LEAST_WIDTH)
    fall = max(d - c, _LEAST_WIDTH)
    for i in range(len(values)):
        x = values[i]
        if np.isnan(x):
            degrees[i] = np.nan
        elif edge and b <= x <= c:
            degrees[i] = 1.0
        elif x <= a or x >= d:
            degrees[i] = 0.0
        elif x < b:
            degrees[i] = (x - a) / rise
        elif x <= c:
            degrees[i] = 1.0
        else:
            degrees[i] = (d - x) / fall
    return degrees


@compiled
def gaussian(values: Values, center: float, width: float) -> Values:
    """Returns exp(-((x - center) / width)^2 / 2); width > 0."""
    degrees = np.empty(len(values))
    for i in range(len(values)):
        x = values[i]
        if np.isnan(x):
            # The sign that arithmetic leaves on a NaN differs between compilers; this one has none.
            degrees[i] = np.nan
        else:
            z = (x - center) / width
            # math.exp, as numpy's exp differs from the compiled one in the last bit.
            degrees[i] = math.exp(-(z * z) / 2.0)
    return degrees


@compiled
def sigmoid(values: Values, center: float, slope: float) -> Values:
    """Returns 1 / (1 + exp(-slope (x - center))); slope != 0, below 0 it falls.

    Source: Jang, Sun, Mizutani, Neuro-Fuzzy and Soft Computing, 1997, section 2.4.
    """
    degrees = np.empty(len(values))
    for i in range(len(values)):
        x = values[i]
        if np.isnan(x):
            degrees[i] = np.nan
        else:
            # exp of what is at most 0: it cannot overflow.
            rise = math.exp(-abs(slope * (x - center)))
            is_left = (x < center) == (slope > 0.0)
            degrees[i] = rise / (1.0 + rise) if is_left else 1.0 / (1.0 + rise)
    return degrees


@compiled
def bell(values: Values, a: float, b: float, c: float) -> Values:
    """Returns 1 / (1 + |(x - c) / a|^(2 b)), the generalized bell; a > 0, b > 0.

    1 at c, 1/2 at c - a and c + a, the steeper there the greater b is. Source: as sigmoid.
    """
    degrees = np.empty(len(values))
    for i in range(len(values)):
        x = values[i]
        if np.isnan(x):
            degrees[i] = np.nan
        else:
            distance = abs((x - c) / a)
            if distance <= 1.0:
                degrees[i] = 1.0 / (1.0 + math.pow(distance, 2.0 * b))
            else:
                # The same, from a power below 1: one of more than 1 might overflow.
                power = math.pow(1.0 / distance, 2.0 * b)
                degrees[i] = power / (1.0 + power)
    return degrees


_COMPUTE: dict[str, Callable[[Values, Sequence[float], bool], Values]] = {
    "triangular": lambda x, p, _: triangular(x, p[0], p[1], p[2]),
    "trapezoidal": lambda x, p, edge: trapezoidal(x, p[0], p[1], p[2], p[3], edge),
    "gaussian": lambda x, p, _: gaussian(x, p[0], p[1]),
    "sigmoid": lambda x, p, _: sigmoid(x, p[0], p[1]),
    "bell": lambda x, p, _: bell(x, p[0], p[1], p[2]),
}


def fuzzify(
    values: Values, shape: str, parameters: Sequence[float], *, trapezoid_edge: bool
) -> Values:
    """Returns the membership degree of each value in a term of this shape.

    `shape` is a name of `backlane.fuzzy.shapes`, whose parameters have been checked there.
    `trapezoid_edge` is whether the foot of an upright trapezoid side has degree 1.
    """
    return _COMPUTE[shape](values, [float(value) for value in parameters], trapezoid_edge)
