"""Paper sessions on the wire: setup, bars and reports as messages, and back. Light: no numpy."""

from typing import Any

from google.protobuf.message import DecodeError

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.session_messages import (
    FinishSession,
    NextBars,
    ReportsReceived,
    ResumeSession,
    SessionAnswer,
    SessionFinished,
    SessionMessage,
    SessionOpened,
    StartSession,
)
from backlane.backtest.session_records import (
    EVENT_COLUMNS_MAX,
    EVENT_SOURCES_MAX,
    EVENTS_PER_BAR_MAX,
    SYMBOLS_MAX,
    BarReport,
    BarRow,
    EventRow,
    FillMade,
    OrderEnded,
    OrderPlaced,
    PositionHeld,
    SessionSetup,
)
from backlane.errors import FieldViolation, InvalidRequestError
from backlane.operations.operation import Payload
from backlane.wire.operation_checks import check_name, check_request_id
from backlane.wire.plain_data import plain_from_struct, struct_from_plain
from backlane.wire.portfolio_cycle import (
    SYMBOL_CHARACTERS_MAX,
    outcome_from_proto,
    outcome_to_proto,
)
from backlane.wire.portfolio_runs import SPEC_BYTES_MAX, result_from_proto, result_to_proto
from backlane.wire.times import (
    NS_PER_S,
    TIME_NS_MAX,
    is_valid_timestamp,
    timestamp_from_proto,
    timestamp_to_proto,
)
from backlane.wire.violations import Violations

START_TYPE_URL = f"type.googleapis.com/{pb.PaperStart.DESCRIPTOR.full_name}"
BARS_PER_MESSAGE_MAX = 1_000
NAME_CHARACTERS_MAX = 100
"""Characters of a source of events, and of its columns."""
_GRIDS = ("open", "high", "low", "close", "volume")


# --- what a client says ---------------------------------------------------------------------------


def message_to_proto(message: SessionMessage) -> pb.PaperSessionRequest:
    """Returns what a client says as a message."""
    match message:
        case StartSession(request_id, setup):
            return pb.PaperSessionRequest(start=_start_to_proto(request_id, setup))
        case ResumeSession(operation, received_number):
            resume = pb.PaperResume(operation=operation, received_number=received_number)
            return pb.PaperSessionRequest(resume=resume)
        case NextBars(bars):
            return pb.PaperSessionRequest(
                bars=pb.PaperBars(bars=[bar_to_proto(each) for each in bars])
            )
        case ReportsReceived(number):
            return pb.PaperSessionRequest(received=pb.PaperReceived(number=number))
        case FinishSession():
            return pb.PaperSessionRequest(finish=pb.PaperFinish())


def message_from_proto(message: pb.PaperSessionRequest) -> SessionMessage:
    """Returns what a message from outside says.

    Raises InvalidRequestError with a violation for each mistake.
    """
    found = Violations()
    said: SessionMessage
    match message.WhichOneof("part"):
        case "start":
            own = Violations("start.")
            check_request_id(own, message.start.request_id)
            own.raise_if_any()
            said = StartSession(message.start.request_id, _setup(message.start, found))
        case "resume":
            check_name(found, "resume.operation", message.resume.operation)
            number = message.resume.received_number
            found.check(number >= 0, "resume.received_number", f"is {number}, below 0")
            said = ResumeSession(message.resume.operation, number)
        case "bars":
            count = len(message.bars.bars)
            is_few = 0 < count <= BARS_PER_MESSAGE_MAX
            found.check(is_few, "bars.bars", f"holds {count}; accepted is 1 to 1,000")
            found.raise_if_any()
            said = NextBars(tuple(bar_from_proto(each) for each in message.bars.bars))
        case "received":
            said = ReportsReceived(message.received.number)
        case "finish":
            said = FinishSession()
        case _:
            empty = "a message says one thing: give start, resume, bars, received or finish"
            violation = FieldViolation("part", empty)
            raise InvalidRequestError(f"The message is empty; {empty}.", violations=(violation,))
    found.raise_if_any()
    return said


def _start_to_proto(request_id: str, setup: SessionSetup) -> pb.PaperStart:
    sources = [
        pb.PaperEventSource(name=name, columns=columns)
        for name, columns in sorted(setup.event_columns.items())
    ]
    start = pb.PaperStart(
        request_id=request_id,
        config=struct_from_plain(setup.config, "start.config"),
        symbols=setup.symbols,
        has_volume=setup.has_volume,
        event_sources=sources,
    )
    if setup.bar_spacing_ns is not None:
        seconds, nanos = divmod(setup.bar_spacing_ns, NS_PER_S)
        start.bar_spacing.seconds, start.bar_spacing.nanos = seconds, nanos
    return start


def _setup(start: pb.PaperStart, found: Violations) -> SessionSetup:
    """Returns the setup of a message; what the configuration says is not looked at."""
    size = start.config.ByteSize()
    is_small = size <= SPEC_BYTES_MAX
    found.check(is_small, "start.config", f"has {size} bytes; at most {SPEC_BYTES_MAX}")
    count = len(start.symbols)
    found.check(
        0 < count <= SYMBOLS_MAX, "start.symbols", f"holds {count}; accepted is 1 to {SYMBOLS_MAX}"
    )
    _check_names(found, "start.symbols", start.symbols, SYMBOL_CHARACTERS_MAX)
    sources = start.event_sources
    is_few = len(sources) <= EVENT_SOURCES_MAX
    found.check(is_few, "start.event_sources", f"holds {len(sources)}; at most 100")
    names = [each.name for each in sources]
    is_once = len(set(names)) == len(names)
    found.check(is_once, "start.event_sources", "names a source twice")
    _check_names(found, "start.event_sources", names, NAME_CHARACTERS_MAX)
    for each in sources[:EVENT_SOURCES_MAX]:
        field = f"start.event_sources[{each.name[:80]}].columns"
        is_few = len(each.columns) <= EVENT_COLUMNS_MAX
        found.check(is_few, field, f"holds {len(each.columns)}; at most {EVENT_COLUMNS_MAX}")
        is_once = len(set(each.columns)) == len(each.columns)
        found.check(is_once, field, "names a column twice")
        _check_names(found, field, each.columns, NAME_CHARACTERS_MAX)
    spacing_ns = None
    if start.HasField("bar_spacing"):
        spacing_ns = start.bar_spacing.seconds * NS_PER_S + start.bar_spacing.nanos
        is_time = 0 < spacing_ns <= TIME_NS_MAX
        found.check(is_time, "start.bar_spacing", "is no time above 0")
    found.raise_if_any()
    return SessionSetup(
        plain_from_struct(start.config, "start.config", found),
        tuple(start.symbols),
        start.has_volume,
        {each.name: tuple(each.columns) for each in sources},
        spacing_ns,
    )


def _check_names(found: Violations, field: str, names: Any, characters_max: int) -> None:
    wrong = next((each for each in names if not 0 < len(each) <= characters_max), None)
    if wrong is not None:
        found.add(field, f"{wrong[:80]!r} has {len(wrong)} characters; at most {characters_max}")


def setup_to_payload(setup: SessionSetup) -> Payload:
    """Returns what the operation of a session carries; the same setup, the same bytes."""
    start = _start_to_proto("", setup)
    return Payload(START_TYPE_URL, start.SerializeToString(deterministic=True))


def setup_from_payload(payload: Payload) -> SessionSetup:
    """Returns the setup that an operation carries.

    Raises InvalidRequestError where it carries something else.
    """
    if payload.type_url != START_TYPE_URL:
        raise InvalidRequestError(
            f"The operation asks for {payload.type_url}, which is no paper session.",
            metadata={"type_url": payload.type_url},
        )
    try:
        start = pb.PaperStart.FromString(payload.value)
    except DecodeError as error:
        raise InvalidRequestError("The bytes of the operation's spec are no message.") from error
    return _setup(start, Violations())


# --- bars -----------------------------------------------------------------------------------------


def bar_to_proto(bar: BarRow) -> pb.PaperBar:
    """Returns the message for a bar."""
    events = [
        pb.PaperEvent(
            source=each.source,
            symbol=each.symbol,
            event_time=timestamp_to_proto(each.event_ns),
            known_time=timestamp_to_proto(each.known_ns),
            values=dict(each.values),
        )
        for each in bar.events
    ]
    grids = {name: getattr(bar, name) for name in _GRIDS}
    return pb.PaperBar(
        number=bar.number, time=timestamp_to_proto(bar.time_ns), events=events, **grids
    )


def bar_from_proto(message: pb.PaperBar) -> BarRow:
    """Returns the bar of a message from outside; whether it can follow is not looked at.

    Raises InvalidRequestError with a violation for each mistake.
    """
    found = Violations(f"bars.bars[{message.number}].")
    found.check(is_valid_timestamp(message.time), "time", "is no time between 1678 and 2262")
    for name in _GRIDS:
        count = len(getattr(message, name))
        found.check(count <= SYMBOLS_MAX, name, f"holds {count}; at most {SYMBOLS_MAX}")
    count = len(message.events)
    is_few = count <= EVENTS_PER_BAR_MAX
    found.check(is_few, "events", f"holds {count}; at most {EVENTS_PER_BAR_MAX}")
    found.raise_if_any()
    for place, each in enumerate(message.events):
        is_time = is_valid_timestamp(each.event_time) and is_valid_timestamp(each.known_time)
        found.check(is_time, f"events[{place}]", "has a time that is not between 1678 and 2262")
    found.raise_if_any()
    opened, high, low, close, volume = (tuple(getattr(message, name)) for name in _GRIDS)
    events = tuple(
        EventRow(
            each.source,
            each.symbol,
            timestamp_from_proto(each.event_time),
            timestamp_from_proto(each.known_time),
            {name: each.values[name] for name in sorted(each.values)},
        )
        for each in message.events
    )
    time_ns = timestamp_from_proto(message.time)
    return BarRow(message.number, time_ns, opened, high, low, close, volume, events)


def bar_to_bytes(bar: BarRow) -> bytes:
    """Returns the bytes that are kept of a bar; the same bar, the same bytes."""
    return bar_to_proto(bar).SerializeToString(deterministic=True)


def bar_from_bytes(content: bytes) -> BarRow:
    """Returns the bar of bytes that were kept."""
    return bar_from_proto(pb.PaperBar.FromString(content))


# --- what the service says ------------------------------------------------------------------------


def answer_to_proto(answer: SessionAnswer) -> pb.PaperSessionResponse:
    """Returns what the service says as a message."""
    match answer:
        case SessionOpened(operation, next_number):
            opened = pb.PaperOpened(operation=operation, next_number=next_number)
            return pb.PaperSessionResponse(opened=opened)
        case BarReport():
            return pb.PaperSessionResponse(report=report_to_proto(answer))
        case SessionFinished(summary):
            finished = pb.PaperFinished(result=result_to_proto(summary))
            return pb.PaperSessionResponse(finished=finished)


def answer_from_proto(message: pb.PaperSessionResponse) -> SessionAnswer | None:
    """Returns what a message of a service says; None for a part that is newer than this."""
    match message.WhichOneof("part"):
        case "opened":
            return SessionOpened(message.opened.operation, message.opened.next_number)
        case "report":
            return report_from_proto(message.report)
        case "finished":
            return SessionFinished(result_from_proto(message.finished.result))
        case _:
            return None


def report_to_proto(report: BarReport) -> pb.PaperReport:
    """Returns the message for a report."""
    return pb.PaperReport(
        number=report.number,
        time=timestamp_to_proto(report.time_ns),
        decision=outcome_to_proto(report.decision),
        orders=[_order_to_proto(each) for each in report.orders],
        ended=[pb.PaperOrderEnd(number=each.number, outcome=each.outcome) for each in report.ended],
        fills=[
            pb.PaperFill(
                order=each.order,
                symbol=each.symbol,
                quantity=each.quantity,
                price=each.price,
                cost=each.cost,
                cash_after=each.cash_after,
            )
            for each in report.fills
        ],
        positions=[
            pb.PaperPosition(symbol=each.symbol, quantity=each.quantity, price=each.price)
            for each in report.positions
        ],
        equity=report.equity,
        cash=report.cash,
    )


def report_from_proto(message: pb.PaperReport) -> BarReport:
    """Returns the report of a message that a service made."""
    return BarReport(
        message.number,
        timestamp_from_proto(message.time),
        outcome_from_proto(message.decision),
        tuple(_order_from_proto(each) for each in message.orders),
        tuple(OrderEnded(each.number, each.outcome) for each in message.ended),
        tuple(
            FillMade(each.order, each.symbol, each.quantity, each.price, each.cost, each.cash_after)
            for each in message.fills
        ),
        tuple(
            PositionHeld(each.symbol, each.quantity, each.price if each.HasField("price") else None)
            for each in message.positions
        ),
        message.equity,
        message.cash,
    )


def report_to_bytes(report: BarReport) -> bytes:
    """Returns the bytes that are kept of a report; the same report, the same bytes."""
    return report_to_proto(report).SerializeToString(deterministic=True)


def report_from_bytes(content: bytes) -> BarReport:
    """Returns the report of bytes that were kept."""
    return report_from_proto(pb.PaperReport.FromString(content))


def _order_to_proto(order: OrderPlaced) -> pb.PaperOrder:
    side = pb.ORDER_SIDE_BUY if order.quantity > 0 else pb.ORDER_SIDE_SELL
    return pb.PaperOrder(
        number=order.number,
        symbol=order.symbol,
        side=side,
        quantity=abs(order.quantity),
        price=order.price,
    )


def _order_from_proto(message: pb.PaperOrder) -> OrderPlaced:
    is_buy = message.side == pb.ORDER_SIDE_BUY
    quantity = message.quantity if is_buy else -message.quantity
    price = message.price if message.HasField("price") else None
    return OrderPlaced(message.number, message.symbol, quantity, price)
