"""The limits of the risk engine, with every mistake in them found at once (SPEC A7)."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields

from backlane.errors import FieldViolation, InvalidRequestError
from backlane.signals.price_regime import PriceRegime


def _default_multipliers() -> dict[PriceRegime, float]:
    return {
        PriceRegime.BULL: 1.2,
        PriceRegime.CHOP: 0.8,
        PriceRegime.BEAR: 0.5,
        PriceRegime.CRASH: 0.0,
    }


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Limits of the risk engine. Shares are fractions of equity, notionals and dust are money.

    `*_max` of losses are positive fractions: a day that returned -3 % meets `daily_loss_max` 0.03.
    `external_buffer` is the share of equity in positions of others that is not counted. A `None`
    limit is off.
    """

    daily_loss_max: float = 0.03
    weekly_loss_max: float = 0.07
    drawdown_max: float = 0.10
    total_at_risk_max: float = 0.15
    counts_external_positions: bool = False
    external_buffer: float = 0.0
    position_size_max: float = 0.05
    position_size_min: float = 0.005
    theme_size_max: Mapping[str, float] = field(default_factory=dict)
    regime_multipliers: Mapping[PriceRegime, float] = field(default_factory=_default_multipliers)
    open_positions_max: int = 8
    new_positions_per_cycle_max: int | None = None
    prefers_confidence: bool = True
    allows_adds_when_full: bool = True
    counts_pending_positions: bool = True
    dust_notional: float = 0.0
    trade_notional_min: float = 10.0
    raises_to_minimum: bool = True
    trades_per_day_max: int = 40
    trades_per_hour_max: int = 8
    trade_spacing_s: float = 180.0
    symbol_spacing_s: float = 900.0
    loss_streak_max: int = 3
    loss_cooldown_minutes: float = 60.0
    has_symbol_cooldown: bool = True
    cooldown_win_minutes: float = 10.0
    cooldown_loss_minutes: float = 60.0
    cooldown_stop_minutes: float = 120.0
    allows_pyramiding: bool = False
    pyramid_cooldown_s: float = 600.0
    adds_per_day_max: int = 1
    rate_limit_cooldown_s: float = 60.0
    api_errors_max: int = 3
    api_error_window_s: float = 300.0
    realized_volatility_max: float | None = 1.5
    eligible_min: int = 0

    def __post_init__(self) -> None:
        mistakes = tuple(_mistakes(self)) or tuple(_contradictions(self))
        if mistakes:
            said = "; ".join(f"{mistake.field}: {mistake.description}" for mistake in mistakes)
            raise InvalidRequestError(
                f"{len(mistakes)} limit(s) of risk cannot be used: {said}", violations=mistakes
            )


_RANGES: Mapping[str, tuple[float, float]] = {
    "daily_loss_max": (0.0, 1.0),
    "weekly_loss_max": (0.0, 1.0),
    "drawdown_max": (0.0, 1.0),
    "total_at_risk_max": (0.0, 10.0),
    "external_buffer": (0.0, 1.0),
    "position_size_max": (0.0, 10.0),
    "position_size_min": (0.0, 1.0),
    "dust_notional": (0.0, math.inf),
    "trade_notional_min": (0.0, math.inf),
    "trade_spacing_s": (0.0, 3600.0),
    "symbol_spacing_s": (0.0, 86400.0),
    "loss_cooldown_minutes": (0.0, 1440.0),
    "cooldown_win_minutes": (0.0, 1440.0),
    "cooldown_loss_minutes": (0.0, 1440.0),
    "cooldown_stop_minutes": (0.0, 1440.0),
    "pyramid_cooldown_s": (0.0, 86400.0),
    "rate_limit_cooldown_s": (0.0, 86400.0),
    "api_error_window_s": (0.0, 86400.0),
    "realized_volatility_max": (0.0, math.inf),
}
_COUNTS: Mapping[str, tuple[int, int]] = {
    "open_positions_max": (0, 10_000),
    "new_positions_per_cycle_max": (0, 10_000),
    "trades_per_day_max": (1, 1000),
    "trades_per_hour_max": (1, 100),
    "loss_streak_max": (1, 20),
    "adds_per_day_max": (0, 1000),
    "api_errors_max": (1, 1000),
    "eligible_min": (0, 10_000),
}


def _mistakes(limits: RiskLimits) -> Iterator[FieldViolation]:
    for name in (item.name for item in fields(limits)):
        value = getattr(limits, name)
        if value is None:
            continue
        if name in _COUNTS:
            low, high = _COUNTS[name]
            is_count = isinstance(value, int) and not isinstance(value, bool)
            if not is_count or not low <= value <= high:
                yield FieldViolation(
                    name, f"is {value!r}; give a whole number from {low} to {high}"
                )
        elif name in _RANGES:
            yield from _out_of_range(name, value, *_RANGES[name])
    for theme, share in limits.theme_size_max.items():
        yield from _out_of_range(f"theme_size_max.{theme}", share, 0.0, 10.0)
    for regime, multiplier in limits.regime_multipliers.items():
        yield from _out_of_range(f"regime_multipliers.{regime}", multiplier, 0.0, 10.0)


def _out_of_range(name: str, value: object, low: float, high: float) -> Iterator[FieldViolation]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if (
        not is_number
        or not low <= float(str(value)) <= high
        or not math.isfinite(float(str(value)))
    ):
        yield FieldViolation(name, f"is {value!r}; give a number from {low:g} to {high:g}")


def _contradictions(limits: RiskLimits) -> Iterator[FieldViolation]:
    """Yields pairs that contradict each other; each value alone is in its range."""
    pairs = (
        ("trades_per_day_max", limits.trades_per_day_max, limits.trades_per_hour_max, "hour"),
        ("position_size_max", limits.position_size_max, limits.position_size_min, "minimum"),
    )
    for name, value, least, what in pairs:
        if value < least:
            yield FieldViolation(name, f"is {value!r}, below that of the {what}, {least!r}")
