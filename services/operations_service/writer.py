"""The one writer of the file: a thread that commits many commands with one sync of the disk.

Commands wait in a bounded queue. The writer takes all that wait, runs them in one transaction,
commits, publishes, and only then answers each. A caller that goes away in between changes nothing:
the command runs, and its request_id or batch_number answers the retry.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog

from backlane.clock import Clock
from backlane.errors import BacklaneError, LimitExceededError, StoreUnavailableError
from backlane.operations.lease import Instant, LeaseTerms
from operations_service import statements
from operations_service.transaction import Memory, Transaction, load_memory

_T = TypeVar("_T")
Command = Callable[[Transaction], _T]
# The type of an answer is that of its own command, which a queue of many cannot express.
Answer = Any

BATCH_COMMANDS_MAX = 512
"""Commands in one transaction."""

QUEUE_COMMANDS_MAX = 10_000
"""Commands that wait; one more is refused, to be tried again."""

QUEUE_RETRY_DELAY_S = 0.25
OUTAGE_RETRY_DELAY_S = 1.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    command: Command[Answer]
    answer: "asyncio.Future[Answer]"


@dataclass(frozen=True, slots=True)
class _Applied:
    """What became of a batch: an answer or an error for each command, and what to publish."""

    answers: list[Answer | Exception]
    transactions: list[Transaction]


class Writer:
    """Applies commands in groups; `publish` hears of each transaction that was committed."""

    def __init__(
        self,
        engine: sa.Engine,
        clock: Clock,
        terms: LeaseTerms,
        publish: Callable[[Transaction], None],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._terms = terms
        self._publish = publish
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(QUEUE_COMMANDS_MAX)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="operations-writer")
        self._task: asyncio.Task[None] | None = None
        self._is_stale = False
        self._is_closed = False
        self.memory = Memory()

    def load(self) -> None:
        """Reads the memory from the file; blocks, so it is for the start."""
        with self._engine.begin() as connection:
            now = Instant.of(self._clock)
            self.memory = load_memory(connection, self._terms, now, self.memory.held)

    async def submit(self, command: Command[_T]) -> _T:
        """Runs a command in a transaction and returns its answer once that is on the disk.

        Raises:
            LimitExceededError: too many commands wait already.
            StoreUnavailableError: the disk refused it, or the store is closed.

        """
        if self._is_closed:
            raise _closed()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        waiting: _Waiting = _Waiting(command, asyncio.get_running_loop().create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise LimitExceededError(
                f"{QUEUE_COMMANDS_MAX} writes wait for the disk; try again in a moment.",
                metadata={"limit_name": "store_queue", "limit": str(QUEUE_COMMANDS_MAX)},
                retry_delay_s=QUEUE_RETRY_DELAY_S,
            ) from error
        answer: _T = await waiting.answer
        return answer

    async def close(self) -> None:
        """Runs the commands that wait, and ends."""
        self._is_closed = True
        if self._task is not None:
            await self._queue.put(None)
            await self._task
        self._thread.shutdown()

    async def _run(self) -> None:
        try:
            while batch := await self._next_batch():
                await self._apply_and_answer(batch)
        finally:
            self._is_closed = True
            while not self._queue.empty():
                left = self._queue.get_nowait()
                if left is not None:
                    _answer([left], [_closed()])

    async def _next_batch(self) -> list[_Waiting]:
        """Returns all commands that wait, at least one; none at the end."""
        batch: list[_Waiting] = []
        while not batch or not (self._queue.empty() or len(batch) == BATCH_COMMANDS_MAX):
            waiting = await self._queue.get()
            if waiting is None:
                break
            batch.append(waiting)
        return batch

    async def _apply_and_answer(self, batch: list[_Waiting]) -> None:
        commands = [waiting.command for waiting in batch]
        loop = asyncio.get_running_loop()
        applied = await loop.run_in_executor(self._thread, self._apply, commands)
        for transaction in applied.transactions:
            self._publish(transaction)
        _answer(batch, applied.answers)

    def _apply(self, commands: Sequence[Command[Answer]]) -> _Applied:
        try:
            if self._is_stale:
                self.load()
                self._is_stale = False
            return self._commit(commands)
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: it goes to the caller
            if is_outage(error):
                # The commit may have reached the disk all the same: look before the next batch.
                self._is_stale = True
                _log.error("store_unavailable", error=str(error), commands=len(commands))
                return _Applied([unavailable(error)] * len(commands), [])
            if len(commands) == 1:
                return _Applied([error], [])
        # A command broke after it had begun to write: run each alone, so that it fails alone.
        alone = [self._apply([command]) for command in commands]
        return _Applied(
            [answer for applied in alone for answer in applied.answers],
            [transaction for applied in alone for transaction in applied.transactions],
        )

    def _commit(self, commands: Sequence[Command[Answer]]) -> _Applied:
        answers: list[Answer | Exception] = []
        with self._engine.begin() as connection:
            transaction = Transaction(connection, self.memory, self._clock)
            for command in commands:
                try:
                    answers.append(command(transaction))
                except BacklaneError as error:
                    answers.append(error)
            if transaction.has_events:
                revision = {"revision": transaction.revision}
                connection.execute(statements.UPDATE_REVISION, revision)
        transaction.fold()
        return _Applied(answers, [transaction])


def _answer(waiting: Sequence[_Waiting], answers: Sequence[Answer | Exception]) -> None:
    for one, answer in zip(waiting, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)


def is_outage(error: Exception) -> bool:
    """Whether the store failed: the disk, the file or a lock, and not the statement."""
    return isinstance(error, sa.exc.DatabaseError) and not isinstance(
        error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError
    )


def unavailable(error: Exception) -> StoreUnavailableError:
    """Returns what a caller is told about an outage."""
    cause = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
    return StoreUnavailableError(
        f"The operations store cannot be used: {cause}. A write may or may not have been taken; "
        "repeating it is safe.",
        metadata={"cause": cause},
        retry_delay_s=OUTAGE_RETRY_DELAY_S,
    )


def _closed() -> StoreUnavailableError:
    return StoreUnavailableError(
        "The operations store is closed: the server is going down. Try again in a second.",
        retry_delay_s=OUTAGE_RETRY_DELAY_S,
    )
