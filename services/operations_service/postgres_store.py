"""The PostgreSQL store: one registry for any number of replicas of operations_service."""

import asyncio
from typing import Any

import sqlalchemy as sa
import structlog

from backlane.clock import Clock
from backlane.errors import BacklaneError
from backlane.operations.lease import LeaseTerms
from operations_service.follower import Follower
from operations_service.postgres_database import PostgresDatabase
from operations_service.sql_store import SqlOperationStore

_log = structlog.get_logger(__name__)


class PostgresOperationStore(SqlOperationStore):
    """Keeps operations in a schema of PostgreSQL, beside other stores on the same one."""

    def __init__(self, url: sa.URL, clock: Clock, terms: LeaseTerms, **options: Any) -> None:
        database = PostgresDatabase(url)
        super().__init__(database, clock, terms, **options)
        self._follower = Follower(
            database, lambda: self._writer.memory.change_number, self._look_soon
        )
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the database, and begins to follow what others write."""
        await super().start()
        self._follower.start()

    async def stop(self) -> None:
        """Stops following, finishes the writes that were asked for, and lets go of everything."""
        await self._follower.stop()
        if self._looking is not None:
            await self._looking
        await super().stop()

    def _look_soon(self) -> None:
        """Catches up, unless that is being done."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._catch_up())

    async def _catch_up(self) -> None:
        try:
            await self._writer.look()
        except BacklaneError as error:
            # Whoever asks for something hears of it; the next look comes soon.
            _log.warning("follow_failed", reason=error.reason, error=error.message)
