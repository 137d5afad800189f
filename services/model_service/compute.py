"""The threads that torch runs on, apart from the event loop, so that health always answers."""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from backlane.errors import CancelledRunError, ServerDrainingError
from backlane.inference.predictor import Rows


class Compute:
    """A fixed number of threads for predictions.

    How much waits for them is bounded by the calls that the server lets in: each call hands over
    one piece of work and waits for it.
    """

    def __init__(self, *, threads: int, cpu_affinity: tuple[int, ...] = ()) -> None:
        self._threads = threads
        self._cpu_affinity = cpu_affinity
        self._pool: ThreadPoolExecutor | None = None
        self._stopping = threading.Event()

    async def start(self) -> None:
        """Starts the threads and runs torch once on one of them, so that no caller waits for it."""
        self._pool = ThreadPoolExecutor(
            self._threads, thread_name_prefix="predict", initializer=self._enter_thread
        )
        await asyncio.get_running_loop().run_in_executor(self._pool, _touch_torch)

    async def stop(self) -> None:
        """Ends the threads; a prediction under way stops within one step of its progress."""
        self._stopping.set()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, work: Callable[[Callable[[int], None]], Rows]) -> Rows:
        """Runs `work` on a thread. It must call what it is given now and then, with any number.

        When the caller is cancelled, work that waits never runs, and work under way is stopped.
        """
        if self._pool is None:
            raise ServerDrainingError("Predictions have not started yet.", retry_delay_s=1.0)
        gone = threading.Event()

        def stop_when_gone(_: int) -> None:
            if gone.is_set() or self._stopping.is_set():
                raise CancelledRunError("The caller went away, or the server goes down.")

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, partial(work, stop_when_gone))
        finally:
            gone.set()

    def _enter_thread(self) -> None:
        import torch

        torch.set_num_threads(1)
        if self._cpu_affinity:
            os.sched_setaffinity(0, self._cpu_affinity)  # 0 is the calling thread


def _touch_torch() -> None:
    import torch

    torch.nn.functional.linear(torch.zeros(1, 1), torch.zeros(1, 1))
