"""Spacing of trades and cooldowns of symbols, and who must wait for them (SPEC A7, 4b')."""

from dataclasses import replace
from enum import StrEnum

from backlane.risk.codes import RiskCode
from backlane.risk.facts import MINUTE_NS, TradeTimes
from backlane.risk.halts import SECOND_NS
from backlane.risk.limits import RiskLimits
from backlane.risk.proposal import canonical_symbol


class TradeEnd(StrEnum):
    """How a trade ended, which decides how long its symbol rests."""

    WIN = "win"
    LOSS = "loss"
    STOP_LOSS = "stop_loss"
    OTHER = "other"


def after_trade(times: TradeTimes, symbol: str, at_ns: int) -> TradeTimes:
    """Returns the record with a trade of a symbol added."""
    by_symbol = {**times.last_trade_ns_by_symbol, canonical_symbol(symbol): at_ns}
    return replace(times, last_trade_ns=at_ns, last_trade_ns_by_symbol=by_symbol)


def after_close(
    times: TradeTimes, symbol: str, end: TradeEnd, at_ns: int, limits: RiskLimits
) -> TradeTimes:
    """Returns the record with a symbol resting after its trade was closed.

    It rests the minutes of its end; an end that is none of them rests as after a win.
    """
    until_ns = at_ns + rest_ns(end, limits)
    by_symbol = {**times.cooldown_until_ns_by_symbol, canonical_symbol(symbol): until_ns}
    return replace(times, cooldown_until_ns_by_symbol=by_symbol)


def rest_ns(end: TradeEnd, limits: RiskLimits) -> int:
    """Returns how long a symbol rests after a trade that ended so, nanoseconds."""
    minutes = {
        TradeEnd.LOSS: limits.cooldown_loss_minutes,
        TradeEnd.STOP_LOSS: limits.cooldown_stop_minutes,
    }.get(end, limits.cooldown_win_minutes)
    return round(minutes * MINUTE_NS)


def symbol_wait(symbol: str, times: TradeTimes, limits: RiskLimits, now_ns: int) -> RiskCode | None:
    """Returns why a symbol must wait: its cooldown first, then the spacing of its trades."""
    name = canonical_symbol(symbol)
    until_ns = times.cooldown_until_ns_by_symbol.get(name)
    if limits.has_symbol_cooldown and until_ns is not None and now_ns < until_ns:
        return RiskCode.PER_SYMBOL_COOLDOWN
    last_ns = times.last_trade_ns_by_symbol.get(name)
    if last_ns is not None and now_ns - last_ns < limits.symbol_spacing_s * SECOND_NS:
        return RiskCode.PER_SYMBOL_SPACING
    return None
