"""The checks that stop every new position at once, in their order (SPEC A7, 0 to 4b)."""

from collections.abc import Iterator

from backlane.risk.codes import RiskCode
from backlane.risk.facts import MINUTE_NS, PortfolioFacts
from backlane.risk.limits import RiskLimits
from backlane.signals.price_regime import PriceRegime

SECOND_NS = 1_000_000_000


def circuit_breaker(
    facts: PortfolioFacts, limits: RiskLimits, regime: PriceRegime, now_ns: int
) -> RiskCode | None:
    """Returns the first breaker that is open: venue first, then the market, the universe."""
    venue = facts.venue
    limited_ns = venue.last_rate_limit_ns
    if limited_ns is not None and now_ns - limited_ns < limits.rate_limit_cooldown_s * SECOND_NS:
        return RiskCode.RATE_LIMIT_COOLDOWN
    if venue.api_error_count >= limits.api_errors_max:
        window_ns = limits.api_error_window_s * SECOND_NS
        if venue.last_success_ns is None or now_ns - venue.last_success_ns <= window_ns:
            return RiskCode.API_HEALTH
    if not venue.is_reachable:
        return RiskCode.EXCHANGE_CONNECTIVITY
    if regime is PriceRegime.CRASH:
        return RiskCode.VOLATILITY_CRASH
    ceiling = limits.realized_volatility_max
    if ceiling is not None and facts.volatility is not None and facts.volatility > ceiling:
        return RiskCode.REALIZED_VOLATILITY
    if facts.eligible_count is not None and facts.eligible_count < limits.eligible_min:
        return RiskCode.TOO_FEW_ELIGIBLE
    return None


def loss_stop(facts: PortfolioFacts, limits: RiskLimits) -> RiskCode | None:
    """Returns the first of halt, daily stop, weekly stop and drawdown that is reached."""
    if facts.is_halted:
        return RiskCode.HALT
    if facts.daily_return <= -limits.daily_loss_max:
        return RiskCode.DAILY_STOP_LOSS
    if facts.weekly_return <= -limits.weekly_loss_max:
        return RiskCode.WEEKLY_STOP_LOSS
    if -facts.drawdown >= limits.drawdown_max:
        return RiskCode.MAX_DRAWDOWN
    return None


def timing_stops(facts: PortfolioFacts, limits: RiskLimits, now_ns: int) -> Iterator[RiskCode]:
    """Yields every limit on the timing of trades that is reached, in the order of the checks."""
    last_ns = facts.times.last_trade_ns
    if last_ns is not None and now_ns - last_ns < limits.trade_spacing_s * SECOND_NS:
        yield RiskCode.GLOBAL_TRADE_SPACING
    if facts.trades_today >= limits.trades_per_day_max:
        yield RiskCode.TRADE_FREQUENCY_DAILY
    if facts.trades_this_hour >= limits.trades_per_hour_max:
        yield RiskCode.TRADE_FREQUENCY_HOURLY
    loss_ns = facts.times.last_loss_ns
    is_streak = facts.consecutive_losses >= limits.loss_streak_max
    cooldown_ns = limits.loss_cooldown_minutes * MINUTE_NS
    if is_streak and loss_ns is not None and now_ns < loss_ns + cooldown_ns:
        yield RiskCode.CONSECUTIVE_LOSS_COOLDOWN
