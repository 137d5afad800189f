"""Places at which a test can make the real system fail: killed, slow, or with an error.

Nothing is armed unless a test says so, and then `reached` costs one look at an empty dict. What is
armed comes as text, `name=action` separated by `;`, such as
`registry.before_commit=kill@3;store.full=error`. Actions: `kill` ends the process as SIGKILL does,
`error` raises FailpointError, `sleep:SECONDS` blocks. `@N` fires at the N-th time alone, else at
every time. Each time is told to `hits_file` in one appended line, so that a test can prove that
its failure took place.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

NAMES = frozenset(
    {
        "registry.before_commit",
        "registry.after_commit_before_ack",
        "registry.after_ack_before_wake",
        "watch.before_send",
        "watch.between_snapshot_and_live",
        "watch.page_edge",
        "compaction.before_delete",
        "compaction.after_delete",
        "lease.before_grant",
        "lease.after_grant_before_ack",
        "lease.before_expire",
        "lease.after_expire",
        "checkpoint.blob_written",
        "checkpoint.full",
        "checkpoint.after_commit_before_ack",
        "complete.after_commit_before_ack",
        "drain.after_not_serving",
        "store.fsync_error",
        "store.full",
        "store.locked",
        "worker.slice_simulated",
    }
)
"""Every failpoint that exists; a name that is not here cannot be armed or reached."""


class FailpointError(Exception):
    """What an armed failpoint with the action `error` raises."""


@dataclass(slots=True)
class _Armed:
    action: str
    argument: float
    fires_at: int | None
    count: int = 0


_armed: dict[str, _Armed] = {}
_hits_file: Path | None = None


def arm(text: str, hits_file: Path | None = None) -> None:
    """Arms the failpoints that the text names; the empty text disarms all.

    Raises:
        ValueError: a name or an action that does not exist.

    """
    global _hits_file  # noqa: PLW0603 - a process has one set of failpoints
    _armed.clear()
    _hits_file = hits_file
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, _, what = part.partition("=")
        action, _, at = what.partition("@")
        action, _, argument = action.partition(":")
        if name not in NAMES or action not in {"kill", "error", "sleep"}:
            raise ValueError(f"no failpoint or action like {part!r}; failpoints: {sorted(NAMES)}")
        _armed[name] = _Armed(action, float(argument or 0), int(at) if at else None)


def reached(name: str) -> None:
    """Does what the failpoint is armed with, most often nothing.

    Raises:
        FailpointError: it is armed with `error`.

    """
    if not _armed:
        return
    armed = _armed.get(name)
    if armed is None:
        return
    armed.count += 1
    if armed.fires_at is not None and armed.count != armed.fires_at:
        return
    _tell(name)
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "sleep":
        time.sleep(armed.argument)
    if armed.action == "error":
        raise FailpointError(name)


def _tell(name: str) -> None:
    if _hits_file is None:
        return
    # One write of one line in append mode: processes may share the file.
    with _hits_file.open("ab", buffering=0) as file:
        file.write(f"{name}\n".encode())
