"""The way from a command line to a served process and its exit code."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import structlog
from pydantic import ValidationError
from pydantic_settings import BaseSettings

from backlane import failpoints
from backlane.errors import BacklaneError
from backlane.rpc.exit_codes import ExitCode, StartupError
from backlane.rpc.log import configure_logging
from backlane.rpc.server import RpcServer
from backlane.rpc.settings import ServerSettings

SettingsT = TypeVar("SettingsT", bound=ServerSettings)

FAILPOINTS_VARIABLE = "BACKLANE_FAILPOINTS"
FAILPOINT_HITS_VARIABLE = "BACKLANE_FAILPOINT_HITS"

COLLECTOR_THRESHOLDS = (5_000, 20, 100)
"""Of the garbage collector. A thousand watches are some hundred thousand objects, of which none is
garbage: to look at them all stops the server for as long as it takes to serve them all."""

_log = structlog.get_logger(__name__)


def run(
    settings_factory: type[SettingsT],
    build: Callable[[SettingsT], RpcServer],
    arguments: Sequence[str] | None = None,
) -> int:
    """Reads the settings, serves until a signal, and returns the exit code of the process.

    `build` runs inside the event loop. The only argument is --help; all else is a setting.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given:
        asked = list(given) in (["--help"], ["-h"])
        (sys.stdout if asked else sys.stderr).write(usage(settings_factory))
        return ExitCode.OK if asked else ExitCode.SETTINGS
    try:
        settings = settings_factory()
    except ValidationError as error:
        sys.stderr.write(explain(error, settings_factory))
        return ExitCode.SETTINGS
    configure_logging(settings.log_level, settings.log_format)
    try:
        arm_failpoints(os.environ)
    except ValueError as error:
        _log.error("cannot start", reason=str(error))
        return ExitCode.SETTINGS
    return _serve(settings, build)


def arm_failpoints(environ: Mapping[str, str]) -> None:
    """Arms what BACKLANE_FAILPOINTS names, hits going to the file BACKLANE_FAILPOINT_HITS.

    For tests that make a real process fail at a place; says so in the log. Raises ValueError for a
    name that does not exist.
    """
    text = environ.get(FAILPOINTS_VARIABLE, "")
    hits_file = environ.get(FAILPOINT_HITS_VARIABLE)
    failpoints.arm(text, Path(hits_file) if hits_file else None)
    if text:
        _log.warning("failpoints are armed: this server fails on purpose", failpoints=text)


def _serve(settings: SettingsT, build: Callable[[SettingsT], RpcServer]) -> ExitCode:
    gc.set_threshold(*COLLECTOR_THRESHOLDS)

    async def serve() -> ExitCode:
        code = await build(settings).serve_until_signal()
        if code is ExitCode.FORCED:
            # A thread in the middle of something long would hold the interpreter back.
            sys.stderr.flush()
            os._exit(code)
        return code

    try:
        return asyncio.run(serve())
    except StartupError as error:
        _log.error("cannot start", reason=error.message, exit_code=int(error.exit_code))
        return error.exit_code
    except BacklaneError as error:
        _log.error("cannot start", reason=error.message, metadata=error.metadata)
        return ExitCode.CANNOT_START
    except Exception:  # noqa: BLE001 - the edge of the process
        _log.exception("unforeseen error")
        return ExitCode.INTERNAL


def explain(error: ValidationError, settings: type[BaseSettings]) -> str:
    """Returns one line per setting that is wrong, under the name it has in the environment."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = [f"{settings.__name__}: {error.error_count()} wrong; --help lists all settings.\n"]
    for item in error.errors():
        message = item["msg"].removeprefix("Value error, ")
        name = "__".join(str(part) for part in item["loc"])
        if name:
            lines.append(f"  {(prefix + name).upper()}={item['input']}: {message}\n")
        else:
            lines.append(f"  {message}\n")
    return "".join(lines)


def usage(settings: type[BaseSettings]) -> str:
    """Returns the help text: every setting with its default, and every exit code."""
    prefix = settings.model_config.get("env_prefix", "")
    lines = [f"{(settings.__doc__ or '').splitlines()[0]}\n", "\nSettings, from the environment:\n"]
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else field.get_default()
        description = " ".join((field.description or "").split())
        lines.append(f"  {(prefix + name).upper()} ({default})\n      {description}\n")
    lines.append("\nExit codes:\n")
    lines.extend(f"  {int(code):>3}  {code.help}\n" for code in ExitCode)
    return "".join(lines)
