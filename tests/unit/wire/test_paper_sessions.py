"""Paper sessions on the wire: what goes in comes out, and what is wrong is named."""

import math
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backlane.api.portfolios.v1 import portfolio_service_pb2 as pb
from backlane.backtest.cycle_outcome import CycleOutcome, OrderReading, StageReading
from backlane.backtest.session_messages import (
    FinishSession,
    NextBars,
    ReportsReceived,
    ResumeSession,
    SessionMessage,
    SessionOpened,
    StartSession,
)
from backlane.backtest.session_records import (
    BarReport,
    BarRow,
    EventRow,
    FillMade,
    OrderEnded,
    OrderPlaced,
    PositionHeld,
    SessionSetup,
)
from backlane.errors import InvalidRequestError
from backlane.wire.paper_sessions import (
    answer_from_proto,
    answer_to_proto,
    bar_from_bytes,
    bar_to_bytes,
    message_from_proto,
    message_to_proto,
    report_from_bytes,
    report_to_bytes,
    setup_from_payload,
    setup_to_payload,
)

SETUP = SessionSetup(
    {"strategy": {"name": "trend_baseline", "parameters": {"fast": 3}}},
    ("ASH", "OAK"),
    has_volume=True,
    event_columns={"insider": ("net_shares", "price"), "news": ()},
    bar_spacing_ns=3_600_000_000_001,
)
prices = st.floats(0.01, 1e9)
times = st.integers(-(2**62), 2**62)
events = st.builds(
    EventRow,
    st.sampled_from(("insider", "news")),
    st.sampled_from(("ASH", "OAK")),
    times,
    times,
    st.dictionaries(st.sampled_from(("net_shares", "price")), st.floats(allow_nan=False)),
)
bars = st.builds(
    BarRow,
    st.integers(1, 2**40),
    times,
    *[st.tuples(prices, prices)] * 4,
    volume=st.one_of(st.just(()), st.tuples(prices, prices)),
    events=st.lists(events, max_size=3).map(tuple),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(bar=bars)
def test_a_bar_survives_its_bytes(bar: BarRow) -> None:
    assert bar_from_bytes(bar_to_bytes(bar)) == bar


def test_an_instrument_without_a_bar_stays_one() -> None:
    row = (math.nan, 5.0)
    found = bar_from_bytes(bar_to_bytes(BarRow(1, 0, row, row, row, row)))
    assert math.isnan(found.close[0])
    assert found.close[1] == 5.0


@pytest.mark.parametrize(
    "message",
    [
        StartSession(str(uuid.UUID(int=7)), SETUP),
        ResumeSession("operations/abcd-1", 12),
        NextBars((BarRow(1, 5, (1.0,), (1.0,), (1.0,), (1.0,)),)),
        ReportsReceived(3),
        FinishSession(),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_a_client_says_survives(message: SessionMessage) -> None:
    assert message_from_proto(message_to_proto(message)) == message


def test_a_setup_survives_its_operation() -> None:
    assert setup_from_payload(setup_to_payload(SETUP)) == SETUP


def test_a_report_survives_its_bytes() -> None:
    decision = CycleOutcome(
        5, 5, 100.25, 3.5, (StageReading("risk", 0.0, "stage_error: no"),),
        orders=(OrderReading("ASH", -2.5, None),), no_trade="", detail="",
    )  # fmt: skip
    report = BarReport(
        4,
        5,
        decision,
        (OrderPlaced(1, "ASH", -2.5, 9.0), OrderPlaced(2, "OAK", 1.0, None)),
        (OrderEnded(1, "filled"),),
        (FillMade(1, "ASH", -2.5, 9.0, 0.1, 99.75),),
        (PositionHeld("ASH", -2.5, 9.0), PositionHeld("OAK", 1.0, None)),
        100.25,
        3.5,
    )
    assert report_from_bytes(report_to_bytes(report)) == report
    assert answer_from_proto(answer_to_proto(report)) == report
    opened = SessionOpened("operations/abcd-1", 5)
    assert answer_from_proto(answer_to_proto(opened)) == opened


def start_of(**changes: object) -> pb.PaperSessionRequest:
    message = message_to_proto(StartSession(str(uuid.UUID(int=7)), SETUP))
    for name, value in changes.items():
        message.start.ClearField(name)  # type: ignore[arg-type]
        message.start.MergeFrom(pb.PaperStart(**{name: value}))  # type: ignore[arg-type]
    return message


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.PaperSessionRequest(), ["part"]),
        (start_of(request_id="7"), ["start.request_id"]),
        (start_of(symbols=[]), ["start.symbols"]),
        (start_of(symbols=["A"] * 2_001), ["start.symbols"]),
        (start_of(symbols=["A", ""]), ["start.symbols"]),
        (
            start_of(event_sources=[{"name": "a"}, {"name": "a", "columns": ["x", "x"]}]),
            ["start.event_sources", "start.event_sources[a].columns"],
        ),
        (start_of(bar_spacing={"seconds": -1}), ["start.bar_spacing"]),
        (
            pb.PaperSessionRequest(resume={"operation": "x", "received_number": -1}),
            ["resume.operation", "resume.received_number"],
        ),
        (pb.PaperSessionRequest(bars={}), ["bars.bars"]),
        (
            pb.PaperSessionRequest(bars={"bars": [{"number": 3, "time": {"nanos": -1}}]}),
            ["bars.bars[3].time"],
        ),
        (
            pb.PaperSessionRequest(bars={"bars": [{"number": 3, "open": [1.0] * 2_001}]}),
            ["bars.bars[3].open"],
        ),
    ],
    ids=[
        "nothing", "request_id", "no-symbol", "many-symbols", "empty-symbol", "sources", "spacing",
        "resume", "no-bars", "time", "many-prices",
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(message: pb.PaperSessionRequest, fields: list[str]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        message_from_proto(message)
    assert [each.field for each in refused.value.violations] == fields
