"""Messages of watches as bytes: each event is encoded once, however many read it.

The encodings of two messages of one type, one after the other, are the encoding of both merged: so
a message is put together from a head and from parts that are shared.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable

from backlane.api.operations.v1 import operations_service_pb2 as pb
from backlane.operations.events import OperationEvent
from backlane.operations.operation import Progress
from backlane.operations.watching import WatchMessage
from backlane.wire.operations import (
    event_to_proto,
    operation_to_proto,
    phase_to_proto,
    progress_to_proto,
)
from backlane.wire.times import timestamp_to_proto

PARTS_BYTES_MAX = 8 << 20
"""Bytes of encoded events and progress that are kept for the next reader."""

MESSAGES_BYTES_MAX = 1 << 20
"""Bytes of whole messages that are kept, for readers who stand at the same place."""


class ByteCache:
    """Bytes by key; those that were not asked for the longest go first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._size_bytes = 0
        self._entries: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], bytes]) -> bytes:
        """Returns the bytes of a key, made now if they are not there."""
        known = self._entries.get(key)
        if known is not None:
            self._entries.move_to_end(key)
            return known
        made = make()
        if len(made) <= self._bytes_max:
            self._entries[key] = made
            self._size_bytes += len(made)
        while self._size_bytes > self._bytes_max:
            self._size_bytes -= len(self._entries.popitem(last=False)[1])
        return made


class WatchEncoder:
    """Encodes the messages of all watches of one server."""

    def __init__(self) -> None:
        self._parts = ByteCache(PARTS_BYTES_MAX)
        self._messages = ByteCache(MESSAGES_BYTES_MAX)

    def encode(self, message: WatchMessage) -> bytes:
        """Returns the bytes of a `WatchOperationsResponse`."""
        if message.events and not (message.progress or message.operations):
            # The token says up to where, and of which selection: it stands for the content.
            key = (message.phase, message.from_revision, message.resume_token)
            return self._messages.get(key, lambda: self._encoded(message))
        return self._encoded(message)

    def _encoded(self, message: WatchMessage) -> bytes:
        head = pb.WatchOperationsResponse(
            phase=phase_to_proto(message.phase),
            from_revision=message.from_revision,
            through_revision=message.through_revision,
            resume_token=message.resume_token,
            operations=map(operation_to_proto, message.operations),
            server_time=timestamp_to_proto(message.server_time_ns),
        )
        parts = [head.SerializeToString()]
        parts.extend(map(self._event, message.events))
        parts.extend(self._progress(name, one) for name, one in message.progress.items())
        return b"".join(parts)

    def _event(self, event: OperationEvent) -> bytes:
        def encoded() -> bytes:
            return pb.WatchOperationsResponse(events=[event_to_proto(event)]).SerializeToString()

        return self._parts.get(event.revision, encoded)

    def _progress(self, name: str, progress: Progress) -> bytes:
        def encoded() -> bytes:
            entry = {name: progress_to_proto(progress)}
            return pb.WatchOperationsResponse(progress=entry).SerializeToString()

        return self._parts.get((name, progress), encoded)
