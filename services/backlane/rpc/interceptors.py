"""The boundary of every call: what a servicer raises leaves as a status, or not at all.

Bytes come in and bytes go out: decoding, the servicer and encoding all run inside the boundary, so
that no exception text reaches a caller on a way round it.
"""

import asyncio
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, NoReturn

import grpc
import structlog
from google.protobuf.message import DecodeError

from backlane.clock import Clock
from backlane.errors import BacklaneError, InternalError, InvalidRequestError, ServerDrainingError
from backlane.rpc.admission import DRAINING_RETRY_DELAY_S, Admission, is_infrastructure
from backlane.rpc.callers import caller
from backlane.rpc.error_catalog import DETAILS_KEY, to_status
from backlane.rpc.status_details import MESSAGE_BYTES_MAX, cut_text

PUSHBACK_KEY = "grpc-retry-pushback-ms"
"""Trailer by which a server tells the retry policy of the caller's channel how long to wait."""

# grpc gives the behaviours, requests and contexts of all methods alike no narrower type.
_Behaviour = Callable[[Any, Any], Any]
_Codec = Callable[[Any], Any]

_log = structlog.get_logger(__name__)
_levels = logging.getLogger(__name__)
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class ErrorBoundary(grpc.aio.ServerInterceptor):
    """Lets calls in by `admission`, maps errors to statuses, and logs each call at debug."""

    def __init__(self, admission: Admission, clock: Clock) -> None:
        self._admission = admission
        self._clock = clock
        self._guarded: dict[str, tuple[object, object]] = {}

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Returns the method's handler inside the boundary; None where there is no such method."""
        original = await continuation(handler_call_details)
        if original is None:
            return None
        method: str = handler_call_details.method
        known, guarded = self._guarded.get(method, (None, None))
        if known is not original:
            guarded = self._guard(method, original)
            self._guarded[method] = (original, guarded)
        return guarded

    def _guard(self, method: str, original: Any) -> Any:
        decode: _Codec = _decoder(method, original.request_deserializer)
        # A stream of requests is decoded one by one as the servicer reads it; a single request
        # would be decoded before the boundary is entered.
        outer, inner = (decode, _unchanged) if original.request_streaming else (None, decode)
        match original.request_streaming, original.response_streaming:
            case False, False:
                behaviour, wrap = original.unary_unary, grpc.unary_unary_rpc_method_handler
            case True, False:
                behaviour, wrap = original.stream_unary, grpc.stream_unary_rpc_method_handler
            case False, True:
                behaviour, wrap = original.unary_stream, grpc.unary_stream_rpc_method_handler
            case _:
                behaviour, wrap = original.stream_stream, grpc.stream_stream_rpc_method_handler
        if inspect.isasyncgenfunction(behaviour):
            guarded = self._guard_generator(
                method, behaviour, inner, original.response_serializer or _unchanged
            )
            return wrap(guarded, request_deserializer=outer)
        if not inspect.iscoroutinefunction(behaviour):
            return wrap(_unimplemented(method), request_deserializer=outer)
        if original.response_streaming:
            guarded = self._guard_writer(method, behaviour, inner)
            return wrap(guarded, outer, _encoder(original.response_serializer))
        guarded = self._guard_unary(
            method, behaviour, inner, original.response_serializer or _unchanged
        )
        return wrap(guarded, request_deserializer=outer)

    def _guard_unary(
        self, method: str, behaviour: _Behaviour, decode: _Codec, encode: _Codec
    ) -> _Behaviour:
        async def answer(request: Any, context: Any) -> bytes:
            async with self._boundary(method, context, streaming=False):
                response: bytes = encode(await behaviour(decode(request), context))
            return response

        return answer

    def _guard_generator(
        self, method: str, behaviour: _Behaviour, decode: _Codec, encode: _Codec
    ) -> _Behaviour:
        async def answer(request: Any, context: Any) -> None:
            async def write_all() -> None:
                # grpc would leave a generator whose reader went away to the garbage collector;
                # closed here, its `finally` runs at once.
                async with aclosing(behaviour(decode(request), context)) as responses:
                    async for response in responses:
                        await context.write(encode(response))

            async with self._boundary(method, context, streaming=True):
                await self._bounded_by_drain(method, write_all)

        return answer

    def _guard_writer(self, method: str, behaviour: _Behaviour, decode: _Codec) -> _Behaviour:
        async def answer(request: Any, context: Any) -> None:
            async with self._boundary(method, context, streaming=True):
                await self._bounded_by_drain(method, lambda: behaviour(decode(request), context))

        return answer

    async def _bounded_by_drain(
        self, method: str, write_all: Callable[[], Awaitable[None]]
    ) -> None:
        """Runs a stream; one of health or reflection no longer than until the drain ends it."""
        if not is_infrastructure(method):
            await write_all()
            return
        writing = asyncio.ensure_future(write_all())
        closing = asyncio.ensure_future(self._admission.closing.wait())
        try:
            await asyncio.wait({writing, closing}, return_when=asyncio.FIRST_COMPLETED)
            if not writing.done():
                raise ServerDrainingError(
                    "The server is going down.", retry_delay_s=DRAINING_RETRY_DELAY_S
                )
            writing.result()
        finally:
            writing.cancel()
            closing.cancel()
            await asyncio.gather(writing, closing, return_exceptions=True)

    @asynccontextmanager
    async def _boundary(self, method: str, context: Any, *, streaming: bool) -> AsyncIterator[None]:
        started_s = self._clock.monotonic_s()
        outcome = "CANCELLED"
        try:
            with self._admission.admitted(method, streaming=streaming, client=caller(context)):
                yield
            outcome = "OK"
        except grpc.aio.BaseError:
            # The servicer has set a status itself, or the caller is gone: nothing to add.
            outcome = "ENDED"
            raise
        except BacklaneError as error:
            outcome = error.reason
            await _abort(context, error)
        except Exception as error:  # noqa: BLE001 - the edge of the process: see the module
            outcome = InternalError.reason
            await _abort(context, _unforeseen(error, method))
        finally:
            # To ask first costs a tenth of a line that is filtered out.
            if _levels.isEnabledFor(logging.DEBUG):
                duration_s = self._clock.monotonic_s() - started_s
                _log.debug("call", method=method, outcome=outcome, duration_s=round(duration_s, 6))


def _unchanged(value: Any) -> Any:
    return value


def _encoder(serializer: _Codec | None) -> _Codec:
    """Returns a serializer that lets bytes pass: what a servicer has encoded once for many."""

    def encode(response: Any) -> Any:
        return (
            response if serializer is None or isinstance(response, bytes) else serializer(response)
        )

    return encode


def _decoder(method: str, deserializer: _Codec | None) -> _Codec:
    def decode(raw: bytes) -> Any:
        if deserializer is None:
            return raw
        try:
            return deserializer(raw)
        except DecodeError as error:
            raise InvalidRequestError(
                f"The {len(raw)} bytes sent to {method} are not the message that it takes; "
                "are both sides built from the same protos?",
                metadata={"method": method, "size_bytes": str(len(raw))},
            ) from error

    return decode


def _unimplemented(method: str) -> _Behaviour:
    """Returns an answer for a method that the servicer inherits from the generated class."""

    async def answer(_request: Any, context: Any) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, f"This server does not implement {method}."
        )

    return answer


def _unforeseen(error: Exception, method: str) -> InternalError:
    """Logs the error under a new id, and returns what the caller may know of it: the id."""
    error_id = uuid.uuid4().hex
    _log.error("unforeseen error", error_id=error_id, method=method, exc_info=error)
    return InternalError(
        f"Something unforeseen happened; the log of the service has it under {error_id}.",
        metadata={"error_id": error_id},
    )


async def _abort(context: Any, error: BacklaneError) -> NoReturn:
    status = to_status(error)
    trailers: list[tuple[str, str | bytes]] = [(DETAILS_KEY, status.SerializeToString())]
    if error.retry_delay_s is not None:
        trailers.append((PUSHBACK_KEY, str(round(error.retry_delay_s * 1000))))
    await context.abort(
        _CODES[status.code], cut_text(status.message, MESSAGE_BYTES_MAX), tuple(trailers)
    )
    raise AssertionError("abort returned")  # pragma: no cover - it always raises
