"""One cycle on the wire: the wish and what was decided, as messages, and back. Light: no numpy."""

import math

from backlane.api.portfolio.v1 import portfolio_pb2
from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.cycle_outcome import (
    CycleOutcome,
    CycleRequest,
    OrderReading,
    ProposalReading,
    SignalReading,
    StageReading,
    TargetReading,
)
from backlane.wire.portfolio_runs import request_from_spec, spec_from_request
from backlane.wire.times import (
    duration_from_proto,
    duration_to_proto,
    is_valid_timestamp,
    optional_timestamp_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)
from backlane.wire.violations import Violations

POSITIONS_MAX = 10_000
SYMBOL_CHARACTERS_MAX = 256
MONEY_MAX = 1e15
"""Cash and units beyond it are a mistake."""
_DIRECTIONS = {
    -1: portfolio_pb2.POSITION_SIDE_SHORT,
    0: portfolio_pb2.POSITION_SIDE_FLAT,
    1: portfolio_pb2.POSITION_SIDE_LONG,
}
_DIRECTIONS_BACK = {number: direction for direction, number in _DIRECTIONS.items()}


def cycle_request_to_proto(request: CycleRequest) -> pb.RunCycleRequest:
    """Returns the message for a wish; raises InvalidRequestError for what none can hold."""
    return pb.RunCycleRequest(
        spec=spec_from_request(request.portfolio),
        as_of=timestamp_to_proto(request.as_of_ns),
        positions=dict(sorted(request.positions.items())),
        cash=request.cash,
    )


def cycle_request_from_proto(message: pb.RunCycleRequest) -> CycleRequest:
    """Returns the wish of a message from outside.

    Raises InvalidRequestError with a violation for each mistake.
    """
    found = Violations()
    has_time = message.HasField("as_of") and is_valid_timestamp(message.as_of)
    found.check(has_time, "as_of", "is no time between the years 1678 and 2262")
    count = len(message.positions)
    found.check(count <= POSITIONS_MAX, "positions", f"holds {count}; at most {POSITIONS_MAX}")
    for symbol in sorted(message.positions)[:POSITIONS_MAX]:
        field, units = f"positions[{symbol[:80]}]", message.positions[symbol]
        is_symbol = 0 < len(symbol) <= SYMBOL_CHARACTERS_MAX
        said = f"the symbol has {len(symbol)} characters; accepted is 1 to {SYMBOL_CHARACTERS_MAX}"
        found.check(is_symbol, field, said)
        found.check(_is_amount(units), field, f"is {units}; accepted is -1e15 to 1e15 units")
    cash = message.cash if message.HasField("cash") else None
    if cash is not None:
        found.check(_is_amount(cash), "cash", f"is {cash}; accepted is -1e15 to 1e15")
    found.raise_if_any()
    return CycleRequest(
        request_from_spec(message.spec),
        timestamp_from_proto(message.as_of),
        {symbol: message.positions[symbol] for symbol in sorted(message.positions)},
        cash,
    )


def outcome_to_proto(outcome: CycleOutcome) -> pb.CycleOutcome:
    """Returns the message for what a cycle decided."""
    return pb.CycleOutcome(
        as_of=timestamp_to_proto(outcome.as_of_ns),
        bar_time=optional_timestamp_to_proto(outcome.bar_time_ns),
        equity=outcome.equity,
        cash=outcome.cash,
        stages=[
            pb.CycleStage(
                name=each.name, error=each.error, duration=duration_to_proto(each.duration_s)
            )
            for each in outcome.stages
        ],
        signals=[
            pb.CycleSignal(
                symbol=each.symbol, direction=_DIRECTIONS[each.direction], score=each.score
            )
            for each in outcome.signals
        ],
        targets=[
            pb.CycleTarget(symbol=each.symbol, weight=each.weight, quantity=each.quantity)
            for each in outcome.targets
        ],
        proposals=[
            pb.CycleProposal(
                symbol=each.symbol,
                quantity=each.quantity,
                is_approved=each.is_approved,
                approved_quantity=each.approved_quantity,
                reasons=each.reasons,
                explanation=each.explanation,
            )
            for each in outcome.proposals
        ],
        orders=[_order_to_proto(each) for each in outcome.orders],
        no_trade=outcome.no_trade,
        detail=outcome.detail,
    )


def outcome_from_proto(message: pb.CycleOutcome) -> CycleOutcome:
    """Returns what a cycle decided, of a message that a service made."""
    return CycleOutcome(
        as_of_ns=timestamp_from_proto(message.as_of),
        bar_time_ns=(
            timestamp_from_proto(message.bar_time) if message.HasField("bar_time") else None
        ),
        equity=message.equity,
        cash=message.cash,
        stages=tuple(
            StageReading(each.name, duration_from_proto(each.duration), each.error)
            for each in message.stages
        ),
        signals=tuple(
            SignalReading(
                each.symbol,
                _DIRECTIONS_BACK[each.direction],
                each.score if each.HasField("score") else None,
            )
            for each in message.signals
        ),
        targets=tuple(
            TargetReading(
                each.symbol, each.weight, each.quantity if each.HasField("quantity") else None
            )
            for each in message.targets
        ),
        proposals=tuple(
            ProposalReading(
                each.symbol,
                each.quantity,
                each.approved_quantity,
                tuple(each.reasons),
                each.explanation,
            )
            for each in message.proposals
        ),
        orders=tuple(_order_from_proto(each) for each in message.orders),
        no_trade=message.no_trade,
        detail=message.detail,
    )


def _order_to_proto(order: OrderReading) -> pb.CycleOrder:
    side = pb.ORDER_SIDE_BUY if order.is_buy else pb.ORDER_SIDE_SELL
    return pb.CycleOrder(
        symbol=order.symbol, side=side, quantity=abs(order.quantity), price=order.price
    )


def _order_from_proto(message: pb.CycleOrder) -> OrderReading:
    is_buy = message.side == pb.ORDER_SIDE_BUY
    return OrderReading(
        message.symbol,
        message.quantity if is_buy else -message.quantity,
        message.price if message.HasField("price") else None,
    )


def _is_amount(value: float) -> bool:
    return math.isfinite(value) and abs(value) <= MONEY_MAX
