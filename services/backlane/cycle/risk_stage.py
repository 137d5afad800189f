"""The stage of risk: what the limits of a run leave of the drafts of a cycle (SPEC A7, B5)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.context import Context
from backlane.cycle.cycle_result import CycleUniverse, Drafts, Refusal, RefusalCode, RiskVerdict
from backlane.cycle.risk_config import RiskPlan
from backlane.cycle.run_cycle import reducing_part
from backlane.execution.target_orders import MIN_ORDER_QUANTITY, OrderSide
from backlane.risk.codes import RiskCode
from backlane.risk.engine import RiskAssessment, assess
from backlane.risk.facts import PortfolioFacts, portfolio_facts
from backlane.risk.pretrade import (
    PretradeBook,
    PretradeCode,
    PretradeLimits,
    PretradeOrder,
    PretradeResult,
    check_orders,
)
from backlane.risk.volatility import realized_volatility
from backlane.signals.price_regime import LOOKBACK_BARS, PriceRegime, price_regime

Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LimitedRisk:
    """Asks the limits of a plan, in this order: data quality, halt, stops or trades, orders.

    The verdict on the data and the halt refuse everything; every other limit lets pass what reduces
    a position. An order that turns a position around is two: what closes it passes, what opens the
    other side is judged.
    """

    plan: RiskPlan

    def __call__(self, context: Context, universe: CycleUniverse, drafts: Drafts) -> RiskVerdict:
        """Returns what is left of the drafts."""
        if context.around.quality.is_blocked:
            return _nothing(context, drafts, PretradeCode.QUALITY_BLOCK)
        if self.plan.is_halted or context.around.is_halted:
            return _nothing(context, drafts, RiskCode.HALT)
        if drafts.trades:
            verdict = self._trades(context, universe, drafts)
        else:
            verdict = self._targets(context, drafts)
        if self.plan.orders == PretradeLimits():
            return verdict
        return _checked(context, self.plan, drafts, verdict)

    def _targets(self, context: Context, drafts: Drafts) -> RiskVerdict:
        stop = target_stop(context, self.plan)
        if stop is None:
            return RiskVerdict(drafts.quantity)
        reducing = reducing_part(context.book.quantity, drafts.quantity)
        refused = np.flatnonzero(drafts.quantity != reducing)
        refusals = tuple(Refusal(context.symbols[each], (stop,)) for each in refused)
        return RiskVerdict(reducing, refusals, stop=stop)

    def _trades(self, context: Context, universe: CycleUniverse, drafts: Drafts) -> RiskVerdict:
        reading = leader_regime(context, self.plan.leader)
        facts = facts_of(context, universe, self.plan)
        found = assess(drafts.trades, facts, self.plan.trades, reading, context.as_of_ns)
        columns = {symbol: column for column, symbol in enumerate(context.symbols)}
        quantity = np.zeros(len(columns))
        for each in found.approved:
            column = columns[each.proposal.symbol]
            drafted = float(drafts.quantity[column])
            is_changed = each.is_cut or each.is_raised
            if each.notional is not None and is_changed:
                allowed = each.notional / float(drafts.price[column])
                # Lots may have left less of the draft than the caps leave of the proposal.
                drafted = allowed if each.is_raised else min(drafted, allowed)
            quantity[column] = drafted
        return RiskVerdict(quantity, _denials(found), allocations=found.approved, stop=found.halt)


def _denials(found: RiskAssessment) -> tuple[Refusal, ...]:
    return tuple(Refusal(each.symbol, each.codes, each.detail) for each in found.denials)


def _nothing(context: Context, drafts: Drafts, code: RefusalCode) -> RiskVerdict:
    drafted = np.flatnonzero(drafts.quantity)
    refusals = tuple(Refusal(context.symbols[each], (code,)) for each in drafted)
    return RiskVerdict(np.zeros(len(context.symbols)), refusals, stop=code)


def target_stop(context: Context, plan: RiskPlan) -> RiskCode | None:
    """Returns the first stop that lets targets be reduced only: losses, drawdown, volatility."""
    book, stops = context.book, plan.stops
    if stops.daily_loss_max is not None and book.daily_return <= -stops.daily_loss_max:
        return RiskCode.DAILY_STOP_LOSS
    if stops.weekly_loss_max is not None and book.weekly_return <= -stops.weekly_loss_max:
        return RiskCode.WEEKLY_STOP_LOSS
    if stops.drawdown_max is not None and -book.drawdown >= stops.drawdown_max:
        return RiskCode.MAX_DRAWDOWN
    if stops.realized_volatility_max is not None:
        volatility = market_volatility(context, plan.leader)
        if volatility is not None and volatility > stops.realized_volatility_max:
            return RiskCode.REALIZED_VOLATILITY
    return None


def leader_closes(context: Context, leader: str | None) -> tuple[Row, NDArray[np.int64]]:
    """Returns the last 169 closes known of the leading instrument and their times, oldest first."""
    if leader is None or leader not in context.symbols:
        return np.empty(0), np.empty(0, np.int64)
    close = context.panel.close[:, context.symbols.index(leader)]
    rows = np.flatnonzero(np.isfinite(close))[-LOOKBACK_BARS - 1 :]
    return close[rows], context.panel.known_ns[rows]


def leader_regime(context: Context, leader: str | None) -> PriceRegime:
    """Returns the regime of the market by its leading instrument; chop where nothing is known."""
    return price_regime(leader_closes(context, leader)[0]).regime


def market_volatility(context: Context, leader: str | None) -> float | None:
    """Returns the yearly volatility of the market, a fraction; None where it is not known.

    That of the surroundings if they tell it, else of the last 168 returns of the leader.
    """
    if context.around.volatility is not None:
        return context.around.volatility
    close, time_ns = leader_closes(context, leader)
    if len(close) <= LOOKBACK_BARS:
        return None
    return float(realized_volatility(close, time_ns, LOOKBACK_BARS)[-1])


def facts_of(context: Context, universe: CycleUniverse, plan: RiskPlan) -> PortfolioFacts:
    """Returns what risk must know, out of the ledger's facts; values are those at the last close.

    A short position counts with its absolute value.
    """
    book = context.book
    held = np.flatnonzero(book.quantity)
    bought = np.flatnonzero(book.pending_quantity > 0.0)
    positions = _values(context, held, np.abs(book.quantity))
    return portfolio_facts(
        book.equity,
        positions=positions,
        pending_buys=_values(context, bought, book.pending_quantity),
        managed=[symbol for symbol in positions if symbol not in book.external],
        themes=plan.themes,
        times=book.times,
        venue=context.around.venue,
        daily_return=book.daily_return,
        weekly_return=book.weekly_return,
        drawdown=book.drawdown,
        trades_today=book.trades_today,
        trades_this_hour=book.trades_this_hour,
        consecutive_losses=book.consecutive_losses,
        is_halted=plan.is_halted or context.around.is_halted,
        volatility=market_volatility(context, plan.leader),
        eligible_count=int(universe.is_member.sum()),
    )


def _values(context: Context, columns: NDArray[np.intp], units: Row) -> Mapping[str, float]:
    close = context.book.last_close
    return {context.symbols[each]: float(units[each] * close[each]) for each in columns}


def _checked(context: Context, plan: RiskPlan, drafts: Drafts, verdict: RiskVerdict) -> RiskVerdict:
    """Puts what is left through the checks on orders; legs that close pass them by themselves."""
    book = context.book
    reducing = reducing_part(book.quantity, verdict.quantity)
    priced = np.isfinite(drafts.price)
    legs: list[PretradeOrder] = []
    for column in np.flatnonzero((verdict.quantity != 0.0) & priced):
        symbol, price = context.symbols[column], float(drafts.price[column])
        rest = float(verdict.quantity[column] - reducing[column])
        is_turned = reducing[column] != 0.0 and rest != 0.0
        for units, from_flat in ((float(reducing[column]), False), (rest, is_turned)):
            if units != 0.0:
                side = OrderSide.BUY if units > 0.0 else OrderSide.SELL
                legs.append(PretradeOrder(symbol, side, abs(units), price, from_flat))
    result = check_orders(legs, _pretrade_book(context, plan), plan.orders)
    quantity = np.where(priced, 0.0, reducing)
    columns = {symbol: place for place, symbol in enumerate(context.symbols)}
    for leg in result.orders:
        quantity[columns[leg.symbol]] += leg.signed_quantity
    cut_symbols = {each.symbol for each in result.cuts}
    cut = np.array([symbol in cut_symbols for symbol in context.symbols])
    # The two legs of what was not cut may sum to other bits than the order had.
    quantity = np.where(cut | ~priced, quantity, verdict.quantity)
    quantity[np.abs(quantity) <= MIN_ORDER_QUANTITY] = 0.0
    refusals = verdict.refusals + _refused_by(result, quantity, verdict.quantity, columns)
    return replace(
        verdict,
        quantity=quantity,
        refusals=refusals,
        cuts=result.cuts,
        allocations=tuple(
            each for each in verdict.allocations if quantity[columns[each.proposal.symbol]] != 0.0
        ),
    )


def _refused_by(
    result: PretradeResult, quantity: Row, before: Row, columns: Mapping[str, int]
) -> tuple[Refusal, ...]:
    """Returns a refusal for each instrument that checks on orders left nothing of."""
    codes: dict[str, tuple[RefusalCode, ...]] = {}
    for cut in result.cuts:
        codes[cut.symbol] = (*codes.get(cut.symbol, ()), cut.code)
    return tuple(
        Refusal(symbol, found)
        for symbol, found in codes.items()
        if quantity[columns[symbol]] == 0.0 and before[columns[symbol]] != 0.0
    )


def _pretrade_book(context: Context, plan: RiskPlan) -> PretradeBook:
    book = context.book
    held = np.flatnonzero(book.quantity)
    known = np.flatnonzero(np.isfinite(book.last_close))
    return PretradeBook(
        {context.symbols[each]: float(book.quantity[each]) for each in held},
        {context.symbols[each]: float(book.last_close[each]) for each in known},
        book.equity,
        book.equity,
        book.peak_equity,
        plan.groups,
    )
