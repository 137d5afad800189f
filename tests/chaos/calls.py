"""Calls that are repeated until they are answered, as a careful client does."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc

from backlane.errors import BacklaneError
from backlane.rpc.error_catalog import CATALOG

_T = TypeVar("_T")

PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
PAUSE_S = 0.1


def is_passing(error: BacklaneError) -> bool:
    """Whether the same call may succeed later."""
    return CATALOG[type(error)].code in PASSING


def insist(call: Callable[[], _T], deadline_s: float = 120.0) -> _T:
    """Repeats a call until it is answered; raises what will not pass, or lasts too long."""
    ends_s = time.monotonic() + deadline_s
    while True:
        try:
            return call()
        except BacklaneError as error:
            if not is_passing(error) or time.monotonic() > ends_s:
                raise
            time.sleep(max(PAUSE_S, min(error.retry_delay_s or 0.0, 1.0)))


async def insist_async(call: Callable[[], Awaitable[_T]], deadline_s: float = 180.0) -> _T:
    """Does the same on an event loop."""
    ends_s = time.monotonic() + deadline_s
    while True:
        try:
            return await call()
        except BacklaneError as error:
            if not is_passing(error) or time.monotonic() > ends_s:
                raise
            await asyncio.sleep(PAUSE_S)
