"""Writing to a reader who may have stopped reading."""

import asyncio
from typing import Protocol, TypeVar

from backlane.errors import SlowConsumerError

ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)


class Reader(Protocol[ResponseT_contra]):
    """The side of a call that responses are written to."""

    async def write(self, message: ResponseT_contra) -> None:
        """Returns once the message is on its way; waits while the reader's window is full."""
        ...


async def write_in_time(
    reader: Reader[ResponseT_contra],
    message: ResponseT_contra,
    timeout_s: float,
    resume_token: str = "",
) -> None:
    """Writes one message.

    Raises:
        SlowConsumerError: the reader took nothing for `timeout_s`; `resume_token` is that of the
            last message that it was sent.

    """
    try:
        async with asyncio.timeout(timeout_s):
            await reader.write(message)
    except TimeoutError as error:
        raise SlowConsumerError(
            f"Nothing was read from the stream for {timeout_s:g} s. "
            "Resume with the last token, and read faster.",
            metadata={"resume_token": resume_token, "timeout_s": f"{timeout_s:g}"},
            retry_delay_s=1.0,
        ) from error
