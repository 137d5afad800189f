"""Checkpoints of one run, in the supervisor: commits what the worker has written, and clears up."""

import asyncio

import structlog

from backlane.client.workers import AsyncWorkerClient
from backlane.clock import Clock
from backlane.errors import BacklaneError
from backlane.operations.operation import Checkpoint
from backlane.sources.checkpoints import CheckpointFiles
from backtest_service.lease_keeper import HeldLease
from backtest_service.outbox import Outbox, persist

_log = structlog.get_logger(__name__)


class CheckpointCommits:
    """Tells the registry of each checkpoint; removes only files of its own operation's folder."""

    def __init__(
        self,
        client: AsyncWorkerClient,
        lease: HeldLease,
        files: CheckpointFiles,
        outbox: Outbox,
        clock: Clock,
    ) -> None:
        self._client = client
        self._lease = lease
        self._files = files
        self._outbox = outbox
        self._clock = clock

    async def commit(self, checkpoint: Checkpoint) -> None:
        """Returns once it is committed, or never will be; one that was refused is removed."""
        name, epoch = self._lease.operation, self._lease.epoch
        try:
            reply = await persist(
                self._lease,
                lambda: self._client.commit_checkpoint(name, epoch, checkpoint),
                self._clock,
            )
        except BacklaneError as error:
            _log.warning("checkpoint refused", operation=name, reason=error.message)
            self._outbox.note(f"Checkpoint {checkpoint.number} was refused: {error.message}")
            reply = None
        dropped = [checkpoint.uri] if reply is None else [one.uri for one in reply.dropped]
        if reply is None and self._lease.is_lost.is_set():
            # The answer may have been lost alone, and the file be the one to go on from.
            return
        await asyncio.to_thread(self._files.remove, name, dropped)

    async def remove_all(self) -> None:
        """Removes the folder of the operation, which has succeeded."""
        await asyncio.to_thread(self._files.remove_all, self._lease.operation)
