"""The two sides of a regression gate, out of the result.json of any kind of run."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backlane.backtest.digest import digest_config
from backlane.errors import FieldViolation, InvalidRequestError, ResultNotFoundError
from backlane.metrics.regression_gate import GateInput

GATE_JSON_BYTES_MAX = 256 * 1024 * 1024
"""Size of a result.json; with the list of all trades in it, a long run has some MiB."""
SINGLE, PORTFOLIO = "single", "portfolio"
_KINDS = {"backlane.result.": SINGLE, "backlane.portfolio_result.": PORTFOLIO}


@dataclass(frozen=True, slots=True)
class GateResult:
    """One result as the gate reads it: where it is from, its kind, and what is compared.

    `model_digest` is that of the bundle that ran, empty for a portfolio.
    """

    path: Path
    kind: str
    values: GateInput
    model_digest: str


def read_gate_result(path: Path, *, field: str) -> GateResult:
    """Returns one side, from a result directory or its result.json.

    Raises ResultNotFoundError where there is none, and InvalidRequestError, naming `field`, for a
    file that is damaged, or is no result.
    """
    file = path / "result.json" if path.is_dir() else path
    if not file.is_file():
        raise ResultNotFoundError(
            f"There is no {file}: give a result directory, or its result.json.",
            metadata={"file": str(file)},
        )
    try:
        content = _read(file)
        kind = _kind(content)
        values = _portfolio(content) if kind == PORTFOLIO else _single(content)
        model = content.get("model", {}).get("digest", "") if kind == SINGLE else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        message = f"{file} cannot be compared: {why}."
        raise InvalidRequestError(
            message, metadata={"file": str(file)}, violations=(FieldViolation(field, message),)
        ) from error
    return GateResult(file, kind, values, str(model))


def _read(file: Path) -> dict[str, Any]:
    if file.stat().st_size > GATE_JSON_BYTES_MAX:
        raise ValueError(f"it has more than {GATE_JSON_BYTES_MAX:,} bytes (GATE_JSON_BYTES_MAX)")
    content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    if not isinstance(content, dict):
        raise ValueError("it holds no object")  # noqa: TRY004 - one kind of error, one answer
    return content


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON: nothing can be compared with it")


def _kind(content: Mapping[str, Any]) -> str:
    name = content["format"]
    for prefix, kind in _KINDS.items():
        if str(name).startswith(prefix):
            return kind
    raise ValueError(f"its format is {str(name)[:80]!r}, that of no result")


def _single(content: Mapping[str, Any]) -> GateInput:
    metrics = _metrics(content["metrics"])
    return GateInput(
        metrics,
        _count(content["metrics"]["total_trades"]),
        digest_config(dict(content["datasets"])),
        str(content["config_digest"]),
    )


def _portfolio(content: Mapping[str, Any]) -> GateInput:
    """Where the files lie is no part of the configuration: what is in them is under `inputs`."""
    config = {name: value for name, value in content["config"].items() if name != "data"}
    count = _count(content["counts"]["trades"])
    metrics = _metrics({**content["metrics"], **content.get("regression_keys", {})})
    return GateInput(
        {**metrics, "total_trades": float(count)},
        count,
        digest_config(dict(content["inputs"])),
        digest_config(config),
    )


def _metrics(content: Mapping[str, Any]) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for name, value in content.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"its metric {name[:80]} is {str(value)[:80]!r}, no number")
        metrics[name] = None if value is None else float(value)
        if value is not None and not math.isfinite(value):
            raise ValueError(f"its metric {name[:80]} is beyond all numbers")
    return metrics


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
        raise ValueError(f"its count of trades is {str(value)[:80]!r}")
    return int(value)
