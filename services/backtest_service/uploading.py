"""Receives the files of clients: bounded in size, in number and in time."""

import asyncio
import errno
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from backlane.clock import Clock
from backlane.errors import (
    CallTimeoutError,
    InvalidRequestError,
    LimitExceededError,
    PayloadTooLargeError,
    StoreFullError,
)
from backlane.sources.uploads import UploadedFiles, size_violations
from backlane.wire.portfolio_uploads import UploadOpening, UploadPart
from backlane.wire.violations import Violations

UPLOADS_AT_ONCE_MAX = 16
"""One more is refused with LIMIT_EXCEEDED."""
RETRY_DELAY_S = 1.0
STALL_S = 30.0
"""Longest wait for the next part; then the upload is given up."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bytes of one file, and of all that are kept."""

    file_bytes_max: int
    kept_bytes_max: int


@dataclass(frozen=True, slots=True)
class Uploaded:
    """A file that is kept; `was_known` says that it was before, and nothing was read."""

    digest: str
    size_bytes: int
    was_known: bool


class Uploading:
    """Takes files in, part by part."""

    def __init__(self, files: UploadedFiles, limits: UploadLimits, clock: Clock) -> None:
        self._files = files
        self._limits = limits
        self._clock = clock
        self._under_way = 0

    async def missing(self, digests: tuple[str, ...]) -> list[str]:
        """Returns the digests of files that are not kept, in the order given."""
        return await asyncio.to_thread(self._files.missing, digests)

    async def receive(self, parts: AsyncIterator[UploadPart]) -> Uploaded:
        """Returns once the file is on disk for good, or was there before.

        Raises PayloadTooLargeError for one that is too large, UploadDigestMismatchError for bytes
        of another digest, InvalidRequestError for parts out of order or missing,
        LimitExceededError while too many are under way, CallTimeoutError when no part comes for
        STALL_S, and StoreFullError when the disk is full. What was refused leaves nothing.
        """
        opening = self._checked(await _next(parts))
        known = await asyncio.to_thread(self._files.size_bytes, opening.digest)
        if known is not None:
            if known != opening.size_bytes:
                raise InvalidRequestError(
                    f"{opening.digest} has {known} bytes, not {opening.size_bytes}.",
                    violations=size_violations(opening.size_bytes, f"but the file has {known}"),
                )
            return Uploaded(opening.digest, known, was_known=True)
        if self._under_way >= UPLOADS_AT_ONCE_MAX:
            raise LimitExceededError(
                f"{UPLOADS_AT_ONCE_MAX} uploads are under way: send it again in a moment.",
                metadata={"limit": "UPLOADS_AT_ONCE_MAX", "maximum": str(UPLOADS_AT_ONCE_MAX)},
                retry_delay_s=RETRY_DELAY_S,
            )
        self._under_way += 1
        try:
            await self._write(opening, parts)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StoreFullError(
                "The disk has no room for the file: free some, then send it again.",
                metadata={"size_bytes": str(opening.size_bytes)},
            ) from error
        finally:
            self._under_way -= 1
        await self._clear_up()
        return Uploaded(opening.digest, opening.size_bytes, was_known=False)

    async def _write(self, opening: UploadOpening, parts: AsyncIterator[UploadPart]) -> None:
        with self._files.receive(opening.digest, opening.size_bytes) as arrival:
            while (part := await _next(parts)) is not None:
                if isinstance(part, UploadOpening):
                    raise _out_of_order("opening", "comes once, as the first message")
                await asyncio.to_thread(arrival.append, part)
            await asyncio.to_thread(arrival.keep)

    def _checked(self, opening: UploadPart | None) -> UploadOpening:
        if not isinstance(opening, UploadOpening):
            raise _out_of_order("opening", "is missing: it is the first message")
        size, most = opening.size_bytes, self._limits.file_bytes_max
        if size > most:
            raise PayloadTooLargeError(
                f"The file has {size} bytes; at most {most} are taken.",
                metadata={"size_bytes": str(size), "maximum": str(most)},
                violations=size_violations(size, f"above {most}"),
            )
        return opening

    async def _clear_up(self) -> None:
        now_s = self._clock.now_ns() / 1e9
        most = self._limits.kept_bytes_max
        removed = await asyncio.to_thread(self._files.prune, most, now_s)
        if removed:
            _log.info("old uploads removed", count=removed)


async def _next(parts: AsyncIterator[UploadPart]) -> UploadPart | None:
    """Returns the next part, None at the end."""
    try:
        async with asyncio.timeout(STALL_S):
            return await anext(parts, None)
    except TimeoutError as error:
        raise CallTimeoutError(
            f"No part of the file came for {STALL_S:g} s: send it again.",
            metadata={"stall_s": f"{STALL_S:g}"},
        ) from error


def _out_of_order(field: str, description: str) -> InvalidRequestError:
    found = Violations()
    found.add(field, description)
    try:
        found.raise_if_any()
    except InvalidRequestError as error:
        return error
    raise AssertionError("a violation was added")  # pragma: no cover - it was
