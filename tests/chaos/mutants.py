"""Defects to be found by the named cases; also a pytest plugin that applies one.

`CHAOS_MUTANT=name pytest -p tests.chaos.mutants ...` runs tests with that defect in this process.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from backlane.operations import checkpoints, tokens, transitions
from backlane.operations.checkpoints import CheckpointReply
from backlane.operations.operation import State
from backlane.operations.store import EventPage
from backlane.operations.transitions import Change
from backlane.rpc import channel, status_details
from backlane.sources.checkpoints import CheckpointFiles
from tests.proofs.mutants import MUTANTS as CORE

Install = Callable[[pytest.MonkeyPatch], None]
MUTANTS: dict[str, Install] = {
    name: CORE[name] for name in ("fence_ignores_epoch", "cancelled_one_is_queued_again")
}


def mutant(install: Install) -> Install:
    """Enters a defect under the name of its function."""
    MUTANTS[install.__name__] = install
    return install


def pytest_sessionstart(session: pytest.Session) -> None:
    """Applies the defect that the environment names, for the whole session."""
    patch = pytest.MonkeyPatch()
    MUTANTS[os.environ["CHAOS_MUTANT"]](patch)
    session.config.add_cleanup(patch.undo)


@mutant
def bookmark_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """A message says the newest revision of the log, whatever has been read."""
    from operations_service import watch

    live = watch._Reader.live

    def hasty(self: Any, progress: Any) -> Any:
        message = live(self, progress)
        return replace(message, through_revision=message.through_revision + 1)

    patch.setattr(watch._Reader, "live", hasty)


def _shifted_token(patch: pytest.MonkeyPatch, shift: int) -> None:
    from operations_service import watch

    def token(self: Any) -> str:
        place = max(0, self.read_revision + shift)
        return str(tokens.ResumeToken(self.registry_uid, place, self.digest))

    patch.setattr(watch._Reader, "token", token)


@mutant
def token_is_behind(patch: pytest.MonkeyPatch) -> None:
    """Who comes back is told again what was told already."""
    _shifted_token(patch, -1)


@mutant
def token_is_ahead(patch: pytest.MonkeyPatch) -> None:
    """Who comes back misses what came next."""
    _shifted_token(patch, 1)


@mutant
def token_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """Any token leads somewhere."""
    patch.setattr(tokens.ResumeToken, "check", lambda *_: None)


@mutant
def page_skips_its_edge(patch: pytest.MonkeyPatch) -> None:
    """A page that is not the last one leaves out its last event, and says that it has it."""
    from operations_service import sql_store

    read = sql_store.SqlOperationStore.read_events

    async def skipping(self: Any, selection: Any, after: int) -> EventPage:
        page = await read(self, selection, after)
        is_cut = page.through_revision < self.revision and len(page.events) > 1
        return replace(page, events=page.events[:-1]) if is_cut else page

    patch.setattr(sql_store.SqlOperationStore, "read_events", skipping)


@mutant
def compacted_log_reads_on(patch: pytest.MonkeyPatch) -> None:
    """Who asks for what is gone gets what is left."""
    from operations_service import queries, sql_store

    read = sql_store.SqlOperationStore.read_events

    async def reading_on(self: Any, selection: Any, after: int) -> EventPage:
        return await read(self, selection, max(after, self._oldest_revision))

    patch.setattr(sql_store.SqlOperationStore, "read_events", reading_on)
    original = queries.read_events

    def left(session: Any, selection: Any, after: int, through: int) -> EventPage:
        from backlane.errors import ResumeTokenCompactedError

        try:
            return original(session, selection, after, through)
        except ResumeTokenCompactedError:
            return EventPage((), through)

    patch.setattr(queries, "read_events", left)


@mutant
def prediction_goes_on_alone(patch: pytest.MonkeyPatch) -> None:
    """Nobody tells a prediction that its caller has gone."""
    import threading

    event: Any = threading.Event
    patch.setattr(event, "set", _deaf(event.set))


_TOLD_BY = ("model_service.compute", "run")


def _deaf(original: Any) -> Any:
    import sys

    def set_unless_caller_is_gone(self: Any) -> None:
        caller = sys._getframe(1)
        # The end of the service still ends its threads: else the process would never.
        if (caller.f_globals.get("__name__"), caller.f_code.co_name) != _TOLD_BY:
            original(self)

    return set_unless_caller_is_gone


@mutant
def request_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The same request makes another operation."""
    from operations_service import commands

    patch.setattr(commands, "_made_before", lambda *_: None)


@mutant
def claim_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The same claim takes another operation."""
    from operations_service import commands

    patch.setattr(commands, "_is_answer", lambda *_: False)


@mutant
def nothing_is_overdue(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for leases that have lapsed."""
    from operations_service import commands

    patch.setattr(commands, "expire_lapsed", lambda *_: ())


@mutant
def terminal_state_reopens_by_cancel(patch: pytest.MonkeyPatch) -> None:
    """A cancel that comes too late ends what has ended once more."""
    original = transitions.request_cancel

    def request_cancel(operation: Any, reason: str, now: Any) -> Change:
        if operation.state is State.SUCCEEDED:
            operation = replace(operation, state=State.QUEUED)
        return original(operation, reason, now)

    patch.setattr(transitions, "request_cancel", request_cancel)


@mutant
def reader_is_waited_for_ever(patch: pytest.MonkeyPatch) -> None:
    """A reader may stand still for as long as it likes."""
    from operations_service import servicer

    async def write(reader: Any, message: Any, *_: Any, **__: Any) -> None:
        await reader.write(message)

    patch.setattr(servicer, "write_in_time", write)


@mutant
def checkpoint_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The same checkpoint again is a mistake."""
    original = checkpoints.commit

    def commit(operation: Any, epoch: int, checkpoint: Any, now: Any) -> Any:
        change, reply = original(operation, epoch, checkpoint, now)
        if not change.events:
            raise checkpoints._out_of_order(operation, checkpoint, 0)
        return change, CheckpointReply(reply.checkpoint, reply.dropped)

    patch.setattr(checkpoints, "commit", commit)


@mutant
def checkpoint_is_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A file is what it is."""
    patch.setattr(CheckpointFiles, "read", lambda self, one: self._path_of(one.uri).read_bytes())


@mutant
def folder_is_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Any number of servers may write to one file."""
    from operations_service import data_lock

    patch.setattr(data_lock.DataLock, "acquire", lambda _: None)


@mutant
def nobody_looks_by_himself(patch: pytest.MonkeyPatch) -> None:
    """Only a notification makes a replica look."""
    from operations_service import follower

    patch.setattr(follower, "POLL_INTERVAL_S", 60.0)


@mutant
def registry_row_is_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Two replicas may count revisions at once."""
    from operations_service import statements

    patch.setattr(statements, "LOCK_REGISTRY", statements.SELECT_REGISTRY)


@mutant
def details_have_no_limit(patch: pytest.MonkeyPatch) -> None:
    """An error may be as large as it likes."""
    patch.setattr(status_details, "DETAILS_BYTES_MAX", 1 << 20)
    patch.setattr(status_details, "_TEXT_BYTES_STEPS", (1 << 20,))


@mutant
def proxy_is_asked(patch: pytest.MonkeyPatch) -> None:
    """Loopback is as far away as any place."""
    patch.setattr(channel, "is_local", lambda _: False)
