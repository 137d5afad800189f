"""Waking many waiters at once, within one event loop."""

import asyncio


class Signal:
    """Something that happens again and again, and is counted.

    Whoever reads `count`, looks at the state, and waits for a count beyond the one that was read
    misses nothing, whatever is awaited in between.
    """

    def __init__(self) -> None:
        self._count = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def count(self) -> int:
        """How often it has happened so far."""
        return self._count

    def fire(self) -> None:
        """Counts once more, and wakes everyone who waits."""
        self._count += 1
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, timeout_s: float, *, after: int) -> None:
        """Returns once `count` is above `after`, or after `timeout_s`."""
        if self._count > after:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)
