"""Trades on their way from the loop's records to telemetry."""

import numpy as np

from backlane.execution.order import ExitReason
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import TradeRecord
from backlane.portfolio.trade import TRADE_DTYPE
from backlane.wire.portfolio import trade_from_bytes
from backtest_service.trades import messages_of, packed

FIRST = TradeRecord(
    number=1,
    entry_time_ns=1_000_000_001,
    exit_time_ns=2_000_000_002,
    side=PositionSide.LONG,
    quantity=3.0,
    entry_price=10.0,
    exit_price=12.0,
    gross_pnl=6.0,
    net_pnl=5.25,
    commission=0.5,
    slippage=0.125,
    exit_reason=ExitReason.TAKE_PROFIT,
    mae=-1.5,
    mfe=7.0,
    financing=0.125,
)
SECOND = TradeRecord(
    number=2,
    entry_time_ns=3_000_000_003,
    exit_time_ns=4_000_000_004,
    side=PositionSide.SHORT,
    quantity=1.0,
    entry_price=12.0,
    exit_price=13.0,
    gross_pnl=-1.0,
    net_pnl=-1.0,
    commission=0.0,
    slippage=0.0,
    exit_reason=ExitReason.END_OF_DATA,
    mae=-1.0,
    mfe=0.0,
)


def test_records_become_messages_in_their_order():
    records = np.zeros(2, TRADE_DTYPE)
    for record, trade in zip(records, (FIRST, SECOND), strict=True):
        for name in TradeRecord.__slots__:
            record[name] = getattr(trade, name)
    assert [trade_from_bytes(one) for one in messages_of(packed(records))] == [FIRST, SECOND]


def test_a_part_of_an_array_is_packed_alone():
    records = np.zeros(3, TRADE_DTYPE)
    records["number"] = [1, 2, 3]
    records["exit_reason"] = ExitReason.DECISION
    (message,) = messages_of(packed(records[1:2]))
    assert trade_from_bytes(message).number == 2


def test_no_trades_are_no_messages():
    assert messages_of(packed(np.zeros(0, TRADE_DTYPE))) == ()
