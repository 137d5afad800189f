"""The one writer of a store: a thread that commits many commands with one sync of the disk.

Commands wait in a bounded queue. The writer takes all that wait, runs them in one transaction,
commits, publishes, and only then answers each. A caller that goes away in between changes nothing:
the command runs, and its request_id or batch_number answers the retry.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from backlane import failpoints
from backlane.clock import Clock
from backlane.errors import BacklaneError, LimitExceededError, StoreUnavailableError
from backlane.operations.lease import Instant, LeaseTerms
from backlane.operations.retention import RetentionPolicy
from operations_service import statements
from operations_service.database import OUTAGE_RETRY_DELAY_S, Database, Session
from operations_service.memory import Memory, News, catch_up
from operations_service.transaction import Transaction

_T = TypeVar("_T")
Command = Callable[[Transaction], _T]
# The type of an answer is that of its own command, which a queue of many cannot express.
Answer = Any

BATCH_COMMANDS_MAX = 512
"""Commands in one transaction."""

QUEUE_COMMANDS_MAX = 10_000
"""Commands that wait; one more is refused, to be tried again."""

QUEUE_RETRY_DELAY_S = 0.25

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Waiting:
    command: Command[Answer] | None
    """None asks for nothing but a look at what others have written."""
    answer: "asyncio.Future[Answer]"


class Writer:
    """Applies commands in groups; `publish` hears of what became durable, and `wake` after it.

    `publish` is called in the order of commit, before the callers have their answers; `wake` once
    they have.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        terms: LeaseTerms,
        retention: RetentionPolicy,
        publish: Callable[[News], None],
        wake: Callable[[], None],
    ) -> None:
        self.memory = Memory()
        self._database = database
        self._clock = clock
        self._terms = terms
        self._retention = retention
        self._publish = publish
        self._wake = wake
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(QUEUE_COMMANDS_MAX)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="operations-writer")
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._news: list[News] = []
        self._is_closed = False

    def load(self) -> None:
        """Reads the memory from the database; blocks, so it is for the start."""
        self._look(self._connected())
        self._news.clear()

    async def submit(self, command: Command[_T]) -> _T:
        """Runs a command in a transaction and returns its answer once that is on the disk.

        Raises:
            LimitExceededError: too many commands wait already.
            StoreFullError: there is no room for it.
            StoreUnavailableError: the database refused it, or the store is closed.

        """
        answer: _T = await self._enqueue(command)
        return answer

    async def look(self) -> None:
        """Catches up with what others have written; raises as `submit` does."""
        await self._enqueue(None)

    async def close(self) -> None:
        """Runs the commands that wait, and ends."""
        self._is_closed = True
        if self._task is not None:
            await self._queue.put(None)
            await self._task
        self._thread.shutdown()
        self._disconnect()

    def _enqueue(self, command: Command[Answer] | None) -> "asyncio.Future[Answer]":
        if self._is_closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._task is None:
            self._task = loop.create_task(self._run())
        waiting = _Waiting(command, loop.create_future())
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull as error:
            raise LimitExceededError(
                f"{QUEUE_COMMANDS_MAX} writes wait for the disk; try again in a moment.",
                metadata={"limit_name": "store_queue", "limit": str(QUEUE_COMMANDS_MAX)},
                retry_delay_s=QUEUE_RETRY_DELAY_S,
            ) from error
        return waiting.answer

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
        waiting = await self._queue.get()
        # Calls that have arrived, and are not here yet, come along: fewer and larger commits.
        await asyncio.sleep(0)
        batch: list[_Waiting] = []
        while waiting is not None:
            batch.append(waiting)
            if self._queue.empty() or len(batch) == BATCH_COMMANDS_MAX:
                break
            waiting = self._queue.get_nowait()
        else:
            if batch:
                self._queue.put_nowait(None)
        return batch

    async def _apply_and_answer(self, batch: list[_Waiting]) -> None:
        commands = [waiting.command for waiting in batch]
        loop = asyncio.get_running_loop()
        answers = await loop.run_in_executor(self._thread, self._apply, commands)
        news, self._news = self._news, []
        for one in news:
            self._publish(one)
        _answer(batch, answers)
        _reached_without_error("registry.after_ack_before_wake")
        self._wake()

    def _apply(self, commands: Sequence[Command[Answer] | None]) -> list[Answer | Exception]:
        try:
            session = self._connected()
            wanted = [command for command in commands if command is not None]
            if not wanted:
                self._look(session)
                return [None] * len(commands)
            answers = iter(self._commit(session, wanted))
            return [None if command is None else next(answers) for command in commands]
        except Exception as error:  # noqa: BLE001 - the boundary of the thread: it goes to the caller
            # Whatever the transaction had done is undone with its connection.
            self._disconnect()
            told = error if isinstance(error, BacklaneError) else self._database.outage(error)
            if told is not None:
                _log.error("store_unavailable", error=str(error), commands=len(commands))
                return [told] * len(commands)
            if len(commands) == 1:
                return [error]
        # A command broke after it had begun to write: run each alone, so that it fails alone.
        return [answer for command in commands for answer in self._apply([command])]

    def _commit(self, session: Session, commands: Sequence[Command[Answer]]) -> list[Any]:
        answers: list[Answer | Exception] = []
        session.say(self._database.begin_write)
        self._catch_up(session, statements.LOCK_REGISTRY)
        transaction = Transaction(
            session, self.memory, self._clock, self._retention, is_shared=self._database.is_shared
        )
        for command in commands:
            try:
                answers.append(command(transaction))
            except BacklaneError as error:
                answers.append(error)
        transaction.flush()
        if not transaction.is_changed:
            session.say("ROLLBACK")
        else:
            self._database.tell_others(session)
            for name in ("store.full", "store.locked", "store.fsync_error"):
                failpoints.reached(name)
            failpoints.reached("registry.before_commit")
            session.say("COMMIT")
            failpoints.reached("registry.after_commit_before_ack")
        self._news.append(transaction.fold())
        return answers

    def _look(self, session: Session) -> None:
        session.say(self._database.begin_look)
        self._catch_up(session, statements.SELECT_REGISTRY)
        session.say("ROLLBACK")

    def _catch_up(self, session: Session, query: Any) -> None:
        (registry,) = session.rows(query)
        now = Instant.of(self._clock)
        news = catch_up(session, registry, self.memory, self._terms, now)
        if news is not None:
            self._news.append(news)

    def _connected(self) -> Session:
        if self._session is None:
            self._session = self._database.connect()
        return self._session

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _reached_without_error(name: str) -> None:
    try:
        failpoints.reached(name)
    except failpoints.FailpointError:
        # The writes are durable and told already: nobody is left to hear of an error.
        _log.warning("failpoint", name=name)


def _answer(waiting: Sequence[_Waiting], answers: Sequence[Answer | Exception]) -> None:
    for one, answer in zip(waiting, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)


def _closed() -> StoreUnavailableError:
    return StoreUnavailableError(
        "The operations store is closed: the server is going down. Try again in a second.",
        retry_delay_s=OUTAGE_RETRY_DELAY_S,
    )
