"""Switches on the wire: enum values and yes-or-no fields, absent where the profile decides."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from backlane.api.backtest.v1 import backtest_pb2 as pb
from backlane.backtest.switches import (
    EndDate,
    Excursions,
    FillTime,
    HoldingTime,
    NanFeatures,
    TradeCommission,
)
from backlane.errors import FieldViolation
from backlane.features.rules import Alignment
from backlane.metrics.rules import (
    Annualization,
    MaxDrawdownMoney,
    SortinoDeviation,
    UndefinedMetrics,
)

_S = pb.Switches
ENUM_NUMBERS: Mapping[str, Mapping[Enum, int]] = {
    "fill": {
        FillTime.NEXT_OPEN: _S.FILL_TIME_NEXT_OPEN,
        FillTime.THIS_CLOSE: _S.FILL_TIME_THIS_CLOSE,
    },
    "alignment": {
        Alignment.KNOWN_AT_CLOSE: _S.ALIGNMENT_KNOWN_AT_CLOSE,
        Alignment.STAMP_FORWARD_FILL: _S.ALIGNMENT_STAMP_FORWARD_FILL,
        Alignment.EXACT_STAMP: _S.ALIGNMENT_EXACT_STAMP,
    },
    "nan_features": {
        NanFeatures.HOLD: _S.NAN_FEATURES_HOLD,
        NanFeatures.ABORT: _S.NAN_FEATURES_ABORT,
    },
    "trade_commission": {
        TradeCommission.BOTH_LEGS: _S.TRADE_COMMISSION_BOTH_LEGS,
        TradeCommission.EXIT_LEG: _S.TRADE_COMMISSION_EXIT_LEG,
    },
    "holding_time": {
        HoldingTime.EXIT: _S.HOLDING_TIME_EXIT,
        HoldingTime.LAST_MARK: _S.HOLDING_TIME_LAST_MARK,
    },
    "annualization": {
        Annualization.BAR_CALENDAR: _S.ANNUALIZATION_BAR_CALENDAR,
        Annualization.BARS_252: _S.ANNUALIZATION_252_BARS,
    },
    "max_drawdown_money": {
        MaxDrawdownMoney.AT_TROUGH: _S.MAX_DRAWDOWN_MONEY_AT_TROUGH,
        MaxDrawdownMoney.FINAL_PEAK: _S.MAX_DRAWDOWN_MONEY_FINAL_PEAK,
    },
    "sortino_deviation": {
        SortinoDeviation.DOWNSIDE: _S.SORTINO_DEVIATION_DOWNSIDE,
        SortinoDeviation.STD_OF_NEGATIVES: _S.SORTINO_DEVIATION_STD_OF_NEGATIVES,
    },
    "excursions": {
        Excursions.EXTREMES: _S.EXCURSIONS_EXTREMES,
        Excursions.CLOSES: _S.EXCURSIONS_CLOSES,
    },
    "end_date": {
        EndDate.WHOLE_DAY: _S.END_DATE_WHOLE_DAY,
        EndDate.MIDNIGHT: _S.END_DATE_MIDNIGHT,
    },
    "undefined_metrics": {
        UndefinedMetrics.ABSENT: _S.UNDEFINED_METRICS_ABSENT,
        UndefinedMetrics.FILLERS: _S.UNDEFINED_METRICS_FILLERS,
    },
}
"""The number of each value of each switch that is an enum; the names are those of the fields."""


def switches_to_proto(switches: Mapping[str, Any]) -> pb.Switches:
    """Returns the message for single switches, given by plain values ("next_open") or enums."""
    message = pb.Switches()
    for name, value in switches.items():
        numbers = ENUM_NUMBERS.get(name)
        setattr(message, name, value if numbers is None else _number(numbers, value))
    return message


def _number(numbers: Mapping[Enum, int], value: object) -> int:
    plain = value.value if isinstance(value, Enum) else value
    return next(number for item, number in numbers.items() if item.value == plain)


def switches_from_proto(message: pb.Switches, violations: list[FieldViolation]) -> dict[str, Any]:
    """Returns the switches that are set, as plain values; adds a violation for each unknown one."""
    switches: dict[str, Any] = {}
    for field, value in message.ListFields():
        numbers = ENUM_NUMBERS.get(field.name)
        if numbers is None:
            switches[field.name] = value
            continue
        names = {number: item.value for item, number in numbers.items()}
        if value in names:
            switches[field.name] = names[value]
        else:
            known = ", ".join(f"{number} ({name})" for number, name in names.items())
            description = f"{value} is no value of it: use {known}, or leave it out"
            violations.append(FieldViolation(f"spec.switches.{field.name}", description))
    return switches
