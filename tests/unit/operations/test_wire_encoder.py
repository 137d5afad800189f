"""Messages of watches, put together from parts: the same as when they are encoded whole."""

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.operations.events import MetricPoint, MetricsAppended, Note, OperationEvent
from backlane.operations.operation import Operation, Payload, Progress, State
from backlane.operations.watching import Phase, WatchMessage
from backlane.wire.operations import watch_message_to_proto
from backlane.wire.watch_encoder import ByteCache, WatchEncoder

NAME = "operations/0123456789abcdef"
OPERATION = Operation(NAME, "uid", "a.b", State.RUNNING, Payload("t", b"x"), 1)
EVENTS = (
    OperationEvent(NAME, 1, 1, 5, Note("hello"), 11),
    OperationEvent(NAME, 2, 1, 6, MetricsAppended((MetricPoint("equity", 1, -0.0),)), 12),
)
MESSAGES = [
    WatchMessage(Phase.SNAPSHOT, 0, 0, "", 9, operations=(OPERATION, OPERATION)),
    WatchMessage(Phase.SYNCED, 3, 10, "token", 9),
    WatchMessage(Phase.LIVE, 10, 12, "token-12", 9, events=EVENTS),
    WatchMessage(Phase.LIVE, 12, 12, "token-12", 9, progress={NAME: Progress(3, 1, 2, "bar")}),
    WatchMessage(
        Phase.LIVE, 10, 12, "token-12", 9, EVENTS, progress={NAME: Progress(1), "b": Progress(2)}
    ),
    WatchMessage(Phase.DRAINING, 12, 12, "token-12", 9),
]


def test_the_bytes_mean_the_same_message_each_time() -> None:
    encoder = WatchEncoder()
    for message in (*MESSAGES, *MESSAGES):
        decoded = pb.WatchOperationsResponse.FromString(encoder.encode(message))
        assert decoded == watch_message_to_proto(message)


def test_readers_at_one_place_share_the_bytes_and_others_the_events() -> None:
    encoder = WatchEncoder()
    message = MESSAGES[2]
    assert encoder.encode(message) is encoder.encode(message)
    other = WatchMessage(Phase.LIVE, 11, 12, "other-12", 9, events=EVENTS[1:])
    assert encoder.encode(other) != encoder.encode(message)
    assert len(encoder._parts._entries) == 2


def test_a_bookmark_always_tells_the_time_of_its_own() -> None:
    encoder = WatchEncoder()
    times = []
    for now_ns in (1_000_000_000, 2_000_000_000):
        bookmark = WatchMessage(Phase.LIVE, 12, 12, "token-12", now_ns)
        decoded = pb.WatchOperationsResponse.FromString(encoder.encode(bookmark))
        times.append(decoded.server_time.seconds)
    assert times == [1, 2]


def test_a_cache_keeps_what_was_asked_for_last_within_its_bytes() -> None:
    cache, made = ByteCache(10), []

    def get(key: str) -> bytes:
        return cache.get(key, lambda: made.append(key) or b"x" * 4)  # type: ignore[func-returns-value]

    for key in ("a", "b", "a", "c", "a", "b"):
        get(key)
    assert made == ["a", "b", "c", "b"]
    assert cache.get("large", lambda: b"x" * 11) == b"x" * 11
    assert "large" not in cache._entries
