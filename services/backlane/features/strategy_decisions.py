"""The sections of a strategy file that make decisions: what must hold before a model is trained."""

import math
from collections.abc import Mapping

from backlane.features.mistakes import Mistakes

OUTPUT_FORMATS = ("classification", "regression")
REGRESSION_LOSSES = ("huber", "mse")


def check_decisions(
    decisions: Mapping[str, object], training: Mapping[str, object], mistakes: Mistakes
) -> None:
    """Notes a wrong output format, threshold or cost model, and a loss that cannot go with it."""
    output_format = decisions.get("output_format", "classification")
    if output_format not in OUTPUT_FORMATS:
        known = ", ".join(OUTPUT_FORMATS)
        mistakes.add("decisions.output_format", f"{output_format!r} is unknown: use {known}")
    if output_format == "regression":
        _check_regression(decisions, training, mistakes)
    elif "confidence_threshold" in decisions:
        threshold = decisions["confidence_threshold"]
        if not _is_number(threshold) or not 0 <= threshold <= 1:  # type: ignore[operator]
            message = f"{threshold!r} cannot be used: write a number from 0 to 1"
            mistakes.add("decisions.confidence_threshold", message)


def _check_regression(
    decisions: Mapping[str, object], training: Mapping[str, object], mistakes: Mistakes
) -> None:
    if "confidence_threshold" in decisions:
        mistakes.warn("decisions.confidence_threshold", "means nothing for a regression model")
    if decisions.get("cost_model") is None:
        message = "is missing: give round_trip_cost and min_edge_multiplier"
        mistakes.add("decisions.cost_model", message)
    else:
        costs = mistakes.mapping(decisions["cost_model"], "decisions.cost_model")
        for name, example in (("round_trip_cost", 0.003), ("min_edge_multiplier", 1.5)):
            value = costs.get(name)
            if not _is_number(value) or not value > 0:  # type: ignore[operator]
                message = f"{value!r} cannot be used: write a number above 0, as in {example}"
                mistakes.add(f"decisions.cost_model.{name}", message)
    loss = training.get("loss")
    if loss is not None and loss not in REGRESSION_LOSSES:
        message = f"{loss!r} is no regression loss: use {', '.join(REGRESSION_LOSSES)}"
        mistakes.add("training.loss", message)
    labels = training.get("labels")
    if isinstance(labels, Mapping) and labels.get("source") == "forward_return":
        horizon = labels.get("horizon")
        if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
            message = f"{horizon!r} cannot be used: write a whole number of bars, 1 or more"
            mistakes.add("training.labels.horizon", message)


def _is_number(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)  # type: ignore[arg-type]
