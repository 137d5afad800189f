"""Trades and equity on the wire: `backlane.portfolio` records as messages. Light: no numpy."""

from backlane.api.portfolio.v1 import portfolio_pb2 as pb
from backlane.execution.order import ExitReason
from backlane.portfolio.position import PositionSide
from backlane.portfolio.records import EquityPoint, TradeRecord
from backlane.wire.times import timestamp_from_proto, timestamp_to_proto

_SIDES = {
    PositionSide.FLAT: pb.POSITION_SIDE_FLAT,
    PositionSide.LONG: pb.POSITION_SIDE_LONG,
    PositionSide.SHORT: pb.POSITION_SIDE_SHORT,
}
_SIDES_BACK = {number: side for side, number in _SIDES.items()}
_EXITS = {
    ExitReason.DECISION: pb.EXIT_REASON_DECISION,
    ExitReason.END_OF_DATA: pb.EXIT_REASON_END_OF_DATA,
    ExitReason.STOP_LOSS: pb.EXIT_REASON_STOP_LOSS,
    ExitReason.TAKE_PROFIT: pb.EXIT_REASON_TAKE_PROFIT,
    ExitReason.TRAILING_STOP: pb.EXIT_REASON_TRAILING_STOP,
    ExitReason.TIME_EXIT: pb.EXIT_REASON_TIME_EXIT,
    ExitReason.MARGIN_CALL: pb.EXIT_REASON_MARGIN_CALL,
}
_EXITS_BACK = {number: reason for reason, number in _EXITS.items()}


def trade_to_proto(trade: TradeRecord) -> pb.Trade:
    """Returns the message for a closed trade."""
    return pb.Trade(
        number=trade.number,
        entry_time=timestamp_to_proto(trade.entry_time_ns),
        exit_time=timestamp_to_proto(trade.exit_time_ns),
        side=_SIDES[trade.side],
        quantity=trade.quantity,
        entry_price=trade.entry_price,
        exit_price=trade.exit_price,
        gross_pnl=trade.gross_pnl,
        net_pnl=trade.net_pnl,
        commission=trade.commission,
        slippage=trade.slippage,
        exit_reason=_EXITS[trade.exit_reason],
        mae=trade.mae,
        mfe=trade.mfe,
        financing=trade.financing,
    )


def trade_from_proto(message: pb.Trade) -> TradeRecord:
    """Returns the trade of a message."""
    return TradeRecord(
        number=message.number,
        entry_time_ns=timestamp_from_proto(message.entry_time),
        exit_time_ns=timestamp_from_proto(message.exit_time),
        side=_SIDES_BACK[message.side],
        quantity=message.quantity,
        entry_price=message.entry_price,
        exit_price=message.exit_price,
        gross_pnl=message.gross_pnl,
        net_pnl=message.net_pnl,
        commission=message.commission,
        slippage=message.slippage,
        exit_reason=_EXITS_BACK[message.exit_reason],
        mae=message.mae,
        mfe=message.mfe,
        financing=message.financing,
    )


def trade_to_bytes(trade: TradeRecord) -> bytes:
    """Returns a trade as telemetry and the log of an operation carry it."""
    return trade_to_proto(trade).SerializeToString()


def trade_from_bytes(data: bytes) -> TradeRecord:
    """Returns the trade that an event of an operation carries."""
    return trade_from_proto(pb.Trade.FromString(data))


def equity_point_to_proto(point: EquityPoint) -> pb.EquityPoint:
    """Returns the message for the account at the close of a bar."""
    return pb.EquityPoint(
        time=timestamp_to_proto(point.time_ns),
        equity=point.equity,
        cash=point.cash,
        position=point.position,
    )


def equity_point_from_proto(message: pb.EquityPoint) -> EquityPoint:
    """Returns the account that a message tells of."""
    return EquityPoint(
        time_ns=timestamp_from_proto(message.time),
        equity=message.equity,
        cash=message.cash,
        position=message.position,
    )
