"""The rules of a regression gate: which metrics are compared, and how far each may get worse.

Written as YAML, all of it optional; docs/gate.md has the defaults as a table:

    trade_count_min: 30
    same_data: true
    same_config: true
    metrics:
      sharpe_ratio: {relative: 0.05}
      max_drawdown: {direction: lower, absolute: 0.01}
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import BeforeValidator, Field

from backlane.cycle.config_record import ConfigRecord, not_valid, parse_record, plain_number
from backlane.errors import FieldViolation
from backlane.metrics.regression_gate import BetterDirection, MetricTolerance

TRADE_COUNT_MIN = 10
"""Trades of a baseline, at least: fewer prove nothing, and none proves that nothing ran."""
GATE_METRICS_MAX = 200
"""Metrics that one set of rules may name."""
_RELATIVE = 0.02
_POINT = 0.001  # a tenth of a percent, for fractions that may be near 0

DIRECTIONS: Mapping[str, BetterDirection] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                *("total_return", "total_return_pct", "final_equity", "annualized_return"),
                *("sharpe_ratio", "sortino_ratio", "calmar_ratio", "recovery_factor"),
                *("win_rate", "profit_factor", "expectancy", "avg_win", "avg_loss", "largest_loss"),
                *("value_at_risk_95", "mean_return", "winning_trades"),
            ),
            BetterDirection.HIGHER,
        ),
        **dict.fromkeys(
            (
                *("max_drawdown", "max_drawdown_pct", "max_drawdown_money", "current_drawdown"),
                *("volatility", "longest_drawdown_days", "losing_trades", "total_costs"),
                *("total_commission", "total_slippage", "turnover"),
            ),
            BetterDirection.LOWER,
        ),
        **dict.fromkeys(("total_trades", "exposure_time"), BetterDirection.NONE),
    }
)
"""Which way a metric improves, where the rules do not say it; losses are negative numbers."""

DEFAULT_TOLERANCES: tuple[MetricTolerance, ...] = (
    MetricTolerance("total_trades", BetterDirection.NONE, relative=_RELATIVE),
    MetricTolerance("win_rate", BetterDirection.HIGHER, absolute=_POINT, relative=_RELATIVE),
    MetricTolerance("profit_factor", BetterDirection.HIGHER, relative=_RELATIVE),
    MetricTolerance("sharpe_ratio", BetterDirection.HIGHER, absolute=0.01, relative=_RELATIVE),
)
"""Of every kind of result: those of DEFAULTS_BY_KIND are compared as well."""
DEFAULTS_BY_KIND: Mapping[str, tuple[MetricTolerance, ...]] = MappingProxyType(
    {
        # The same word is money in the one and a fraction in the other.
        kind: tuple(
            MetricTolerance(name, DIRECTIONS[name], absolute=_POINT, relative=_RELATIVE)
            for name in names
        )
        for kind, names in {
            "single": ("total_return_pct", "max_drawdown_pct"),
            "portfolio": ("total_return", "max_drawdown"),
        }.items()
    }
)
"""What is compared besides, of a run over one instrument and of one over many."""

_Tolerance = Annotated[float, BeforeValidator(plain_number), Field(ge=0)]


class MetricRule(ConfigRecord):
    """How far one metric may get worse: absolute + relative x |baseline|; 0 is not at all."""

    direction: BetterDirection | None = None
    absolute: _Tolerance = 0.0
    relative: _Tolerance = 0.0


class GateRules(ConfigRecord):
    """All rules; where `metrics` is given, these alone are compared."""

    trade_count_min: Annotated[int, Field(ge=1, strict=True)] = TRADE_COUNT_MIN
    same_data: Annotated[bool, Field(strict=True)] = True
    same_config: Annotated[bool, Field(strict=True)] = True
    metrics: Annotated[
        dict[str, MetricRule] | None, Field(min_length=1, max_length=GATE_METRICS_MAX)
    ] = None

    def tolerances(self, kind: str) -> tuple[MetricTolerance, ...]:
        """Returns what is compared of results of a kind, `single` or `portfolio`."""
        if self.metrics is None:
            return (*DEFAULT_TOLERANCES, *DEFAULTS_BY_KIND[kind])
        return tuple(
            MetricTolerance(name, rule.direction or DIRECTIONS[name], rule.absolute, rule.relative)
            for name, rule in self.metrics.items()
        )


def parse_gate_rules(content: object) -> GateRules:
    """Builds the rules from plain data.

    Raises InvalidRequestError with one violation for each mistake; a metric whose direction is not
    known must say it.
    """
    rules = parse_record(GateRules, content)
    unknown = tuple(
        FieldViolation(
            f"metrics.{name[:80]}.direction",
            "is missing: write higher, lower, or none where any change counts",
        )
        for name, rule in (rules.metrics or {}).items()
        if rule.direction is None and name not in DIRECTIONS
    )
    if unknown:
        raise not_valid(unknown)
    return rules
