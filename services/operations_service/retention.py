"""Retention: what ended long enough ago is removed, a little at a time."""

import asyncio

import structlog

from backlane.errors import BacklaneError
from backlane.operations.selection import Selection
from backlane.operations.store import OperationStore

_EVERYTHING = Selection()

_log = structlog.get_logger(__name__)


class Retention:
    """Removes what the store's policy keeps no longer, every `interval_s`, from start to stop."""

    def __init__(self, store: OperationStore, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; the first look comes after one interval."""
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        """Ends between two transactions."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                count = await self._remove()
            except BacklaneError as error:
                # A store that cannot be written now may be later; health tells of it meanwhile.
                _log.warning("retention_failed", reason=error.reason, error=error.message)
                continue
            if count:
                _log.info("operations_expired", operation_count=count)

    async def _remove(self) -> int:
        count = 0
        while True:
            done = await self._store.compact(self._store.retention.finished_s, _EVERYTHING)
            count += done.operation_count
            if not done.has_more:
                return count
