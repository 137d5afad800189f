"""The fills around one bar, read from the trades: each trade is an entry and an exit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from backlane.audit.recorded import BARS, TRADES, RecordedResult
from backlane.audit.stamp import iso_time
from backlane.audit.story import FillStory, HeldPosition, OrderStory
from backlane.execution.fill_price import fill_price
from backlane.execution.order import ExitReason
from backlane.portfolio.account import unrealized_pnl
from backlane.portfolio.position import PositionSide

_END_OF_DATA = ExitReason.END_OF_DATA.name
_TAKE_PROFIT = ExitReason.TAKE_PROFIT.name
_ORDERED = (ExitReason.DECISION.name, ExitReason.TIME_EXIT.name)
"""Exits that were ordered at the close of a bar; all others but the last happen within one."""
_SAME_PRICE = 1e-12
_SAME_MONEY = 1e-9


@dataclass(frozen=True, slots=True)
class TradeLine:
    """One line of trades.csv."""

    entry_ns: int
    exit_ns: int
    side: str
    quantity: float
    entry_price: float
    exit_price: float
    commission: float
    exit_reason: str


def read_trades(result: RecordedResult) -> tuple[TradeLine, ...]:
    """Returns the trades in order of their exit."""
    table = result.tables[TRADES]
    columns = [table[name] for name in ("entry_time", "exit_time", "side", "quantity")]
    columns += [table[name] for name in ("entry_price", "exit_price", "commission", "exit_reason")]
    return tuple(
        TradeLine(
            int(entry), int(leave), str(side), float(quantity), float(entry_price),
            float(exit_price), float(commission), str(reason),
        )
        for entry, leave, side, quantity, entry_price, exit_price, commission, reason in zip(
            *columns, strict=True
        )
    )  # fmt: skip


def held_position(
    trades: tuple[TradeLine, ...], config: Mapping[str, Any], time_ns: int, close: float | None
) -> HeldPosition:
    """Returns the position when the decision at the bar's close was made."""
    for trade in trades:
        if _was_entered(trade, config, time_ns) and not _was_left(trade, config, time_ns):
            pnl = None
            if close is not None:
                side = int(PositionSide[trade.side])
                pnl = unrealized_pnl(side, trade.quantity, trade.entry_price, close)
            return HeldPosition(trade.side, trade.quantity, trade.entry_price, trade.entry_ns, pnl)
    return HeldPosition(PositionSide.FLAT.name)


def open_entry_price(trades: tuple[TradeLine, ...], time_ns: int) -> float | None:
    """Returns the entry price of the position that was open after the bar's close."""
    for trade in trades:
        is_closed_later = trade.exit_ns > time_ns or trade.exit_reason == _END_OF_DATA
        if trade.entry_ns <= time_ns and is_closed_later:
            return trade.entry_price
    return None


def last_fill_ns(
    trades: tuple[TradeLine, ...], config: Mapping[str, Any], time_ns: int
) -> int | None:
    """Returns when the last fill before the decision at the bar's close was; None for none."""
    times = [trade.entry_ns for trade in trades if _was_entered(trade, config, time_ns)]
    times += [trade.exit_ns for trade in trades if _was_left(trade, config, time_ns)]
    return max(times, default=None)


def fills_at(
    trades: tuple[TradeLine, ...], result: RecordedResult, time_ns: int
) -> tuple[FillStory, ...]:
    """Returns the fills on a bar, in the order in which they happened."""
    found = []
    for trade in trades:
        if trade.entry_ns == time_ns:
            found.append(_fill(trade, result, is_entry=True))
        if trade.exit_ns == time_ns:
            found.append(_fill(trade, result, is_entry=False))
    return tuple(found)


def order_story(
    trades: tuple[TradeLine, ...],
    result: RecordedResult,
    *,
    decision: str,
    held: HeldPosition,
    time_ns: int,
    next_ns: int | None,
) -> OrderStory | None:
    """Returns the order made at the bar's close; None when there was none."""
    config = result.document["config"]
    fill_ns = time_ns if _fills_at_close(config) else next_ns
    fill = None if fill_ns is None else _ordered_fill(trades, result, held, fill_ns)
    if decision == "HOLD":
        # Only the end of the longest holding time orders without a decision.
        if fill is None or fill.reason != ExitReason.TIME_EXIT.name:
            return None
        return OrderStory(fill.side, f"close the {held.side}", _filled(fill), fill)
    if held.side == PositionSide.FLAT.name:
        purpose = f"open a {'LONG' if decision == 'BUY' else 'SHORT'}"
    elif (decision == "BUY") == (held.side == PositionSide.SHORT.name):
        purpose = f"close the {held.side}"
    else:
        purpose = f"add to the {held.side}"
        return OrderStory(decision, purpose, "denied: the position is open already")
    if fill is not None:
        return OrderStory(decision, purpose, _filled(fill), fill)
    if fill_ns is None:
        return OrderStory(decision, purpose, "expired: there is no bar after it to fill at")
    if decision == "SELL" and not config["switches"]["shorts"]:
        return OrderStory(decision, purpose, "denied: the profile knows no short positions")
    return OrderStory(decision, purpose, "denied: the cash does not pay for the quantity")


def _filled(fill: FillStory) -> str:
    return f"filled at {iso_time(fill.time_ns)}"


def _ordered_fill(
    trades: tuple[TradeLine, ...], result: RecordedResult, held: HeldPosition, fill_ns: int
) -> FillStory | None:
    for trade in trades:
        if held.side == PositionSide.FLAT.name:
            if trade.entry_ns == fill_ns:
                return _fill(trade, result, is_entry=True)
        elif trade.exit_ns == fill_ns and trade.exit_reason in _ORDERED:
            return _fill(trade, result, is_entry=False)
    return None


def _fills_at_close(config: Mapping[str, Any]) -> bool:
    return str(config["switches"]["fill"]) == "this_close"


def _was_entered(trade: TradeLine, config: Mapping[str, Any], time_ns: int) -> bool:
    """Whether the entry came before the decision at the close of the bar."""
    if _fills_at_close(config):
        return trade.entry_ns < time_ns
    return trade.entry_ns <= time_ns


def _was_left(trade: TradeLine, config: Mapping[str, Any], time_ns: int) -> bool:
    """Whether the exit came before the decision at the close of the bar."""
    if trade.exit_reason == _END_OF_DATA:
        return False
    if _fills_at_close(config) and trade.exit_reason in _ORDERED:
        return trade.exit_ns < time_ns
    return trade.exit_ns <= time_ns


def _fill(trade: TradeLine, result: RecordedResult, *, is_entry: bool) -> FillStory:
    config = result.document["config"]
    is_buy = is_entry == (trade.side == PositionSide.LONG.name)
    time_ns = trade.entry_ns if is_entry else trade.exit_ns
    price = trade.entry_price if is_entry else trade.exit_price
    reason = "DECISION" if is_entry else trade.exit_reason
    reference, arithmetic = _price_arithmetic(result, time_ns, price, reason, is_buy=is_buy)
    return FillStory(
        time_ns=time_ns,
        side="BUY" if is_buy else "SELL",
        action=f"{'open' if is_entry else 'close'} {trade.side}",
        reason=reason,
        quantity=trade.quantity,
        price=price,
        reference_price=reference,
        price_arithmetic=arithmetic,
        commission_arithmetic=_commission_arithmetic(config, trade, price, is_entry=is_entry),
    )


def _price_arithmetic(
    result: RecordedResult, time_ns: int, price: float, reason: str, *, is_buy: bool
) -> tuple[float | None, str]:
    """Returns the price before costs, and how the price follows from it."""
    config = result.document["config"]
    slippage = float(config["slippage_rate"])
    spread = float(config.get("costs", {}).get("spread_rate", 0.0))
    if reason == _TAKE_PROFIT:
        return price, f"{price!r}: a limit order fills at its price"
    sign = "+" if is_buy else "-"
    rates = f"{slippage:g}" + (f" {sign} {spread:g} / 2" if spread else "")
    for name, reference in _references(result, time_ns):
        expected = fill_price(reference, is_buy, slippage, spread)
        if math.isclose(expected, price, rel_tol=_SAME_PRICE):
            return reference, f"{name} {reference!r} x (1 {sign} {rates}) = {price!r}"
    factor = fill_price(1.0, is_buy, slippage, spread)
    return None, f"within the bar, level {price / factor:.10g} x (1 {sign} {rates}) = {price!r}"


def _references(result: RecordedResult, time_ns: int) -> list[tuple[str, float]]:
    """Returns the prices of a bar at which orders fill: open, then close."""
    bars = result.tables.get(BARS)
    if bars is None:
        return []
    row = int(np.searchsorted(bars["time"], time_ns))
    if row == len(bars["time"]) or bars["time"][row] != time_ns:
        return []
    return [(name, float(bars[name][row])) for name in ("open", "close")]


def _commission_arithmetic(
    config: Mapping[str, Any], trade: TradeLine, price: float, *, is_entry: bool
) -> str:
    """Returns the commission of the fill, checked against that of the trade."""
    rate = float(config["commission_rate"])
    least = float(config.get("costs", {}).get("minimum_commission", 0.0))
    legs = [
        max(each * trade.quantity * rate, least) for each in (trade.entry_price, trade.exit_price)
    ]
    carried = legs[1] if config["switches"]["trade_commission"] == "exit_leg" else sum(legs)
    if not math.isclose(carried, trade.commission, rel_tol=_SAME_MONEY, abs_tol=_SAME_MONEY):
        return f"part of the trade's {trade.commission!r}"
    commission = legs[0] if is_entry else legs[1]
    if commission == least and price * trade.quantity * rate < least:
        return f"the least, {least:g}"
    return f"{price!r} x {trade.quantity:.10g} x {rate:g} = {commission!r}"
