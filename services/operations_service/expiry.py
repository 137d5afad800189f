"""The scanner: the one authority that says that a time is over: of a lease, an attempt, a wait."""

import asyncio

import structlog

from backlane.errors import BacklaneError
from backlane.operations.store import OperationStore

_log = structlog.get_logger(__name__)


class ExpiryScanner:
    """Looks for what is overdue every `interval_s`, from start to stop."""

    def __init__(self, store: OperationStore, interval_s: float) -> None:
        self._store = store
        self._interval_s = interval_s
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins; the first look comes after one interval."""
        self._task = asyncio.create_task(self._run(), name="lease expiry")

    async def stop(self) -> None:
        """Ends between two looks."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            try:
                changed = await self._store.expire_lapsed()
            except BacklaneError as error:
                # A store that cannot be written now may be later; health tells of it meanwhile.
                _log.warning("expiry_failed", reason=error.reason, error=error.message)
                continue
            for name in changed:
                _log.warning("operation_overdue", operation=name)
