"""References to outputs of indicators: `id` and `id.output`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backlane.indicators.indicator import IndicatorType


@dataclass(frozen=True, slots=True)
class OutputReference:
    """One output of one indicator of a strategy."""

    indicator_id: str
    output_index: int


def resolve_output(reference: str, types: Mapping[str, IndicatorType[Any]]) -> OutputReference:
    """Finds what `reference` means among the indicators `types`, by id.

    Raises ValueError, with a text for users, when there is no such indicator or output.
    """
    if reference in types:
        return OutputReference(reference, 0)
    indicator_id, _, output = reference.rpartition(".")
    kind = types.get(indicator_id)
    if kind is None:
        raise ValueError(f"{reference!r} is no indicator: use {_listed(types)}")
    if not kind.outputs:
        raise ValueError(
            f"{kind.name} has a single output: write {indicator_id!r} in place of {reference!r}"
        )
    index = kind.output_index(output)
    if index is None:
        outputs = ", ".join(f"{indicator_id}.{name}" for name in kind.outputs)
        raise ValueError(f"{kind.name} has no output {output!r}: use {outputs}")
    return OutputReference(indicator_id, index)


def looks_ahead_mistake(kind: IndicatorType[Any]) -> str:
    """Returns why an indicator cannot be an input."""
    return (
        f"reads {kind.name}, whose values change when later bars come: in a live market they are "
        "not there yet. Use it for labels alone, or the rules of ktrdr, which let it pass"
    )


def _listed(types: Mapping[str, object]) -> str:
    return ", ".join(sorted(types)) or "an id under indicators (there is none)"
