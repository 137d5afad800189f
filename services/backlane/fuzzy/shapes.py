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
    `is_in_ktrdr` is whether ktrdr has it, too.
    """

    name: str
    parameter_names: tuple[str, ...]
    mistake: Callable[[Sequence[float]], str | None]
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


SHAPES: tuple[Shape, ...] = (
    Shape("triangular", ("a", "b", "c"), _disorder),
    Shape("trapezoidal", ("a", "b", "c", "d"), _disorder),
    Shape("gaussian", ("center", "width"), _no_width),
    Shape("sigmoid", ("center", "slope"), _flat, is_in_ktrdr=False),
    Shape("bell", ("a", "b", "c"), _no_bell, is_in_ktrdr=False),
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
