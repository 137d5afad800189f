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
    """

    name: str
    parameter_names: tuple[str, ...]
    mistake: Callable[[Sequence[float]], str | None]


def _disorder(parameters: Sequence[float]) -> str | None:
    ordered = all(low <= high for low, high in pairwise(parameters))
    return None if ordered else "must not fall from one to the next"


def _no_width(parameters: Sequence[float]) -> str | None:
    return None if parameters[1] > 0 else "needs a width above 0"


SHAPES: tuple[Shape, ...] = (
    Shape("triangular", ("a", "b", "c"), _disorder),
    Shape("trapezoidal", ("a", "b", "c", "d"), _disorder),
    Shape("gaussian", ("center", "width"), _no_width),
)

_BY_NAME = {word: shape for shape in SHAPES for word in (shape.name, f"{shape.name}mf")}


def find_shape(name: str) -> Shape | None:
    """Returns the shape of this name, in any case and with or without `MF`; None for no shape."""
    return _BY_NAME.get(name.lower())


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
