"""The strategy trigger_rules: who is looked at, what it proposes, and what it leaves."""

import dataclasses

import numpy as np
import pytest

from backlane.cycle.config_record import parse_record
from backlane.cycle.context import BookFacts, HeldTrade, context_at
from backlane.cycle.proposals import CanaryRules, ProposalRules
from backlane.cycle.strategy import ProposalInput, StrategyInput
from backlane.cycle.trigger_exits import HOUR_NS, TriggerExit
from backlane.cycle.trigger_rules import (
    TRIGGER_RULES,
    eligible,
    entered_for,
    exits,
    traded_value,
    trigger_rows,
)
from backlane.cycle.trigger_rules_parameters import TriggerRulesConfig
from backlane.errors import InvalidRequestError
from backlane.execution.target_orders import OrderSide
from backlane.panel.panel import Panel
from backlane.signals.price_regime import REGIMES, PriceRegime
from backlane.signals.triggers import TriggerKind
from backlane.signals.universe import Tier, TierLimits, UniverseRules

SYMBOLS = ("A-USD", "B-USD", "C-USD")
ROWS = 230
JUMP = 200


def _panel(closes=None, volume=1e6):
    """A still market in which B jumps by 3 % at row 200 and stays there."""
    close = np.full((ROWS, 3), 100.0)
    close[JUMP:, 1] = 103.0
    for column, values in (closes or {}).items():
        close[-len(values) :, column] = values
    time_ns = (np.arange(ROWS, dtype=np.int64) + 1) * HOUR_NS
    volumes = np.full(close.shape, volume)
    return Panel(SYMBOLS, time_ns, time_ns, close, close * 1.008, close * 0.992, close, volumes)


def _parameters(**sections):
    instruments = {
        symbol: {"tier": tier, "spread_bps": 8.0, "depth": 3e5}
        for symbol, tier in zip(SYMBOLS, (1, 2, 2), strict=True)
    }
    content = {"leader": "A-USD", "instruments": instruments, **sections}
    return parse_record(TriggerRulesConfig, content)


def _context(panel, row, held=None, decided=JUMP):
    """A context at a row; `held` units were entered at the open after the row `decided`."""
    quantity, trades = np.zeros(3), {}
    for symbol, units in (held or {}).items():
        quantity[SYMBOLS.index(symbol)] = units
        trades[symbol] = HeldTrade(int(panel.known_ns[decided + 1]), 103.0)
    cash = 100_000.0
    book = BookFacts(
        cash, cash, cash, cash, quantity, np.zeros(3), panel.close[row], open_trades=trades
    )
    return context_at(panel, {}, int(panel.known_ns[row]), book=book)


def _propose(panel, row, parameters, held=None):
    context = _context(panel, row, held)
    rows = TRIGGER_RULES.signals(StrategyInput(context.panel, {}, {}), parameters)
    data = ProposalInput(rows.row(row), context, np.ones(3, bool))
    return TRIGGER_RULES.propose(data, parameters)


def test_a_jump_is_proposed_with_its_levels():
    (entry,) = _propose(_panel(), JUMP, _parameters(triggers={"has_atr_filter": False}))
    # A move of 3 % has strength 0.8 and confidence 0.85, more than its momentum of one hour in 12.
    assert (entry.symbol, entry.side, entry.trigger) == (
        "B-USD",
        OrderSide.BUY,
        TriggerKind.PRICE_MOVE,
    )
    assert (entry.stop_loss, entry.take_profit, entry.hold_hours_max) == (0.06, 0.12, 48)
    assert entry.confidence == pytest.approx(0.5 * 0.8 + 0.3 * 0.85)
    assert entry.size == pytest.approx(0.02 * 0.85)


def _entered(symbol, parameters, decided=JUMP):
    context = _context(_panel(), JUMP + 5, {symbol: 10.0}, decided)
    return entered_for(context, symbol, context.book.open_trades[symbol], parameters)


def test_a_held_trade_knows_what_it_was_entered_for():
    trade = _entered("B-USD", _parameters())
    assert (trade.stop_price, trade.target_price) == pytest.approx((103 * 0.94, 103 * 1.12))
    assert trade.hold_hours_max == 48
    same_bar = _parameters(exits={"decides_at_entry": True})
    assert _entered("B-USD", same_bar, JUMP - 1).hold_hours_max == 48
    other = _entered("A-USD", _parameters())
    assert (other.stop_price, other.hold_hours_max) == (None, None)


@pytest.mark.parametrize(
    ("closes", "reason"),
    [
        ([103.0, 96.0], TriggerExit.STOP_LOSS),  # 103 x 0.94 = 96.82
        ([103.0, 116.0], TriggerExit.TAKE_PROFIT),  # 103 x 1.12 = 115.36
        ([103.0, 103.0], None),
    ],
)
def test_a_trade_is_left_whole_with_its_reason(closes, reason):
    panel, parameters = _panel({1: closes}), _parameters(triggers={"has_atr_filter": False})
    last = ROWS - 1
    made = _propose(panel, last, parameters, {"B-USD": 10.0})
    left = [each for each in made if each.is_exit]
    if reason is None:
        assert left == []
        return
    (proposal,) = left
    assert (proposal.symbol, proposal.tags) == ("B-USD", (str(reason),))
    assert proposal.size == pytest.approx(10.0 * closes[-1] / 100_000.0)
    assert [each.symbol for each in made if not each.is_exit] == []  # not entered again at once


def test_a_trade_without_a_bar_is_held():
    panel = _panel({1: [103.0, np.nan]})
    assert exits(_context(panel, ROWS - 1, {"B-USD": 10.0}), _parameters()) == {}


def test_a_trade_is_left_after_its_longest_time():
    parameters = _parameters(exits={"hold_hours_max": 10.0})
    for row, expected in ((JUMP + 10, {}), (JUMP + 11, {"A-USD": TriggerExit.MAX_HOLD})):
        assert exits(_context(_panel(), row, {"A-USD": 10.0}), parameters) == expected


def test_the_volume_of_a_day_decides_who_is_looked_at():
    # 24 bars x 100 x 1e6 = 2.4e9; at 4,000 units 9.6e6: core asks for 1e7, rotational for 8e6.
    panel = _panel(volume=4_000.0)
    assert traded_value(panel)[23, 0] == pytest.approx(9.6e6)
    assert traded_value(panel)[22, 0] == pytest.approx(9.2e6)
    chop = np.full(ROWS, REGIMES.index(PriceRegime.CHOP), np.int8)
    parameters = _parameters()
    assert eligible(panel, chop, parameters)[30].tolist() == [False, True, True]
    assert not eligible(panel, chop, parameters)[10].any()
    forced = _parameters(universe={"forced": ["A-USD"]})
    assert eligible(panel, chop, forced)[10].tolist() == [True, False, False]
    crash = np.full(ROWS, REGIMES.index(PriceRegime.CRASH), np.int8)
    assert not eligible(panel, crash, parameters).any()


def test_rows_of_a_longer_panel_are_those_of_a_shorter_one():
    panel, parameters = _panel({2: np.linspace(100.0, 109.0, 12)}), _parameters()
    long = trigger_rows(panel, parameters)
    for row in range(150, ROWS, 7):
        short = trigger_rows(panel.until(int(panel.known_ns[row])), parameters)
        assert short.row(row) == long.row(row)


def test_every_mistake_in_every_section_is_listed():
    content = {
        "leader": "",
        "instruments": {"A": {"tier": 4, "spread_bps": True, "depth": 1.0}},
        "triggers": {"lookback_bar": 3, "trend_period": 0, "only_upside": 1},
        "universe": {"volume_min": -1.0},
        "proposals": {"score_min": "high", "dip_change": 7.0, "canary": {"size_scal": 0.1}},
        "exits": {"first_hours": 50.0},
    }
    with pytest.raises(InvalidRequestError) as caught:
        parse_record(TriggerRulesConfig, content, "parameters")
    assert {violation.field for violation in caught.value.violations} == {
        "parameters.leader",
        "parameters.instruments.A.tier",
        "parameters.instruments.A.spread_bps",
        "parameters.triggers.lookback_bar",
        "parameters.triggers.trend_period",
        "parameters.triggers.only_upside",
        "parameters.universe.volume_min",
        "parameters.proposals.score_min",
        "parameters.proposals.dip_change",
        "parameters.proposals.canary.size_scal",
        "parameters.exits.second_hours",
    }


def test_mappings_without_a_tier_or_regime_are_mistakes():
    limits = TierLimits(0.0, 80.0, 0.0, 0.1, 0.2)
    with pytest.raises(InvalidRequestError) as caught:
        UniverseRules(tiers={Tier.CORE: limits}, regime_multipliers={})
    fields = [violation.field for violation in caught.value.violations]
    assert fields[:3] == ["tiers.1.allocation_max", "tiers.2", "tiers.3"]
    assert len(fields) == 3 + len(PriceRegime) * len(Tier)
    with pytest.raises(InvalidRequestError, match="base_sizes"):
        ProposalRules(base_sizes={Tier.CORE: 0.1})
    with pytest.raises(InvalidRequestError, match="depth_min"):
        CanaryRules(depth_min={})


def test_every_section_of_the_parameters_is_looked_at():
    names = set(TriggerRulesConfig.model_fields)
    sections = {"triggers", "universe", "proposals", "exits"}
    assert names == {"leader", "instruments"} | sections
    for name in sections:
        record = type(getattr(_parameters(), name))
        for item in dataclasses.fields(record):
            default = getattr(record(), item.name)
            if isinstance(default, int | float | bool):
                parsed = _parameters(**{name: {item.name: default}})
                assert getattr(getattr(parsed, name), item.name) == default
