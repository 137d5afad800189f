"""The closed set of reasons for which risk denies proposals (SPEC A7)."""

from dataclasses import dataclass
from enum import StrEnum


class RiskCode(StrEnum):
    """Why risk denied a proposal, or all of them; the values are those of the reference.

    Three codes of the reference cannot arise here: `position_size_with_pending` and
    `cluster_limit`, as sizes are cut to the caps first (SPEC C1 "caps vs regime"), and
    `position_size_too_large`, which only exits could meet (SPEC C1 "sells").
    """

    RATE_LIMIT_COOLDOWN = "rate_limit_cooldown"
    API_HEALTH = "api_health"
    EXCHANGE_CONNECTIVITY = "exchange_connectivity"
    VOLATILITY_CRASH = "volatility_crash"
    REALIZED_VOLATILITY = "max_realized_volatility"
    TOO_FEW_ELIGIBLE = "min_eligible_assets"
    EXCHANGE_PRODUCT_STATUS = "exchange_product_status"
    HALT = "kill_switch"
    DAILY_STOP_LOSS = "daily_stop_loss"
    WEEKLY_STOP_LOSS = "weekly_stop_loss"
    MAX_DRAWDOWN = "max_drawdown"
    STRATEGY_CAPS = "strategy_caps"
    STRATEGY_CAP = "strategy_cap"
    MAX_TOTAL_AT_RISK = "max_total_at_risk_pct"
    GLOBAL_TRADE_SPACING = "global_trade_spacing"
    TRADE_FREQUENCY_DAILY = "trade_frequency_daily"
    TRADE_FREQUENCY_HOURLY = "trade_frequency_hourly"
    CONSECUTIVE_LOSS_COOLDOWN = "consecutive_loss_cooldown"
    TRADE_LIMITS_TIMING = "trade_limits_timing"
    PER_SYMBOL_COOLDOWN = "per_symbol_cooldown"
    PER_SYMBOL_SPACING = "per_symbol_spacing"
    MAX_OPEN_POSITIONS = "max_open_positions"
    ADDS_BLOCKED = "adds_blocked_when_over_cap"
    EXPOSURE_CAPS = "exposure_caps"
    NO_EQUITY = "no_nav"
    NON_POSITIVE_REQUEST = "non_positive_request"
    NO_CAPACITY = "no_capacity"
    BELOW_MIN_AFTER_CAPS = "below_min_after_caps"
    POSITION_SIZE_TOO_SMALL = "position_size_too_small"
    ALREADY_HELD = "already_have_position"
    PYRAMID_COOLDOWN = "pyramid_cooldown"
    PYRAMID_DAILY_LIMIT = "pyramid_daily_limit"
    PENDING_BUY_EXISTS = "pending_buy_exists"


@dataclass(frozen=True, slots=True)
class Denial:
    """One proposal that was denied; `detail` names the strategy of a strategy cap."""

    symbol: str
    codes: tuple[RiskCode, ...]
    detail: str = ""
