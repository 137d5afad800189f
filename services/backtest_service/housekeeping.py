"""Clears up checkpoints that nobody will go on from."""

import asyncio

import structlog

from backlane.client.operations import AsyncOperationsClient
from backlane.clock import Clock
from backlane.errors import BacklaneError, OperationNotFoundError
from backlane.operations.operation import State
from backlane.sources.checkpoints import CheckpointFiles

INTERVAL_S = 600.0
"""Seconds between two rounds."""
ORPHAN_AGE_S = 3_600.0
"""A folder younger than this is left alone: whoever wrote it may not have told the registry yet."""
FOLDERS_PER_ROUND_MAX = 200

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Removes the checkpoints of operations that have succeeded, or that the registry forgot."""

    def __init__(
        self, operations: AsyncOperationsClient, files: CheckpointFiles, clock: Clock
    ) -> None:
        self._operations = operations
        self._files = files
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins with a first round."""
        self._task = asyncio.create_task(self._work_forever(), name="housekeeping")

    async def stop(self) -> None:
        """Ends, between two folders."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._operations.close()

    async def _work_forever(self) -> None:
        while True:
            try:
                removed = await self.clear_up()
            except BacklaneError as error:
                _log.debug("not cleared up", reason=error.message)
            except OSError as error:
                _log.warning("not cleared up", reason=str(error))
            else:
                if removed:
                    _log.info("checkpoints of the past removed", count=removed)
            await asyncio.sleep(INTERVAL_S)

    async def clear_up(self) -> int:
        """Makes one round; returns how many folders it removed."""
        before_ns = self._clock.now_ns() - int(ORPHAN_AGE_S * 1e9)
        names = await asyncio.to_thread(self._files.folders, before_ns, FOLDERS_PER_ROUND_MAX)
        removed = 0
        for name in names:
            if await self._is_of_no_use(name):
                await asyncio.to_thread(self._files.remove_all, name)
                removed += 1
        return removed

    async def _is_of_no_use(self, name: str) -> bool:
        try:
            operation = await self._operations.get(name)
        except OperationNotFoundError:
            return True
        return operation.state is State.SUCCEEDED
