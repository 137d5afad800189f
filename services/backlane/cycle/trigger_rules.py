"""The strategy trigger_rules: universe, regime, triggers, proposals with exits (SPEC A3 to A9).

Signals are data: what fires at each bar, the streak of scans that found nothing included, follows
from the bars until then alone. Proposals see the book too: they are entries of what fired, and
exits of what is held.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np
from numpy.typing import NDArray

from backlane.cycle.context import Context, HeldTrade
from backlane.cycle.proposals import TEMPLATES, ConvincedProposal, propose, template_of
from backlane.cycle.strategy import ProposalInput, StrategyInput, TradeStrategy
from backlane.cycle.trigger_exits import (
    SEEN_BARS,
    OpenTrade,
    TriggerExit,
    at_review,
    exit_of,
    hours_held,
)
from backlane.cycle.trigger_rules_parameters import TriggerRulesConfig
from backlane.execution.target_orders import OrderSide
from backlane.panel.panel import Panel
from backlane.risk.proposal import TradeProposal
from backlane.signals.price_regime import REGIMES, price_regimes
from backlane.signals.trigger_grid import TriggerGrid, fired_at, last_bars, trigger_grid
from backlane.signals.triggers import TriggerSignal
from backlane.signals.universe import Quote, build_universe, volume_floor

VOLUME_BARS = 24
"""Hourly bars of the volume of a day."""
_SHORTEST_HOLD_HOURS = min(each.hold_hours_max for each in TEMPLATES)
_NEAREST_STOP = -min(each.stop_loss for each in TEMPLATES)
_NEAREST_TARGET = min(each.take_profit for each in TEMPLATES)


def traded_value(panel: Panel) -> NDArray[np.float64]:
    """Returns close * volume of the last 24 rows, money, (times, symbols); missing bars traded 0.

    Each is summed afresh from its own rows, so that it does not depend on where the panel begins.
    """
    volume = np.zeros_like(panel.close) if panel.volume is None else panel.volume
    money = np.nan_to_num(panel.close * volume)
    total = np.zeros_like(money)
    for back in range(min(VOLUME_BARS, len(money))):
        total[back:] += money[: len(money) - back]
    return total


def eligible(
    panel: Panel, regimes: NDArray[np.int8], parameters: TriggerRulesConfig
) -> NDArray[np.bool_]:
    """Returns whom the rules of the universe let in at each time, (times, symbols).

    Those of `build_universe`, with the volume as it was at the time.
    """
    rules = parameters.universe
    listed = {name: each for name, each in parameters.instruments.items() if name in panel.symbols}
    tiers = {name: each.tier for name, each in listed.items()}
    quotes = {name: Quote(each.spread_bps, np.inf, each.depth) for name, each in listed.items()}
    by_regime = np.zeros((len(REGIMES), len(panel.symbols)), dtype=bool)
    for code, regime in enumerate(REGIMES):
        for member in build_universe(tiers, quotes, regime, rules).members:
            by_regime[code, panel.symbols.index(member.symbol)] = True
    is_member = by_regime[regimes]
    traded = traded_value(panel)
    for name, each in listed.items():
        if name in rules.forced:
            continue
        column = panel.symbols.index(name)
        volume = traded[:, column] if each.volume_24h is None else each.volume_24h
        is_member[:, column] &= volume >= volume_floor(each.tier, each.spread_bps, rules)[1]
    return is_member


@dataclass(frozen=True, slots=True, eq=False)
class TriggerRows:
    """The triggers of every bar; `is_member` (times, symbols), `streaks` (times,)."""

    grid: TriggerGrid
    is_member: NDArray[np.bool_]
    streaks: NDArray[np.int64]

    def row(self, bar: int) -> tuple[TriggerSignal, ...]:
        """Returns what fires at a bar, best first."""
        return self.grid.scan(bar, int(self.streaks[bar]), self.is_member[bar]).signals


def _leader_closes(panel: Panel, parameters: TriggerRulesConfig) -> NDArray[np.float64]:
    """Returns the closes of the leader, (times,), NaN where the panel does not have it."""
    if parameters.leader not in panel.symbols:
        return np.full(len(panel), np.nan)
    return panel.close[:, panel.symbols.index(parameters.leader)]


def trigger_rows(panel: Panel, parameters: TriggerRulesConfig) -> TriggerRows:
    """Returns the triggers of every bar of a panel of hourly bars, one scan a bar."""
    codes = price_regimes(_leader_closes(panel, parameters)).code
    grid = trigger_grid(panel, codes, parameters.triggers)
    is_member = eligible(panel, codes, parameters)
    return TriggerRows(grid, is_member, grid.streaks(is_member))


def _signals(data: StrategyInput, parameters: TriggerRulesConfig) -> TriggerRows:
    return trigger_rows(data.panel, parameters)


def convinced(data: ProposalInput, parameters: TriggerRulesConfig) -> Sequence[ConvincedProposal]:
    """Returns the entries that the rules propose, each with its conviction."""
    signals: Sequence[TriggerSignal] = data.signals
    if not signals:
        return ()
    return propose(
        signals,
        parameters.tradable,
        signals[0].regime,
        parameters.proposals,
        data.context.book.equity,
    )


def entered_for(
    context: Context, symbol: str, held: HeldTrade, parameters: TriggerRulesConfig
) -> OpenTrade:
    """Returns a trade with the levels and the time that its trigger gave it.

    The trigger is that of the bar at which the trade was decided: the one before it was entered
    or, where entries fill at the close of their decision, the same. Where nothing fired then, the
    trade was entered for something else: it has no levels, and the longest time of the rules.
    """
    panel = context.panel
    row = int(np.searchsorted(panel.known_ns, held.entry_ns))
    decided = row if parameters.exits.decides_at_entry else row - 1
    leader, column = _leader_closes(panel, parameters), panel.symbols.index(symbol)
    signal = fired_at(panel, column, decided, leader, parameters.tables)
    price = held.entry_price
    if signal is None:
        return OpenTrade(symbol, held.entry_ns, price)
    template = template_of(signal, signal.regime, parameters.proposals.dip_change)
    if template is None:
        return OpenTrade(symbol, held.entry_ns, price)
    stop, target = price * (1.0 - template.stop_loss), price * (1.0 + template.take_profit)
    return OpenTrade(symbol, held.entry_ns, price, stop, target, template.hold_hours_max)


def _is_within_all_levels(hours: float, since: float, parameters: TriggerRulesConfig) -> bool:
    """Tells whether a trade is too young and too near its entry for any level of any trigger.

    Then nobody need know what it was entered for. `since` is the return since the entry.
    """
    return (
        hours < min(_SHORTEST_HOLD_HOURS, parameters.exits.hold_hours_max)
        and _NEAREST_STOP < since < _NEAREST_TARGET
    )


def exits(context: Context, parameters: TriggerRulesConfig) -> Mapping[str, TriggerExit]:
    """Returns which long trades are to be left now, by symbol; what has no bar now is held."""
    panel, book, now_ns = context.panel, context.book, context.as_of_ns
    found = {}
    for symbol, held in book.open_trades.items():
        column = panel.symbols.index(symbol)
        price = float(panel.close[-1, column])
        if isnan(price) or book.quantity[column] <= 0.0:
            continue
        trade = OpenTrade(symbol, held.entry_ns, held.entry_price)
        is_close_look = at_review(trade, now_ns, parameters.exits)
        since = price / held.entry_price - 1.0
        if not _is_within_all_levels(hours_held(trade, now_ns), since, parameters):
            trade = entered_for(context, symbol, held, parameters)
        elif not is_close_look:
            continue
        close = volume = panel.close[-1:, column]
        if is_close_look:
            _, _, close, volume = last_bars(panel, column, len(panel) - 1, SEEN_BARS)
        reason = exit_of(trade, close, volume, now_ns, parameters.exits)
        if reason is not None:
            found[symbol] = reason
    return found


def _propose(data: ProposalInput, parameters: TriggerRulesConfig) -> Sequence[TradeProposal]:
    """Returns exits of what is held, then entries; an instrument that is left is not entered."""
    context = data.context
    left = exits(context, parameters) if context.book.open_trades else {}
    entries = [one.proposal for one in convinced(data, parameters)]
    return [
        *(_exit(context, symbol, reason) for symbol, reason in left.items()),
        *(each for each in entries if each.symbol not in left),
    ]


def _exit(context: Context, symbol: str, reason: TriggerExit) -> TradeProposal:
    """Returns the proposal to sell all that is held of an instrument."""
    book, column = context.book, context.symbols.index(symbol)
    value = float(book.quantity[column] * book.last_close[column])
    size = value / book.capital if book.capital > 0.0 else 1.0
    return TradeProposal(symbol, OrderSide.SELL, size, 1.0, tags=(str(reason),))


TRIGGER_RULES = TradeStrategy(TriggerRulesConfig, _signals, _propose)
"""The strategy, for a registry."""
