"""Carries out single cycles: in a process of its own, one after the other, in bounded time."""

import asyncio

import structlog

from backlane.backtest.cycle_outcome import CycleOutcome, CycleRequest
from backlane.errors import CallTimeoutError, LimitExceededError, WorkerLostError
from backlane.rpc.error_catalog import error_from_parts
from backtest_service.messages import (
    CycleDecided,
    NoteWritten,
    RunFailed,
    StartCycle,
    WorkerSetup,
)
from backtest_service.portfolio_validation import PortfolioValidator
from backtest_service.worker import Worker, WorkerDied

WAITING_MAX = 8
"""Calls that wait or run; one more is refused with LIMIT_EXCEEDED."""
CYCLE_S_MAX = 60.0
"""Longest time that a cycle may take, the start of the process not counted."""
RETRY_DELAY_S = 1.0

_log = structlog.get_logger(__name__)


class CycleDesk:
    """Decides once, as of a time, on files that were uploaded.

    The process is started with the first call, and stays; whatever a strategy does to it happens to
    that one call alone.
    """

    def __init__(
        self, validator: PortfolioValidator, setup: WorkerSetup, *, start_timeout_s: float
    ) -> None:
        self._validator = validator
        self._setup = setup
        self._start_timeout_s = start_timeout_s
        self._worker: Worker | None = None
        self._waiting = 0
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """Does nothing: the first call starts the process."""

    async def stop(self) -> None:
        """Ends the process, whatever it is doing."""
        if self._worker is not None:
            await self._worker.close()

    async def decide(self, request: CycleRequest) -> CycleOutcome:
        """Returns what the cycle decided.

        Raises what PortfolioValidator.validate raises and what reading the files raises;
        LimitExceededError while too many calls wait; CallTimeoutError after CYCLE_S_MAX; and
        WorkerLostError when its process died.
        """
        await self._validator.validate(request.portfolio)
        if self._waiting >= WAITING_MAX:
            raise LimitExceededError(
                f"{WAITING_MAX} cycles wait already: ask again in a moment.",
                metadata={"limit": "WAITING_MAX", "maximum": str(WAITING_MAX)},
                retry_delay_s=RETRY_DELAY_S,
            )
        self._waiting += 1
        try:
            async with self._turn:
                return await self._in_turn(request)
        finally:
            self._waiting -= 1

    async def _in_turn(self, request: CycleRequest) -> CycleOutcome:
        if self._worker is None:
            self._worker = Worker(self._setup, start_timeout_s=self._start_timeout_s)
        worker = self._worker
        try:
            await worker.ensure_started()
            async with asyncio.timeout(CYCLE_S_MAX):
                return await _asked(worker, request)
        except TimeoutError as error:
            worker.kill()
            raise CallTimeoutError(
                f"The cycle took longer than {CYCLE_S_MAX:g} s and was ended. Use a shorter panel, "
                "or run a backtest.",
                metadata={"timeout_s": f"{CYCLE_S_MAX:g}"},
            ) from error
        except WorkerDied as died:
            raise WorkerLostError(
                f"The process of the cycle is gone: {died.exit_text}.",
                metadata={"exit": died.exit_text},
            ) from died
        except asyncio.CancelledError:
            worker.kill()  # the caller is gone, and its answer is not to be that of the next one
            raise


async def _asked(worker: Worker, request: CycleRequest) -> CycleOutcome:
    await worker.send(StartCycle(request))
    while True:
        match await worker.receive():
            case CycleDecided(outcome):
                return outcome
            case RunFailed(reason, message, metadata, violations):
                raise error_from_parts(reason, message, metadata, violations=violations)
            case NoteWritten(text):
                _log.info("note", text=text)
