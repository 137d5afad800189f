"""A worker of its own: what runs operations in backtest_service, without the service.

It may run on any machine that reaches operations_service and model_service and has the same home
mounted. Nothing registers it: it asks for work, and its lease on a run is all that is known of it.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

import structlog
from pydantic import ValidationError

from backlane.clock import SystemClock
from backlane.errors import BacklaneError
from backlane.rpc.exit_codes import ExitCode
from backlane.rpc.log import configure_logging
from backlane.rpc.main import arm_failpoints, explain, usage
from backlane.rpc.signals import StopSignals
from backtest_service.peers import Peers
from backtest_service.runner import Outlook, build_supervisor
from backtest_service.settings import WorkerSettings

WORKER_NAME = "worker"

_log = structlog.get_logger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Reads the settings, works until a signal, and returns the exit code of the process."""
    if arguments:
        asked = list(arguments) in (["--help"], ["-h"])
        (sys.stdout if asked else sys.stderr).write(usage(WorkerSettings))
        return ExitCode.OK if asked else ExitCode.SETTINGS
    try:
        settings = WorkerSettings()
    except ValidationError as error:
        sys.stderr.write(explain(error, WorkerSettings))
        return ExitCode.SETTINGS
    configure_logging(settings.log_level, settings.log_format)
    arm_failpoints(os.environ)
    if not settings.home_dir.is_dir():
        sys.stderr.write(
            f"{settings.home_dir} is no directory. A worker reads bars and writes results there: "
            "give the home that backtest_service has, with --home or BACKLANE_HOME.\n"
        )
        return ExitCode.SETTINGS
    return asyncio.run(_work(settings))


async def _work(settings: WorkerSettings) -> ExitCode:
    clock = SystemClock()
    signals = StopSignals(clock)
    peers = Peers(
        {
            "operations_service": settings.operations_address,
            "model_service": settings.models_address,
        }
    )
    outlook = Outlook(WORKER_NAME, settings.drain_grace_s, settings.log_level, settings.log_format)
    supervisor, _ = build_supervisor(settings, outlook, peers, clock)
    await supervisor.start()
    _say(
        f"worker of {settings.workers} runs at once for {settings.operations_address}, "
        f"home {settings.home_dir}, process {os.getpid()}; Ctrl-C drains it."
    )
    try:
        await _say_what_is_missing(peers)
        await signals.first.wait()
        _say("Draining: what does not end in time goes back to the queue, with a checkpoint.")
        drain = asyncio.create_task(supervisor.drain())
        force = asyncio.create_task(signals.second.wait())
        await asyncio.wait({drain, force}, return_when=asyncio.FIRST_COMPLETED)
        if not drain.done():
            drain.cancel()
            return ExitCode.FORCED
        force.cancel()
        drain.result()
        return ExitCode.OK
    finally:
        await supervisor.stop()
        await peers.stop()
        signals.ignore()


async def _say_what_is_missing(peers: Peers) -> None:
    """Says once what cannot be reached at the start; the worker asks on all the same."""
    try:
        await peers.check()
    except BacklaneError as error:
        _say(f"{error.message} Asking on until it answers.")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
