"""The shapes of terms: what they are called and which parameters they take.

Nothing here computes, so that strategies can be read where no compiler is loaded;
`backlane.fuzzy.membership` has the function of each shape.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Shape:
    """One shape: its name in strategy files and its parameters.

    `mistake` says what is wrong with parameters (finite, of the right count), or gives None.
    `gain` is how much the degree would move, as steeply as it can, if the value moved by the size
    of the term, which is its greatest corner, or center and width. `is_in_ktrdr` is whether ktrdr
    has it, too.
    """

    name: str
    parameter_names: tuple[str, ...]
    mistake: Callable[[Sequence[float]], str | None]
    gain: Callable[[Sequence[float]], float]
    is_in_ktrdr: bool = True


def _disorder(parameters: Sequence[float]) -> str | None:
    ordered = all(low <= high for low, high in pairwise(parameters))
    return None if ordered else "must not fall from one to the next"


def _no_width(parameters: Sequence[float]) -> str | None:
    return None if parameters[1] > 0 else "needs a width above 0"


def _flat(parameters: Sequence[float]) -> str | None:
    return None if parameters[1] != 0 else "needs a slope other than 0"


def _no_bell(parameters: Sequence[float]) -> str | None:
    return None if parameters[0] > 0 and parameters[1] > 0 else "needs a and b above 0"


def _side_gain(parameters: Sequence[float]) -> float:
    # First and last: the top of a trapezoid, from b to c, is no side. An upright side is a step,
    # which no amount of history makes less steep.
    widths = (parameters[1] - parameters[0], parameters[-1] - parameters[-2])
    size = max(abs(value) for value in parameters)
    return max((size / width for width in widths if width > 0), default=0.0)


def _gaussian_gain(parameters: Sequence[float]) -> float:
    center, width = parameters
    return math.exp(-0.5) / width * (abs(center) + width)


def _sigmoid_gain(parameters: Sequence[float]) -> float:
    center, slope = parameters
    return abs(slope) / 4.0 * (abs(center) + 1.0 / abs(slope))


def _bell_gain(parameters: Sequence[float]) -> float:
    a, b, c = parameters
    # With u = (|x - c| / a)^(2b), the slope is 2b / a u^e / (1 + u)^2, steepest at u = e / (2 - e).
    # Below b = 1/2 there is a cusp at c, which is a step of its own.
    e = max(1.0 - 1.0 / (2.0 * b), 0.0)
    slope = 2.0 * b / a * e**e * (2.0 - e) ** (2.0 - e) / 4.0
    return float(slope * (abs(c) + a))


SHAPES: tuple[Shape, ...] = (
    Shape("triangular", ("a", "b", "c"), _disorder, _side_gain),
    Shape("trapezoidal", ("a", "b", "c", "d"), _disorder, _side_gain),
    Shape("gaussian", ("center", "width"), _no_width, _gaussian_gain),
    Shape("sigmoid", ("center", "slope"), _flat, _sigmoid_gain, is_in_ktrdr=False),
    Shape("bell", ("a", "b", "c"), _no_bell, _bell_gain, is_in_ktrdr=False),
)

_BY_NAME = {word: shape for shape in SHAPES for word in (shape.name, f"{shape.name}mf")}


def find_shape(name: str) -> Shape | None:
    """Returns the shape of this name, in any case and with or without `MF`; None for no shape."""
    return _BY_NAME.get(name.lower())


def term_gain(shape: str, parameters: Sequence[float]) -> float:
    """Returns the steepest slope of a term times its size: of a triangle [35, 50, 65], 65 / 15.

    It says how much of a relative error of the value its degree can show, whatever the unit.
    """
    found = find_shape(shape)
    return 1.0 if found is None else found.gain(parameters)


def parameter_mistake(shape: Shape, parameters: Sequence[float]) -> str | None:
    """Returns what is wrong with the parameters of a term, or None."""
    names = ", ".join(shape.parameter_names)
    if len(parameters) != len(shape.parameter_names):
        wanted = len(shape.parameter_names)
        return f"{shape.name} takes {wanted} parameters [{names}], not {len(parameters)}"
    if not all(math.isfinite(value) for value in parameters):
        return f"{list(parameters)} holds a number that is not finite"
    mistake = shape.mistake(parameters)
    return None if mistake is None else f"{shape.name} [{names}] = {list(parameters)} {mistake}"
